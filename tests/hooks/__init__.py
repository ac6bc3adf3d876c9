"""Tests of the hooks as Slurm runs them: real processes, whatever answers or does not."""
