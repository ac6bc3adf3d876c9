"""Beside powerctld: signals of the grid in, alerts out."""
