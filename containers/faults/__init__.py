"""Fault trials: what is left of a cap, a setpoint or a ledger row when things break, many times over."""
