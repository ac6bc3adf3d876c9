"""`slurm-power simulate` and `backtest`: recorded series and jobs, replayed."""
