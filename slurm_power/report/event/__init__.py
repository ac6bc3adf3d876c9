"""A grid event, for the utility."""
