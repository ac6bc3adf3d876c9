"""The test bed: a real Slurm, a simulated plant, and images of both. No part of the installed package."""
