"""The forecast worker: a process of its own that learns loads and says what comes.

It reads what powerctld tells it on stdin, and the stored series once at its start; it answers on stdout. It
has no clock: all time is what it is told.
"""
