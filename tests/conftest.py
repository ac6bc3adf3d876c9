"""Fixtures that several folders share, and how far hypothesis goes in every run."""

from hypothesis import settings

pytest_plugins = ["tests.cluster.lab"]

# A slow machine or coverage's tracing is no failure; how long things take is for the benchmarks.
settings.register_profile("checks", deadline=None)
settings.load_profile("checks")
