"""Evaluate a tier: quality with intervals, subgroups, speed, energy. Needs the extra ``evaluation``."""
