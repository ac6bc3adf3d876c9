"""Energy of jobs, users and accounts, up to the meter."""
