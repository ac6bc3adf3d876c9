"""Fixtures that several folders share, how far hypothesis goes, and signals as they should be."""

import os
import signal

from hypothesis import settings

# Whoever starts the tests in the background may have had these ignored, and every child would inherit that.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)

pytest_plugins = ["tests.cluster.lab"]

# A slow machine or coverage's tracing is no failure; how long things take is for the benchmarks. A change is
# judged by the same examples each time (docs/decisions/0089); make check-all looks for new ones.
settings.register_profile("checks", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=500, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "checks"))
