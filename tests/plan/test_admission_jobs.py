"""What running jobs have as licences against what they draw; the figure for a load that swings."""

from dataclasses import replace

import pytest

from slurm_power.model.action import Plan, SetCap
from slurm_power.model.expected_power import ExpectedPower
from slurm_power.model.job import Flex, Job, JobState
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.admission_jobs import (
    Correction,
    corrections,
    drawn_watts,
    full_watts,
    largest_waiting,
    lifts,
    other_watts,
    understated,
    waiting,
)
from slurm_power.plan.policy import Policy
from slurm_power.plan.steady import SteadyWatts
from tests.plan.situations import cap_lease, pending, running, site, situation

POLICY = Policy()
# 8 GPUs of 650 W, less idle, with their share of the host.
FULL_WATTS = 6_400
CAPPED_400_WATTS = 4_400


def scene(
    *,
    cap: float | None = None,
    gpu_watts: float = 650.0,
    since: float = 60.0,
    known: ExpectedPower | None = None,
) -> Snapshot:
    """One job of 8 GPUs on a site that draws 11.4 kW."""
    made = situation(
        of=site(with_ess=False),
        import_watts=11_400.0,
        jobs=(running("1", ("c1",)),),
        gpu_watts={"1": gpu_watts},
        caps={} if cap is None else {"1": cap_lease("1", cap, changed_seconds_ago=since)},
    )
    return made if known is None else replace(made, expected={"1": known})


def corrected(snapshot: Snapshot, licence: int, *, uncapping: tuple[str, ...] = ()) -> tuple[Correction, ...]:
    return corrections(
        snapshot,
        "grid",
        {"1": licence},
        POLICY,
        follow_seconds=30.0,
        quantum_watts=200,
        uncapping=frozenset(uncapping),
    )


def expected(mean_watts: float, own_seconds: float) -> ExpectedPower:
    return ExpectedPower(
        mean_watts=mean_watts, p95_watts=mean_watts, known_from="your jobs", jobs=3, own_seconds=own_seconds
    )


def test_what_licences_stand_for_is_no_other_load() -> None:
    assert other_watts(scene(), "grid", {"1": FULL_WATTS}, POLICY) == pytest.approx(5_000.0)


def test_what_a_job_draws_beyond_its_licence_is() -> None:
    assert other_watts(scene(), "grid", {"1": 4_000}, POLICY) == pytest.approx(7_400.0)


def test_what_it_draws_below_is_not_taken_off() -> None:
    """Its licence keeps the room; the load without one does not shrink for it."""
    drawn = drawn_watts(scene(gpu_watts=300.0), "grid", POLICY)["1"]
    assert 8 * 225 < drawn < FULL_WATTS
    found = other_watts(scene(gpu_watts=300.0), "grid", {"1": FULL_WATTS}, POLICY)
    assert found == pytest.approx(11_400.0 - drawn)


def test_jobs_without_a_licence_are_other_load() -> None:
    assert other_watts(scene(), "grid", {}, POLICY) == pytest.approx(11_400.0)


def test_a_load_that_nobody_sees() -> None:
    assert other_watts(replace(scene(), circuits={}), "grid", {}, POLICY) is None


@pytest.mark.parametrize(
    ("snapshot", "licence", "watts"),
    [
        (scene(), FULL_WATTS, None),
        (scene(cap=400.0), FULL_WATTS, CAPPED_400_WATTS),
        (scene(cap=400.0, since=5.0), FULL_WATTS, None),  # it may change again
        (scene(cap=640.0), FULL_WATTS, None),  # not worth a request
        (scene(cap=400.0), CAPPED_400_WATTS, None),
        (scene(), CAPPED_400_WATTS, FULL_WATTS),  # the cap is gone
        (scene(cap=500.0, since=5.0), CAPPED_400_WATTS, None),  # what the new cap leaves is not seen yet
        (scene(cap=500.0), CAPPED_400_WATTS, 8 * 650),
        (scene(known=expected(350.0, 120.0)), FULL_WATTS, 8 * 500),
        (scene(known=expected(350.0, 10.0)), FULL_WATTS, None),  # too young to tell
        (scene(known=expected(690.0, 10.0)), FULL_WATTS - 700, 8 * 840),  # but up at once
    ],
)
def test_corrections(snapshot: Snapshot, licence: int, watts: int | None) -> None:
    found = corrected(snapshot, licence)
    assert [one.watts for one in found] == ([] if watts is None else [watts])


def test_a_cap_that_is_about_to_go() -> None:
    (one,) = corrected(scene(cap=400.0), CAPPED_400_WATTS, uncapping=("1",))
    assert (one.watts, one.capped) == (FULL_WATTS, False)
    assert "about to go" in one.reason


