"""What the site tells: nodes, meters, the workload manager and signals, and how far each can be trusted."""
