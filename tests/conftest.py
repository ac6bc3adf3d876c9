"""Fixtures that several folders share, how far hypothesis goes, and signals as they should be."""

import signal

from hypothesis import settings

# Whoever starts the tests in the background may have had these ignored, and every child would inherit that.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)

pytest_plugins = ["tests.cluster.lab"]

# A slow machine or coverage's tracing is no failure; how long things take is for the benchmarks.
settings.register_profile("checks", deadline=None)
settings.load_profile("checks")
