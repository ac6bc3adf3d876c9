"""Batteries: their level, limits, prices and proof."""