def test_only_running_jobs_with_a_licence() -> None:
    assert corrections(scene(cap=400.0), "grid", {}, POLICY, follow_seconds=1.0, quantum_watts=1) == ()
    starting = situation(jobs=(running("1", ("c1",), state=JobState.STARTING),))
    assert corrections(starting, "grid", {"1": 1}, POLICY, follow_seconds=1.0, quantum_watts=1) == ()


def test_what_grows_comes_first_then_the_largest() -> None:
    jobs = tuple(running(str(number), (f"c{number}",)) for number in (1, 2, 3))
    caps = {"1": cap_lease("1", 500.0), "2": cap_lease("2", 300.0)}
    made = situation(jobs=jobs, caps=caps)
    licences = {"1": FULL_WATTS, "2": FULL_WATTS, "3": 1_000}
    found = corrections(made, "grid", licences, POLICY, follow_seconds=1.0, quantum_watts=1)
    assert [one.job_id for one in found] == ["3", "2", "1"]


def test_what_licences_understate_and_for_how_long() -> None:
    snapshot = scene(cap=400.0)
    licences = {"1": CAPPED_400_WATTS}
    full = full_watts(snapshot, "grid", licences, POLICY)
    assert full == {"1": FULL_WATTS}
    assert understated(snapshot, licences, full) == (2_000.0, float("inf"))
    limited = replace(snapshot, jobs=(replace(snapshot.jobs[0], time_limit_seconds=3_600.0),))
    assert understated(limited, licences, full) == (2_000.0, 3_000.0)
    assert understated(limited, {"1": FULL_WATTS}, full) == (0.0, 0.0)


def test_the_largest_that_waits_for_licences_and_has_waited_long_enough() -> None:
    def job(name: str, gpus: int, reason: str, waited: float) -> Job:
        return replace(
            pending(name, gpus, flex=Flex.FLEX1, submitted_seconds_ago=waited), pending_reason=reason
        )

    jobs = (
        job("1", 64, "Priority", 4_000.0),
        job("2", 32, "Licenses", 100.0),
        job("3", 16, "Licenses", 400.0),
        job("4", 8, "Licenses", 400.0),
    )
    assert largest_waiting(situation(jobs=jobs), POLICY, factor=1.5) == ("3", 16 * 800 * 1.5)
    assert largest_waiting(situation(), POLICY, factor=1.0) == ("", 0.0)
    assert largest_waiting(situation(jobs=jobs[:2]), POLICY, factor=1.0) == ("", 0.0)


def test_lifts_wait_and_nothing_else_does() -> None:
    snapshot = scene(cap=400.0)
    for watts, lifted in ((None, True), (500.0, True), (400.0, False), (300.0, False)):
        action = SetCap(job_id="1", cap_watts=watts, kind=LimitKind.SAFETY, reason="r")
        plan = Plan(actions=(action,))
        assert bool(lifts(plan, snapshot, frozenset({"1"}))) is lifted
        assert not lifts(plan, snapshot, frozenset({"2"}))
        (kept,) = waiting(plan, snapshot, frozenset({"1"})).actions
        assert isinstance(kept, SetCap)
        assert kept.cap_watts == (400.0 if lifted else watts)
        assert (kept.kind is LimitKind.ECONOMIC) is lifted, "renewed as the lease that it is"
    assert waiting(plan, snapshot, frozenset()) is plan


# --- a load that swings -------------------------------------------------------------------------------------


def test_it_stands_while_a_load_swings() -> None:
    steady = SteadyWatts(100.0)
    for second in range(40):
        steady.take(5_000.0 + (90.0 if second % 2 else -90.0), float(second))
    assert steady.watts == pytest.approx(5_000.0, abs=100.0)
    steady.take(50_000.0, 41.0)
    assert steady.watts == pytest.approx(5_000.0, abs=100.0), "one second is none"


def test_it_follows_up_soon_and_down_late() -> None:
    steady = SteadyWatts(100.0)
    for second in range(30):
        steady.take(5_000.0, float(second))
    for second in range(30, 50):
        steady.take(8_000.0, float(second))
    assert steady.watts == 8_000.0
    for second in range(50, 70):
        steady.take(5_000.0, float(second))
    assert steady.watts == 8_000.0
    for second in range(70, 90):
        steady.take(5_000.0, float(second))
    assert steady.watts == 5_000.0


def test_what_nobody_knows_stays_and_is_said_after_a_while() -> None:
    steady = SteadyWatts(100.0)
    lost = []
    for second in (0.0, 29.0, 30.0):
        steady.take(None, second)
        lost.append(steady.lost)
    assert lost == [False, False, True]
    for second in range(31, 40):
        steady.take(700.0, float(second))
    assert (steady.watts, steady.lost) == (700.0, False)
    steady.take(None, 60.0)
    assert (steady.watts, steady.lost) == (700.0, False)
    steady.take(None, 100.0)
    assert (steady.watts, steady.lost) == (700.0, True)
