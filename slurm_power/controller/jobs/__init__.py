"""Jobs: what they draw, used, cost and are expected to do."""
