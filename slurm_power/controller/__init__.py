"""powerctld: sense, plan, act and record once a second, and answer nodes and users."""
