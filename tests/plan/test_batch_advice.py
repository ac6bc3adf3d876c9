"""Advice on micro-batches: by the job's own words only, cheaper than a cap, and the global batch kept."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power.model.action import AdviseBatch, Plan, SetCap
from slurm_power.model.job import Flex, Job, JobState, Workload
from slurm_power.model.job_curve import BatchPoint, JobCurve
from slurm_power.model.progress import JobProgress
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import PauseLease, Snapshot
from slurm_power.plan.planner import guard_cycle, plan_cycle
from slurm_power.plan.policy import Policy
from tests.plan.situations import cap_lease, running, site, situation

POLICY = Policy()
WORD = JobProgress(
    step=100, samples_per_second=100.0, age_seconds=2.0, global_batch=256, micro_batch=64, max_micro_batch=64
)


def batches(*points: tuple[int, float, float]) -> JobCurve:
    return JobCurve(
        batches=tuple(
            BatchPoint(micro_batch=size, gpu_watts=watts, samples_per_second=rate, count=8)
            for size, watts, rate in points
        )
    )


# Half the batch takes a tenth of the power for 2 % of the speed; a quarter of it hardly works.
CHEAP = batches((16, 480.0, 70.0), (32, 540.0, 98.0), (64, 600.0, 100.0))


def short(
    job: Job | None = None,
    *,
    curve: JobCurve = CHEAP,
    progress: JobProgress = WORD,
    limit_watts: float = 5_400.0,
    gpu_watts: float = 600.0,
    **more: object,
) -> Snapshot:
    """One training on 8 GPUs of a site that draws 5.8 kW and may draw ``limit_watts``."""
    what = running("1", ("c1",), flex=Flex.FLEX2) if job is None else job
    load = 1_000.0 + 8 * gpu_watts
    seen = situation(
        of=site(grid_limit_watts=limit_watts, with_ess=False),
        import_watts=load,
        rack_watts=(load - 500.0, 0.0),
        jobs=(what,),
        gpu_watts={"1": gpu_watts},
        lasting_watts={"grid": load, "rack1": load - 500.0},
    )
    words: dict[str, object] = {"learned": {"1": curve}, "progress": {"1": progress}}
    return replace(seen, **{**words, **more})  # type: ignore[arg-type]  # fields of the snapshot


def planned(snapshot: Snapshot) -> Plan:
    return plan_cycle(snapshot, POLICY, hold_seconds=60.0)


def advised(plan: Plan) -> list[tuple[str, int | None]]:
    return [(one.job_id, one.micro_batch) for one in plan.actions if isinstance(one, AdviseBatch)]


def test_a_smaller_batch_where_it_is_cheaper_than_a_cap() -> None:
    (advice,) = [one for one in planned(short()).actions if isinstance(one, AdviseBatch)]
    assert (advice.job_id, advice.micro_batch, advice.kind) == ("1", 32, LimitKind.ECONOMIC)
    assert advice.saved_watts == pytest.approx(8 * 60.0)
    assert advice.slowdown_ratio == pytest.approx(0.02)
    assert "by its own words micro-batches of 32 draw 60 W a GPU less, 2% slower" in advice.reason
    assert advised(guard_cycle(short(), POLICY)) == []


@pytest.mark.parametrize(
    "curve",
    [
        JobCurve(),
        batches((64, 600.0, 100.0)),
        batches((32, 590.0, 98.0), (64, 600.0, 100.0)),
        batches((32, 620.0, 98.0), (64, 600.0, 100.0)),
        batches((32, 540.0, 80.0), (64, 600.0, 100.0)),
        batches((32, 540.0, 60.0), (64, 600.0, 100.0)),
        batches((48, 540.0, 98.0), (64, 600.0, 100.0)),
    ],
    ids=[
        "nothing known",
        "never ran smaller",
        "saves no more than noise",
        "draws more",
        "dearer than a cap",
        "slower than promised",
        "no divisor of the global batch",
    ],
)
def test_what_is_never_advised(curve: JobCurve) -> None:
    assert advised(planned(short(curve=curve))) == []


@pytest.mark.parametrize(
    ("job", "progress"),
    [
        (running("1", ("c1",), flex=Flex.FLEX0), WORD),
        (running("1", ("c1",), flex=Flex.FLEX2, workload=Workload.INFERENCE), WORD),
        (running("1", ("c1",), flex=Flex.FLEX2, state=JobState.SUSPENDED), WORD),
        (None, replace(WORD, age_seconds=61.0)),
        (None, replace(WORD, max_micro_batch=None)),
        (None, replace(WORD, global_batch=None)),
        (None, replace(WORD, max_micro_batch=16, micro_batch=16)),
    ],
    ids=["flex0", "no training", "stopped", "silent", "cannot change", "no global batch", "smaller already"],
)
def test_who_is_never_advised(job: Job | None, progress: JobProgress) -> None:
    assert advised(planned(short(job, progress=progress))) == []


def test_nothing_is_advised_where_there_is_room_or_its_node_is_yielded() -> None:
    assert advised(planned(short(limit_watts=8_000.0))) == []
    assert advised(planned(short(yielded_nodes=frozenset({"c1"})))) == []
    paused = {"1": PauseLease(job_id="1", kind=LimitKind.ECONOMIC, drawn_watts=600.0, paused_seconds=5.0)}
    assert advised(planned(short(pauses=paused))) == []


def test_both_levers_together_keep_the_promise() -> None:
    """A flex1 job stands under a cap that takes nearly all of it: nothing is left for a smaller batch."""
    job = running("1", ("c1",), flex=Flex.FLEX1)
    under_cap = short(job, caps={"1": cap_lease("1", 525.0, uncapped_watts=600.0)}, gpu_watts=525.0)
    assert advised(planned(replace(under_cap))) == []


def standing(limit_watts: float, *, stands: float = 90.0, **more: object) -> Snapshot:
    words: dict[str, object] = {"micro_batches": {"1": 32}, "advised_seconds": {"1": stands}}
    word = replace(WORD, micro_batch=32)
    seen = short(limit_watts=limit_watts, gpu_watts=540.0, progress=word)
    return replace(seen, **{**words, **more})  # type: ignore[arg-type]  # fields of the snapshot


def test_advice_stands_until_there_is_room_for_the_whole_draw() -> None:
    assert advised(planned(standing(5_600.0))) == [("1", 32)]
    assert advised(guard_cycle(standing(9_000.0), POLICY)) == [("1", 32)]
    assert advised(planned(standing(9_000.0))) == [("1", None)]
    assert advised(planned(standing(9_000.0, stands=30.0))) == [("1", 32)]


def test_advice_ends_where_it_makes_no_sense_any_more() -> None:
    seen = standing(5_600.0)
    odd = {"1": replace(WORD, global_batch=250, micro_batch=32)}
    slow = {"1": batches((32, 540.0, 60.0), (64, 600.0, 100.0))}
    for ended in (
        replace(seen, progress={}),
        replace(seen, progress=odd),
        replace(seen, jobs=()),
        replace(seen, learned=slow),
    ):
        assert advised(planned(ended)) == [("1", None)]


def test_a_cap_beside_advice_takes_no_more_than_is_left_of_the_promise() -> None:
    dear = batches((32, 540.0, 85.0), (64, 600.0, 100.0))
    seen = standing(3_000.0, learned={"1": dear})
    (cap,) = [one for one in planned(seen).actions if isinstance(one, SetCap)]
    assert 1.0 - (1.0 - 0.15) * (1.0 - cap.slowdown_ratio) <= 0.25 + 1e-6


@given(
    st.lists(
        st.tuples(st.integers(1, 256), st.floats(100.0, 700.0), st.floats(1.0, 200.0)),
        min_size=1,
        max_size=8,
        unique_by=lambda point: point[0],
    ),
    st.integers(1, 4096),
    st.sampled_from(list(Flex)),
    st.floats(2_000.0, 9_000.0),
)
def test_whatever_a_job_has_told_the_global_batch_and_the_promise_are_kept(
    points: list[tuple[int, float, float]], global_batch: int, flex: Flex, limit_watts: float
) -> None:
    curve = batches(*sorted(points))
    largest = curve.batches[-1]
    seen = short(
        running("1", ("c1",), flex=flex),
        curve=curve,
        progress=replace(
            WORD,
            global_batch=global_batch,
            micro_batch=largest.micro_batch,
            max_micro_batch=largest.micro_batch,
        ),
        limit_watts=limit_watts,
        gpu_watts=largest.gpu_watts,
    )
    plan = planned(seen)
    assert planned(seen) == plan
    caps = {one.job_id: one.slowdown_ratio for one in plan.actions if isinstance(one, SetCap)}
    for one in plan.actions:
        if isinstance(one, AdviseBatch) and one.micro_batch is not None:
            assert global_batch % one.micro_batch == 0
            assert one.micro_batch < largest.micro_batch
            both = 1.0 - (1.0 - one.slowdown_ratio) * (1.0 - caps.get("1", 0.0))
            assert both <= flex.max_slowdown_ratio + 1e-6
