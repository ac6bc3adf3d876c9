"""Reports: what was drawn, what was done about it, and what it cost whom."""
