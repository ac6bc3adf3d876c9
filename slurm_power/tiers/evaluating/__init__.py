"""Evaluate a tier: quality with intervals, subgroups, speed, energy. Needs torch: the extra ``evaluation``."""
