"""A power-aware layer for Slurm: sense, forecast, plan, act, record."""

__version__ = "0.1.0.dev0"
