"""Limits as licence windows: never less than needed, nested, exact for one dip; and the moves to them."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power.model.admission import LaidWindow, LicenceWindow
from slurm_power.model.grid_event import Commitment
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import LimitEvent, Snapshot
from slurm_power.plan.admission import (
    FILL_SECONDS,
    Budget,
    Need,
    lessened,
    needs,
    rounded,
    safety_watts,
    windows,
)
from slurm_power.plan.admission_moves import moves
from slurm_power.plan.policy import Policy
from tests.plan.situations import site, situation

POLICY = Policy()
NOW = 1_000_000.0
TOTAL = 95_000


def event(
    starts: float,
    ends: float,
    watts: float,
    *,
    recover: float = 0.0,
    ramp: float = 0.0,
    event_id: str = "ev-1",
) -> LimitEvent:
    return LimitEvent(
        event_id=event_id,
        circuit="grid",
        limit_watts=watts,
        starts_in_seconds=starts,
        ends_in_seconds=ends,
        reason="the grid is short",
        commitment=Commitment.MUST,
        ramp_seconds=ramp,
        recover_seconds=recover,
    )


def free_site(*events: LimitEvent) -> Snapshot:
    """A site without a contract: its rating is 100 kW."""
    return situation(of=site(grid_limit_watts=100_000.0), events=events)


def budget(snapshot: Snapshot, *, other: float = 5_000.0, lease: float = 600.0, **more: float) -> Budget:
    return Budget(
        circuit=snapshot.site.circuits["grid"],
        total_watts=TOTAL,
        other_watts=other,
        lease_seconds=lease,
        **more,
    )


def laid_for(snapshot: Snapshot, **more: Any) -> tuple[LicenceWindow, ...]:
    return windows(needs(snapshot, budget(snapshot, **more), POLICY), now=NOW)


def test_nothing_is_kept_where_nothing_is_limited() -> None:
    assert laid_for(free_site()) == ()


def test_a_contract_is_leased() -> None:
    """30 kW allowed with 2 % margin, 5 kW drawn by others: 24.4 kW for jobs."""
    (window,) = laid_for(situation())
    assert window == LicenceWindow(
        start=1_000_000,
        end=1_000_600,
        watts=TOTAL - 24_400,
        reason="grid limited to 30.0 kW",
        open_end=True,
    )


def test_an_event_ends_when_it_ends() -> None:
    (window,) = laid_for(free_site(event(900.0, 4500.0, 40_000.0)))
    assert (window.start, window.end, window.open_end) == (1_000_900, 1_004_500, False)
    assert window.watts == TOTAL - (39_600 - 5_000)
    assert "the grid is short" in window.reason


def test_an_event_below_the_contract_lies_on_it() -> None:
    """A job that spans both must be charged with the deeper one, and not with both."""
    base, more = laid_for(situation(events=(event(3600.0, 7200.0, 20_000.0),)))
    assert (base.start, base.end, base.watts) == (1_000_000, 1_007_200, TOTAL - 24_400)
    assert (more.start, more.end) == (1_003_600, 1_007_200)
    assert base.watts + more.watts == TOTAL - (19_800 - 5_000)


def test_a_recovery_rises_in_steps() -> None:
    found = laid_for(free_site(event(0.0, 600.0, 40_000.0, recover=400.0)))
    assert [window.end - 1_000_000 for window in found] == [1000, 900, 800, 700][: len(found)]
    assert sum(window.watts for window in found) == TOTAL - (39_600 - 5_000)


def test_a_ramp_counts_as_the_level_it_leads_to() -> None:
    (window,) = laid_for(free_site(event(900.0, 1800.0, 40_000.0, ramp=300.0)))[-1:]
    assert (
        min(one.start for one in laid_for(free_site(event(900.0, 1800.0, 40_000.0, ramp=300.0)))) == 1_000_600
    )
    assert window.end == 1_001_800


def test_events_of_other_circuits_do_not_count() -> None:
    rack = replace(event(0.0, 600.0, 1_000.0), circuit="rack1")
    assert laid_for(free_site(rack)) == ()


def test_other_load_above_what_stands_is_kept_free() -> None:
    (window,) = laid_for(free_site(), other=12_000.0)
    assert window.watts == TOTAL - (100_000 - 12_000)
    assert "drawn without a licence" in window.reason


def test_what_has_no_end_leaves_room_for_the_largest() -> None:
    """30 kW never fit under a contract of 24.4 kW for jobs: in the end such a job may start all the same."""
    (window,) = laid_for(situation(), largest_watts=30_000.0)
    assert window.watts == TOTAL - 30_000
    (event_window,) = laid_for(free_site(event(0.0, 900.0, 20_000.0)), largest_watts=30_000.0)
    assert event_window.watts == TOTAL - (19_800 - 5_000), "an event ends: the job waits"
    assert laid_for(free_site(), other=12_000.0, largest_watts=95_000.0), "a breaker's budget stays"


def test_batteries_carry_their_part_of_an_event() -> None:
    (window,) = laid_for(free_site(event(0.0, 900.0, 20_000.0)), ess_watts=4_000.0)
    assert window.watts == TOTAL - (19_800 + 4_000 - 5_000)


def test_a_safety_limit_is_the_rating() -> None:
    grid = site(grid_limit_watts=80_000.0, grid_kind=LimitKind.SAFETY).circuits["grid"]
    assert safety_watts(grid) == 80_000.0
    assert safety_watts(site(grid_limit_watts=80_000.0).circuits["grid"]) == 100_000.0


def test_what_caps_free_is_never_taken_from_the_breakers_budget() -> None:
    """Running jobs' licences are 8 kW low: room for what an event leaves, not for what comes after it."""
    low = {"understated_watts": 8_000.0, "understated_seconds": 3_000.0}
    base, more = laid_for(free_site(event(0.0, 900.0, 40_000.0)), **low)
    assert (base.end - 1_000_000, base.watts, base.open_end) == (3_000, 8_000, False)
    assert (more.end - 1_000_000, base.watts + more.watts) == (900, TOTAL - 34_600)
    (alone,) = laid_for(free_site(), **low)
    assert (alone.end - 1_000_000, alone.watts) == (3_000, 8_000)
    contract = laid_for(situation(), **low)
    assert [(one.end - 1_000_000, one.open_end) for one in contract] == [(3_000, False), (600, True)]
    (forever,) = laid_for(free_site(), understated_watts=8_000.0, understated_seconds=float("inf"))
    assert forever.open_end


