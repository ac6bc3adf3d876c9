"""Shadow mode's own sums: what was wished for, by job and by hour, and what that costs the ledger."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from slurm_power.controller.levers.shadow import HOUR_KIND, JOB_KIND, ShadowBook, ShadowNews
from slurm_power.model.action import Action, HoldJob, PauseJob, ReleaseJob, SetCap, SetDischarge
from slurm_power.model.job import Job
from slurm_power.model.ledger import LedgerEntry
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.loads import job_loads
from slurm_power.plan.policy import Policy
from slurm_power.store.sqlite import SqliteStore
from tests.plan.situations import AT, ess_reading, pending, running, situation

CAP = SetCap(
    job_id="1",
    cap_watts=550.0,
    kind=LimitKind.ECONOMIC,
    reason="tight",
    saved_watts=800.0,
    slowdown_ratio=0.1,
)
HOLD = HoldJob(job_id="7", seconds=60.0, reason="no room", saved_watts=4000.0)
DISCHARGE = SetDischarge(ess="battery", discharge_watts=3000.0, reason="above")
JOB, WAITING = running("1", ("c1",)), pending("7", 8)


class Bench:
    def __init__(self, file: Path) -> None:
        self.store = SqliteStore(file)
        self.book = ShadowBook(self.store, self._note)

    def _note(self, at: Any, actor: str, kind: str, subject: str, reason: str, **more: Any) -> None:
        self.store.append(LedgerEntry(at=at, actor=actor, kind=kind, subject=subject, reason=reason, **more))

    def again(self) -> None:
        """As after a restart."""
        self.book = ShadowBook(self.store, self._note)

    def cycle(
        self, seconds: float, actions: Sequence[Action], *jobs: Job, shadow: bool = True, step: float = 1.0
    ) -> Snapshot:
        snapshot = replace(situation(jobs=jobs), at=AT + timedelta(seconds=seconds))
        snapshot = replace(snapshot, ess={"battery": ess_reading()})
        self.book.observe(actions, snapshot, job_loads(snapshot, Policy()), step, shadow=shadow)
        return snapshot

    def written(self, kind: str) -> list[LedgerEntry]:
        return [entry for entry in self.store.entries() if entry.kind == kind]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "s.sqlite")
    yield made
    made.store.close()


def test_a_wish_is_news_first_and_when_it_has_doubled() -> None:
    news = ShadowNews()
    told = [news.is_new(replace(CAP, saved_watts=float(watts))) for watts in range(0, 50_000, 50)]
    assert told[0] and told[1:3] == [False, True]  # 0, 50 and 100 W
    assert sum(told) <= 11
    assert not news.is_new(CAP) and news.is_new(HOLD)
    news.keep(["7"])
    assert news.is_new(CAP) and not news.is_new(HOLD)


def test_each_second_is_worth_what_would_have_been_taken_in_it(bench: Bench) -> None:
    bench.cycle(0, [CAP, HOLD, DISCHARGE], JOB, WAITING)
    # Eight GPUs at 650 W, brought to 550 W.
    values = bench.book.values
    assert values["shadow.withheld_watts"] == pytest.approx(800.0)
    assert (values["shadow.held_watts"], values["shadow.discharge_watts"]) == (4000.0, 3000.0)
    # The rack sees the cap, but not a battery that hangs at the grid connection.
    assert values["shadow.rack1.relief_watts"] == pytest.approx(800.0)
    assert "shadow.grid.relief_watts" not in values
    bench.cycle(1, [], JOB, WAITING)
    assert set(bench.book.values.values()) == {0.0}


def test_levers_on_one_job_take_no_more_than_it_draws(bench: Bench) -> None:
    pause = PauseJob(
        job_id="1", kind=LimitKind.ECONOMIC, drawn_watts=650.0, reason="still short", saved_watts=5000.0
    )
    bench.cycle(0, [CAP, pause], JOB)
    assert bench.book.values["shadow.withheld_watts"] == pytest.approx(8 * 650.0)


def test_a_jobs_wishes_become_one_entry_when_it_is_gone(bench: Bench) -> None:
    for tick in range(10):
        bench.cycle(
            tick, [CAP, HOLD] if tick < 4 else [CAP, ReleaseJob(job_id="7", reason="x")], JOB, WAITING
        )
    assert bench.written(JOB_KIND) == []
    bench.cycle(10, [], WAITING)
    bench.cycle(11, [])
    first, second = bench.written(JOB_KIND)
    assert (first.job_id, first.user, second.job_id, second.user) == ("1", "alice", "7", "bob")
    assert first.details["capped_seconds"] == 10.0
    assert first.details["slowed_seconds"] == pytest.approx(1.0)
    assert first.details["withheld_joules"] == pytest.approx(8000.0)
    assert (second.details["held_seconds"], second.details["capped_seconds"]) == (4.0, 0.0)
    assert "held for 4 s" in second.reason


def test_an_hour_becomes_one_entry_without_names(bench: Bench) -> None:
    # 03:04:05 to 04:04:05, once a second in the model of a cycle of ten.
    for ten in range(361):
        bench.cycle(10.0 * ten, [CAP] if ten < 6 else [], JOB, step=10.0)
    (hour,) = bench.written(HOUR_KIND)
    assert (hour.job_id, hour.user) == (None, None)
    assert hour.details["kinds"] == {
        "cap": {"seconds": 60.0, "joules": 48_000.0, "most_watts": 800.0, "jobs": 1}
    }
    assert "alice" not in str(hour)
    assert hour.details["batteries"] == {
        "battery": {"soc_ratio": 0.6, "energy_rating_kwh": 10.0, "reserve_soc_ratio": 0.2}
    }


def test_a_restart_goes_on_and_control_closes(bench: Bench) -> None:
    bench.cycle(0, [CAP], JOB)
    bench.book.keep_sums()
    bench.again()
    bench.cycle(1, [CAP], JOB)
    bench.cycle(2, [CAP], JOB, shadow=False)
    bench.cycle(3, [CAP], JOB, shadow=False)
    (job,) = bench.written(JOB_KIND)
    (hour,) = bench.written(HOUR_KIND)
    assert (job.details["capped_seconds"], hour.details["seconds"]) == (2.0, 2.0)
    assert bench.book.values == {}
    bench.again()
    bench.cycle(4, [], JOB, shadow=False)
    assert len(bench.written(JOB_KIND)) == 1


def test_jobs_are_not_gone_while_slurm_has_not_answered(bench: Bench) -> None:
    bench.cycle(0, [CAP], JOB)
    bench.book.keep_sums()
    bench.again()
    snapshot = replace(situation(jobs=()), at=AT + timedelta(seconds=1), jobs_age_seconds=None)
    bench.book.observe([], snapshot, (), 1.0, shadow=True)
    assert bench.written(JOB_KIND) == []


def test_what_another_version_kept_is_forgotten(bench: Bench) -> None:
    bench.store.put_state("shadow", {"jobs": {"1": {"nobody": "knows"}}, "hour": 7})
    bench.again()
    bench.cycle(0, [CAP], JOB)
    assert bench.book.values["shadow.withheld_watts"] == pytest.approx(800.0)


def test_the_ledger_grows_by_hours_and_jobs_and_not_by_cycles(bench: Bench) -> None:
    for minutes in range(0, 3 * 24 * 60, 20):
        bench.cycle(60.0 * minutes, [CAP, HOLD, DISCHARGE], JOB, WAITING)
    kinds = [entry.kind for entry in bench.store.entries()]
    assert kinds.count(HOUR_KIND) == 71
    assert kinds.count(JOB_KIND) == 2 * 2
