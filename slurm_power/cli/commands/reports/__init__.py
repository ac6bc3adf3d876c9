"""`slurm-power report` and `export`."""
