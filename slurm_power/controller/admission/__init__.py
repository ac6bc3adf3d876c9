"""Slurm's own scheduler keeps the budget: licences and windows."""
