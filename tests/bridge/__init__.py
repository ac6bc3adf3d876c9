"""The bridge: signals of the grid, and alerts."""
