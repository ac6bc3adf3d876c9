"""powerweb: the dashboard and the HTTP interface, a process of its own beside powerctld."""
