"""An event from its notice to its report, at the desk that follows it and at the controller's socket."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from slurm_power import clock
from slurm_power.controller.answers.event_answer import add_event, cancel_event, event_report, events
from slurm_power.controller.answers.user_socket import Caller, RefusedError
from slurm_power.controller.events.event_desk import EventDesk
from slurm_power.controller.governance.operators import OperatorDesk
from slurm_power.controller.levers.levers import CapRecord, LeverState
from slurm_power.model.action import Shortfall
from slurm_power.model.grid_event import BaselineMethod, Commitment
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.event_target import foreseen_shortfalls
from slurm_power.plan.loads import load_table
from slurm_power.plan.policy import Policy
from slurm_power.wire import Message
from tests.plan.situations import AT, ess_reading, pending, running, site, situation

ROOT = Caller(0)
STRANGER = Caller(12345)
ASKED = {
    "op": "event",
    "circuit": "grid",
    "cut_ratio": 0.25,
    "start_in_seconds": 600,
    "duration_seconds": 3600,
    "reason": "the utility asks",
}


@dataclass
class Book:
    """A store and a ledger in memory; states go through JSON as in a real one."""

    states: dict[str, str] = field(default_factory=dict)
    notes: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)

    def put_state(self, key: str, value: object) -> None:
        self.states[key] = json.dumps(value)

    def state(self, key: str, default: object = None) -> object:
        return json.loads(self.states[key]) if key in self.states else default

    def note(self, actor: str, kind: str, subject: str, reason: str, **more: Any) -> None:
        assert actor and subject
        self.notes.append((kind, reason, more.get("details", {})))

    def kinds(self) -> list[str]:
        return [kind for kind, *_ in self.notes]


class Deaf:
    """Nodes that nobody listens for."""

    def send(self, node: str, message: Message) -> bool:
        return bool(node and message)

    def forget(self, node: str) -> bool:
        return not node


class Bench:
    """A controller cut down to what events touch, in time of its own."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.at = AT
        self.policy = policy or Policy()
        self.book = Book()
        self.levers = LeverState()
        self.watts = 20_000.0
        self.discharge_watts = 0.0
        self.jobs = (running("1", ("c1", "c2")), pending("2", 8))
        self.desk = self._desk()
        self.config = SimpleNamespace(site=site(), policy=self.policy)
        self.operators = OperatorDesk(self.levers, note=self.book.note, nodes=Deaf(), wake=lambda: None)

    def _desk(self) -> EventDesk:
        return EventDesk(site(), self.policy, self.levers, self.book, self.book.note)  # type: ignore[arg-type]  # its states are all that is used

    @property
    def events(self) -> EventDesk:
        return self.desk

    def snapshot(self) -> Snapshot:
        seen = situation(
            import_watts=self.watts,
            jobs=self.jobs,
            ess=ess_reading(discharge_watts=self.discharge_watts, soc_ratio=0.2),
        )
        view = self.levers.view(self.at)
        return replace(seen, at=self.at, events=view.events, holds=view.holds)

    def live(self, seconds: int, shortfalls: tuple[Shortfall, ...] = ()) -> None:
        """Let cycles pass, one each five seconds."""
        for _ in range(seconds // 5):
            self.at += timedelta(seconds=5)
            self.levers.expire(self.at)
            self.desk.follow(self.snapshot(), shortfalls)

    def restart(self) -> None:
        """A new controller takes over what the old one put down."""
        self.levers = LeverState.from_json(json.loads(json.dumps(self.levers.to_json())), self.at, 10.0)
        self.desk = self._desk()
        self.operators = OperatorDesk(self.levers, note=self.book.note, nodes=Deaf(), wake=lambda: None)

    def ask(self, handler: Any, request: dict[str, Any], caller: Caller = ROOT) -> dict[str, Any]:
        found: dict[str, Any] = handler(self, request, caller)
        return found

    def report(self, event_id: str = "ev-1") -> dict[str, Any]:
        found = self.desk.report(event_id)
        assert found is not None
        return found


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made = Bench()
    monkeypatch.setattr(clock, "now", lambda: made.at)
    yield made


def test_a_cut_comes_down_from_the_load_before_its_notice(bench: Bench) -> None:
    bench.watts = 10_000.0
    bench.live(1000)
    bench.watts = 20_000.0
    bench.live(1000)
    answer = bench.ask(add_event, {**ASKED, "ramp_seconds": 300})
    assert answer["baseline_watts"] == pytest.approx(20_000.0)
    assert answer["baseline_seconds"] == pytest.approx(900.0, abs=20.0)
    assert answer["limit_watts"] == pytest.approx(15_000.0)
    assert (answer["starts_in_seconds"], answer["ramp_seconds"], answer["recover_seconds"]) == (600, 300, 900)
    record = bench.levers.events["ev-1"]
    assert (record.commitment, record.cut_ratio) == (Commitment.MUST, 0.25)
    assert bench.snapshot().limit_watts("grid", lead_seconds=450.0) == pytest.approx(17_500.0)


def test_a_battery_that_is_filled_up_before_does_not_raise_the_baseline(bench: Bench) -> None:
    bench.watts, bench.discharge_watts = 24_000.0, -4_000.0
    bench.live(900)
    assert bench.ask(add_event, ASKED)["baseline_watts"] == pytest.approx(20_000.0)


def test_a_baseline_before_the_start_moves_until_then(bench: Bench) -> None:
    bench.live(900)
    bench.ask(add_event, {**ASKED, "baseline": "start", "start_in_seconds": 1800})
    bench.watts = 24_000.0
    bench.live(1700)
    assert bench.levers.events["ev-1"].limit_watts == pytest.approx(18_000.0)
    assert bench.levers.events["ev-1"].baseline_method is BaselineMethod.START
    bench.live(200)
    bench.watts = 18_000.0
    bench.live(1000)
    assert bench.levers.events["ev-1"].baseline_watts == pytest.approx(24_000.0)


def test_an_event_does_not_lower_the_baseline_of_the_next(bench: Bench) -> None:
    bench.live(900)
    bench.ask(add_event, {**ASKED, "start_in_seconds": 0})
    bench.watts = 15_000.0
    bench.live(1800)
    assert bench.ask(add_event, {**ASKED, "start_in_seconds": 7200})["baseline_watts"] == pytest.approx(
        20_000.0
    )


def test_an_event_is_followed_to_its_report_over_a_restart(bench: Bench) -> None:
    bench.live(900)
    bench.ask(add_event, {**ASKED, "start_in_seconds": 60})
    bench.live(5)
    assert bench.desk.rows()[0]["state"] == "coming"
    bench.live(55)
    bench.watts, bench.discharge_watts = 15_000.0, 2_000.0
    bench.levers.caps["1"] = capped(bench.at)
    bench.live(1800)
    bench.desk.keep()
    bench.restart()
    assert bench.report()["state"] == "running"
    bench.live(1800)
    bench.watts, bench.discharge_watts = 17_000.0, 0.0
    assert bench.report()["state"] == "recovering"
    bench.levers.caps.clear()
    bench.live(1900)
    assert bench.levers.events == {}
    found = bench.report()
    assert found["state"] == "over"
    result = found["result"]
    assert result["delivered_watts"] == pytest.approx(5_000.0, rel=0.01)
    assert result["delivered_ratio"] == pytest.approx(1.0, rel=0.01)
    assert result["over_curtailment_points"] == pytest.approx(0.0, abs=0.1)
    assert result["rebound_watts"] == 0.0
    assert result["coverage_ratio"] > 0.99
    assert result["ess_discharged_kwh"] == pytest.approx(2.0, rel=0.01)
    assert result["lost_gpu_hours"] == pytest.approx(1.6, rel=0.01)
    assert "15 min before the notice" in found["baseline_method"]
    assert found["soc_ratio"]["battery"]["before"] == 0.2
    assert bench.book.kinds() == ["event", "event begins", "event over", "event recovered"]
    assert "delivered 5.0 kW of 5.0 kW" in bench.book.notes[2][1]
    assert [row["event_id"] for row in bench.desk.rows()] == ["ev-1"]
    assert "jobs" not in bench.desk.rows()[0]


def test_an_event_that_ended_while_nobody_was_there_has_a_report(bench: Bench) -> None:
    bench.live(900)
    bench.ask(add_event, {**ASKED, "start_in_seconds": 0, "recover_seconds": 0})
    bench.watts = 15_000.0
    bench.live(1800)
    bench.at += timedelta(seconds=7200)
    bench.restart()
    bench.live(10)
    found = bench.report()
    assert found["state"] == "over"
    assert found["result"]["coverage_ratio"] == pytest.approx(0.5, abs=0.01)
    assert bench.book.kinds()[-1] == "event over"


def test_a_cancelled_event_says_so_and_one_that_recovers_does_not_jump(bench: Bench) -> None:
    bench.live(900)
    for _ in range(2):
        bench.ask(add_event, {**ASKED, "start_in_seconds": 0})
    bench.watts = 15_000.0
    bench.live(600)
    bench.ask(cancel_event, {"event_id": "ev-1"})
    bench.live(5)
    assert bench.report("ev-1")["state"] == "cancelled"
    bench.ask(cancel_event, {"event_id": "ev-2", "recover": True})
    bench.live(450)
    assert bench.snapshot().limit_watts("grid") == pytest.approx(17_500.0, rel=0.01)
    bench.live(1400)
    assert bench.report("ev-2")["state"] == "over"
    assert bench.report("ev-2")["result"]["coverage_ratio"] == pytest.approx(1.0, abs=0.02)


def test_what_will_be_missing_is_told_once_before_it_is(bench: Bench) -> None:
    bench.live(900)
    answer = bench.ask(add_event, {**ASKED, "cut_ratio": 0.75, "start_in_seconds": 1800})
    assert answer["shortfall"]["watts"] > 1_000.0
    assert answer["shortfall"]["from_seconds"] >= 1800.0

    def foreseen() -> tuple[Shortfall, ...]:
        seen = bench.snapshot()
        return foreseen_shortfalls(seen, load_table(seen, bench.policy), bench.policy)

    for _ in range(120):
        bench.live(5, foreseen())
    ahead = [details for kind, _, details in bench.book.notes if kind == "shortfall ahead"]
    assert len(ahead) == 1
    assert datetime.fromisoformat(ahead[0]["from_at"]) >= bench.levers.events["ev-1"].starts_at
    bench.watts = 6_000.0
    for _ in range(30):
        bench.live(5, foreseen())
    assert bench.book.kinds()[-1] == "shortfall ahead over"
    assert bench.report()["shortfalls_announced"][0]["watts"] == ahead[0]["watts"]


def capped(at: datetime) -> CapRecord:
    return CapRecord(
        cap_watts=500.0,
        kind=LimitKind.ECONOMIC,
        uncapped_watts=650.0,
        lowered_watts=0.0,
        slowdown_ratio=0.1,
        reason="x",
        changed_at=at,
        renewed_at=at + timedelta(days=1),
    )


def test_jobs_are_shown_to_those_they_belong_to(bench: Bench) -> None:
    bench.jobs = (
        replace(running("1", ("c1",)), user=str(STRANGER.uid)),
        replace(running("2", ("c3",)), user="bob"),
    )
    bench.live(900)
    bench.ask(add_event, {**ASKED, "start_in_seconds": 0})
    bench.levers.caps = {"1": capped(bench.at), "2": capped(bench.at)}
    bench.live(60)
    found = {
        caller.uid: bench.ask(event_report, {"event_id": "ev-1"}, caller)["report"]
        for caller in (ROOT, STRANGER)
    }
    assert [job["job_id"] for job in found[0]["jobs"]] == ["1", "2"]
    assert [job["job_id"] for job in found[12345]["jobs"]] == ["1"]
    assert found[12345]["job_count"] == 2
    listed: Any = events(bench)  # type: ignore[arg-type]  # what it needs of one
    assert [row["event_id"] for row in listed["events"]] == ["ev-1"]
    with pytest.raises(RefusedError, match="nothing is known of an event ev-9"):
        bench.ask(event_report, {"event_id": "ev-9"})


@pytest.mark.parametrize(
    ("changes", "problems"),
    [
        ({"cut_ratio": None}, ["or give a cut"]),
        ({"limit_watts": 9000.0}, ["limit_watts and cut_ratio: give one"]),
        ({"cut_ratio": 1.5, "duration_seconds": None, "reason": " "}, ["cut_ratio", "duration_", "reason"]),
        ({"cut_ratio": None, "cut_watts": 30_000.0}, ["more than the baseline of 20000 W"]),
        ({"ramp_seconds": -1, "recover_seconds": 1e9}, ["ramp_seconds", "recover_seconds"]),
        ({"ramp_seconds": 5000}, ["when the event is over"]),
        ({"commitment": "limit", "baseline": "noon"}, ["commitment: 'limit'", "baseline: 'noon'"]),
        ({"circuit": "moon", "start_in_seconds": -5}, ["circuit: 'moon'", "start_in_seconds"]),
        ({"cut_ratio": "a lot"}, ["cut_ratio: 'a lot' is no number"]),
    ],
)
def test_everything_wrong_is_said_at_once(bench: Bench, changes: dict[str, Any], problems: list[str]) -> None:
    bench.live(900)
    with pytest.raises(RefusedError) as refused:
        bench.ask(add_event, {**ASKED, **changes})
    for words in problems:
        assert words in str(refused.value)
    assert bench.levers.events == {}


def test_a_cut_of_an_unknown_load_is_refused(bench: Bench) -> None:
    bench.live(30)
    with pytest.raises(RefusedError, match="only 25 s of its load before is known"):
        bench.ask(add_event, ASKED)
    with pytest.raises(RefusedError, match="only root"):
        bench.ask(add_event, ASKED, STRANGER)


def test_with_less_notice_than_the_ramp_takes_the_level_comes_later(bench: Bench) -> None:
    bench.live(900)
    answer = bench.ask(add_event, {**ASKED, "start_in_seconds": 60, "ramp_seconds": 300})
    assert (answer["starts_in_seconds"], answer["ends_in_seconds"]) == (300.0, 3660.0)
    assert bench.snapshot().limit_watts("grid", lead_seconds=150.0) == pytest.approx(17_500.0)


def test_the_sites_ramps_bound_those_of_events(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Bench(Policy(ramp_down_watts_per_minute=500.0, ramp_up_watts_per_minute=250.0))
    monkeypatch.setattr(clock, "now", lambda: made.at)
    made.live(900)
    answer = made.ask(add_event, {**ASKED, "recover_seconds": 60})
    assert (answer["ramp_seconds"], answer["recover_seconds"]) == (
        pytest.approx(600.0),
        pytest.approx(1200.0),
    )
    limited = made.desk.onto(made.snapshot())
    assert limited.limit_watts("grid") == pytest.approx(20_000.0 + 250.0 / 2.71828, abs=1.0)
    assert limited.least_minute_watts == pytest.approx(20_000.0)
    assert limited.ramp_floor_watts == pytest.approx(20_000.0 - 500.0 / 2.71828, abs=1.0)
    assert Bench().desk.onto(made.snapshot()) == made.snapshot()


def test_a_short_event_recovers_in_a_quarter_of_its_time(bench: Bench) -> None:
    answer = bench.ask(add_event, {**ASKED, "cut_ratio": None, "limit_watts": 9000, "duration_seconds": 20})
    assert answer["recover_seconds"] == 5.0