def test_the_supplys_limit_moves_on() -> None:
    """It is known for a day ahead: its end tomorrow is none that windows have to follow each second."""
    supply = replace(event(0.0, 86_400.0, 40_000.0, event_id="supply-1"), commitment=Commitment.LIMIT)
    (window,) = laid_for(free_site(supply))
    assert window.open_end
    (window,) = laid_for(free_site(replace(supply, ends_in_seconds=7_200.0)))
    assert not window.open_end


def test_others_reservations_are_left_room() -> None:
    steps = (Need(start=0.0, end=100.0, watts=60.0),)
    found, short = lessened(steps, [Need(start=50.0, end=200.0, watts=70.0)], 100.0)
    assert [(step.start, step.end, step.watts) for step in found] == [(0.0, 50.0, 60.0), (50.0, 100.0, 30.0)]
    assert short == 30.0
    assert lessened((), [], 100.0) == ((), 0.0)


# --- nesting --------------------------------------------------------------------------------------------


@st.composite
def profiles(draw: st.DrawFn) -> tuple[Need, ...]:
    """Contiguous steps of whole minutes."""
    rows = draw(st.lists(st.tuples(st.integers(1, 90), st.integers(0, 40)), min_size=1, max_size=12))
    found, at = [], 0.0
    for minutes, watts in rows:
        found.append(Need(start=at, end=at + 60.0 * minutes, watts=1000.0 * watts))
        at = found[-1].end
    return tuple(found)


def sum_over(found: tuple[LicenceWindow, ...], start: float, end: float) -> int:
    """What Slurm charges a job that runs in [start, end)."""
    return sum(window.watts for window in found if window.start < end and window.end > start)


@given(profiles(), st.integers(1, 3000), st.integers(1, 24))
def test_never_less_than_needed(steps: tuple[Need, ...], quantum: int, most: int) -> None:
    steps = tuple(rounded(steps, quantum, 40_000.0))
    assert all(step.watts <= 40_000.0 for step in steps)
    found = windows(steps, now=NOW, most=most)
    assert len(found) <= most
    for step in steps:
        assert sum_over(found, NOW + step.start, NOW + step.end) >= step.watts
        middle = NOW + (step.start + step.end) / 2
        assert sum_over(found, middle, middle + 0.5) >= step.watts


