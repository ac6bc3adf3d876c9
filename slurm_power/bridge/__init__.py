"""powerbridge: what the grid says comes in here, reports go out; a process of its own beside powerctld."""
