"""Import limits on a JSON page into grid events: each row is one, for its time."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from slurm_power import clock
from slurm_power.bridge.bounded_http import AnswerError
from slurm_power.bridge.event_book import Ask, EventBook
from slurm_power.bridge.grid_events import Level, Price, Window, timing_problem
from slurm_power.bridge.http_doubts import RowDoubtError, RowDoubts
from slurm_power.bridge.http_feed import FeedFileError, HttpFeedReader, poll
from slurm_power.bridge.http_rows import PageError
from slurm_power.bridge.known_events import told_before
from slurm_power.bridge.signal_state import SignalState
from slurm_power.config.http_signals import HttpLimitsSignal
from slurm_power.model.site import Circuit


async def run_http_limits(
    signal: HttpLimitsSignal, circuit: Circuit, ask: Ask, state: SignalState, *, folder: Path
) -> None:
    """Follow one page for ever; raises only what is a fault of ours."""
    limits = HttpLimits(signal, circuit, ask, folder=folder)
    await poll(signal, state, limits.round)


class HttpLimits:
    """What one page asks for, and what of it stands at powerctld."""

    def __init__(self, signal: HttpLimitsSignal, circuit: Circuit, ask: Ask, *, folder: Path) -> None:
        # What cannot be meant is left out while it is read, so that what stood before it stands.
        most_value = min(signal.most_value, circuit.rating_watts / signal.factor)
        self._signal = replace(signal, most_value=most_value)
        self._circuit = circuit
        self._ask = ask
        self._reader = HttpFeedReader(self._signal, folder=folder)
        self._book = EventBook(self._signal, circuit, ask)
        self._asked_powerctld = False

    async def round(self) -> list[str]:
        """Read the page, have powerctld follow it; returns what is doubtful.

        Raises AnswerError, PageError where nothing new was read, LineError where powerctld does not answer;
        what is known of limits is told again all the same.
        """
        doubts: list[str] = []
        fault: AnswerError | PageError | FeedFileError | None = None
        try:
            doubts = await self._reader.round()
        except (AnswerError, PageError, FeedFileError) as error:
            fault = error
        if not self._asked_powerctld:
            self._book.known = await told_before(self._ask, self._signal.name) | self._book.known
            self._asked_powerctld = True
        windows, odd = windows_of(self._reader.known, self._signal, self._circuit, clock.now())
        followed = await self._book.follow(windows)
        if fault is not None:
            raise fault
        doubts += odd + [f"limit {key}: {why}" for key, why in followed.refused.items()]
        if followed.withdrawn:
            doubts.append(f"{len(followed.withdrawn)} of its limits were ended by an operator here")
        return doubts


def windows_of(
    limits: Sequence[Price], signal: HttpLimitsSignal, circuit: Circuit, now: datetime
) -> tuple[list[Window], list[str]]:
    """Each limit that is not over as an event, named by its begin, so that it is the same after a restart."""
    found: list[Window] = []
    doubts = RowDoubts()
    ahead = [one for one in limits if one.ends_at > now]
    starts = {one.starts_at for one in ahead}
    for one in ahead:
        level = Level(limit_watts=one.value)
        problem = level.problem(circuit) or timing_problem(
            one.starts_at, one.ends_at, now, signal.longest_event_hours
        )
        name = f"{one.starts_at.astimezone(UTC):%Y%m%dT%H%M%SZ}"
        if problem:
            doubts.add(RowDoubtError(problem, name))
            continue
        window = Window(
            event_id=name,
            part="0",
            version=f"{one.value} {one.ends_at.timestamp()}",
            starts_at=one.starts_at,
            ends_at=one.ends_at,
            level=level,
            reason=f"import limit of {signal.name}",
            joined=one.ends_at in starts,
        )
        found.append(window)
    return found, doubts.said()