@given(profiles())
def test_windows_are_nested_or_apart(steps: tuple[Need, ...]) -> None:
    found = windows(steps, now=NOW)
    for one in found:
        for other in found:
            apart = one.end <= other.start or other.end <= one.start
            nested = (one.start <= other.start and other.end <= one.end) or (
                other.start <= one.start and one.end <= other.end
            )
            assert apart or nested


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6, unique=True), st.data())
def test_one_dip_is_exact(heights: list[int], data: st.DataObject) -> None:
    """Steps up, then steps down: whatever span a job has, it is charged with the highest need in it."""
    up = sorted(heights)
    shape = [*up, *reversed(up[:-1])]
    steps = tuple(
        Need(start=60.0 * place, end=60.0 * place + 60.0, watts=1000.0 * height)
        for place, height in enumerate(shape)
    )
    found = windows(steps, now=NOW)
    start = data.draw(st.integers(0, 60 * len(shape) - 1))
    end = data.draw(st.integers(start + 1, 60 * len(shape)))
    highest = max(step.watts for step in steps if step.start < end and step.end > start)
    assert sum_over(found, NOW + start, NOW + end) == highest
    assert len(found) <= len(up)


def test_a_short_valley_is_filled_a_long_one_is_not() -> None:
    def dips(apart: float) -> tuple[Need, ...]:
        edges = (0.0, 600.0, 600.0 + apart, 1200.0 + apart)
        return tuple(
            Need(start=start, end=end, watts=watts)
            for start, end, watts in zip(edges, edges[1:], (40.0, 0.0, 30.0), strict=False)
        )

    short = windows(dips(FILL_SECONDS - 60.0), now=NOW)
    assert sum_over(short, NOW, NOW + 1e6) == 40
    long = windows(dips(FILL_SECONDS + 60.0), now=NOW)
    assert sum_over(long, NOW, NOW + 1e6) == 70
    assert sum_over(long, NOW + 700.0, NOW + 800.0) == 0


# --- moves ----------------------------------------------------------------------------------------------


def laid(window: LicenceWindow, name: str = "slurmpower_1") -> LaidWindow:
    return LaidWindow(
        name=name, start=window.start, end=window.end, licences={"watts": window.watts}, ours=True
    )


def window(start: int, end: int, watts: int, *, open_end: bool = False) -> LicenceWindow:
    return LicenceWindow(start=start, end=end, watts=watts, open_end=open_end)


@given(profiles(), profiles())
def test_moves_lead_there_and_stop(before: tuple[Need, ...], after: tuple[Need, ...]) -> None:
    there = [laid(one, f"slurmpower_{n}") for n, one in enumerate(windows(before, now=NOW))]
    wanted = windows(after, now=NOW)
    names = {one.name: one for one in there}
    for number, move in enumerate(moves(wanted, there, licence="watts", now=NOW)):
        if move.laid is not None:
            del names[move.laid.name]
        if move.wanted is not None:
            name = f"slurmpower_new{number}" if move.laid is None else move.laid.name
            names[name] = laid(move.wanted, name)
    # A window that runs keeps the start it had.
    assert sorted((one.end, one.licences["watts"]) for one in names.values()) == sorted(
        (one.end, one.watts) for one in wanted
    )
    assert moves(wanted, list(names.values()), licence="watts", now=NOW) == ()


def test_what_grows_comes_first() -> None:
    there = [laid(window(1_000_100, 1_000_200, 30))]
    found = moves([window(1_000_300, 1_000_400, 50)], there, licence="watts", now=NOW)
    assert [move.grows for move in found] == [True]
    found = moves([window(999_000, 1_000_400, 50)], there, licence="watts", now=NOW)
    assert [(move.grows, move.wanted is None) for move in found] == [(True, False), (False, True)]


@pytest.mark.parametrize(("left", "renewed"), [(590, False), (400, False), (350, True), (10, True)])
def test_a_lease_is_renewed_in_time(left: int, renewed: bool) -> None:
    there = [laid(window(999_000, 1_000_000 + left, 50))]
    found = moves([window(1_000_000, 1_000_600, 50, open_end=True)], there, licence="watts", now=NOW)
    assert bool(found) is renewed
    assert all(move.renewal for move in found)


def test_an_end_that_was_too_far_off_is_brought_back() -> None:
    there = [laid(window(999_000, 1_090_000, 50))]
    assert moves([window(1_000_000, 1_000_600, 50, open_end=True)], there, licence="watts", now=NOW)
    assert moves(
        [window(1_000_000, 1_000_500, 50)], [laid(window(999_000, 1_000_510, 50))], licence="watts", now=NOW
    )
