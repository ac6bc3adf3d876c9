"""Figures for docs/benchmarks.md, measured on a lab."""
