"""The rounds of a signal: one after the other for ever, with what went wrong in one told, and waited for."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence

from slurm_power import clock
from slurm_power.bridge.bounded_http import AnswerError
from slurm_power.bridge.signal_state import SignalState
from slurm_power.powerctld_line import LineError

_BEAT_SECONDS = 20.0
# A VTN that is overloaded is obeyed, but not for so long that we sleep through its events.
MOST_EVENT_WAIT_SECONDS = 600.0
"""So long, at most, whoever tells of events or limits is left in peace where they ask for it."""


async def follow_vtn(
    round_: Callable[[], Awaitable[Sequence[str]]], state: SignalState, poll_seconds: Callable[[], float]
) -> None:
    """Talk with a VTN each ``poll_seconds``, later where it asks us to wait; raises only faults of ours."""
    while True:
        state.beat()
        asked_seconds = 0.0
        try:
            state.heard(await round_())
        except AnswerError as error:
            state.failed(str(error))
            asked_seconds = min(error.wait_seconds, MOST_EVENT_WAIT_SECONDS)
        except LineError as error:
            state.failed(str(error))
        if asked_seconds <= poll_seconds():
            await sleep_alive(poll_seconds(), state)
        else:
            await sleep_spread(asked_seconds, state)


async def sleep_spread(seconds: float, state: SignalState) -> None:
    """Sleep so long or up to a fifth longer, never shorter: many sites must not come back at once."""
    await sleep_alive(seconds * random.uniform(1.0, 1.2), state)  # noqa: S311  # spreads load, no secret


async def sleep_alive(seconds: float, state: SignalState) -> None:
    """Sleep, and say meanwhile that the task is alive."""
    ends_seconds = clock.monotonic() + seconds
    while (left_seconds := ends_seconds - clock.monotonic()) > 0.0:
        state.beat()
        await asyncio.sleep(min(left_seconds, _BEAT_SECONDS))
