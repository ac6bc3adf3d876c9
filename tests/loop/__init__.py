"""The whole closed loop: real Slurm, simulated plant, our daemons, independent clients."""
