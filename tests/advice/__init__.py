"""Tests of slurm_power.advice."""
