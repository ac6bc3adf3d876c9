"""What `expect` answers beyond watts: run time, bills, flex classes, limits, and the user's own bounds."""

import json
import os
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from slurm_power.config.admission import AdmissionConfig
from slurm_power.config.governance import GovernanceConfig
from slurm_power.config.supply import SupplyConfig
from slurm_power.controller.answers.expect_answer import expect
from slurm_power.controller.answers.user_socket import Caller, RefusedError
from slurm_power.controller.jobs.job_expectations import JobExpectations
from slurm_power.controller.jobs.job_feed import JobFeed
from slurm_power.controller.jobs.run_times import expected_run, stored_run_times
from slurm_power.controller.sensing.supply_desk import SupplyDesk
from slurm_power.forecast.run_times import JobKind, RunTimes
from slurm_power.forecast.supply import HeldValues, Supply
from slurm_power.model.snapshot import NodeState, Snapshot
from slurm_power.plan.policy import Policy
from tests.controller.test_fairness_desk import Memory
from tests.plan.situations import AT, gpu, running, site, situation

NOW = AT.timestamp()
POLICY = Policy(idle_gpu_watts=75.0, host_watts_per_gpu=25.0, training_gpu_watts=650.0)
ME = Caller(uid=os.getuid())


class Records(Memory):
    """A store without job records."""

    def jobs(self) -> dict[str, Any]:
        return {}


def hours(*values: float | None) -> HeldValues:
    """Values from the beginning of this hour on, one an hour; nothing is known after the last."""
    start = NOW // 3600.0 * 3600.0
    return HeldValues(
        seconds=tuple(start + 3600.0 * index for index in range(len(values))),
        values=values,
        end_seconds=start + 3600.0 * len(values),
    )


@dataclass
class Controller:
    """As much of the controller as the answer asks for; its parts are the real ones."""

    seen: Snapshot
    supply_values: Supply = field(default_factory=Supply)
    run_times: RunTimes = field(default_factory=RunTimes)

    def __post_init__(self) -> None:
        config: Any = SimpleNamespace(site=self.seen.site, supply=SupplyConfig(), zone=UTC)
        self.supply = SupplyDesk(config, fault=lambda *_: None)
        self.supply.supply = self.supply_values
        self.forecasts = SimpleNamespace(run_times=self.run_times)
        self.expectations = JobExpectations(cast("Any", Records()), POLICY, lambda *_, **__: None)
        timing = SimpleNamespace(hold_lease_seconds=60.0)
        self.config = SimpleNamespace(
            site=self.seen.site,
            supply=SupplyConfig(currency="EUR"),
            policy=POLICY,
            controller=timing,
            admission=AdmissionConfig(),
            governance=GovernanceConfig(),
        )
        self.mode = "control"
        self.control = SimpleNamespace(paused_until=None)

    def snapshot(self) -> Snapshot:
        return self.seen

    def expect(self, **request: Any) -> dict[str, Any]:
        return expect(cast("Any", self), {"workload": "training", **request}, ME)


def idle() -> Snapshot:
    """Sixteen idle GPUs and a lot of room."""
    seen = situation(of=site(grid_limit_watts=60_000.0, with_ess=False), import_watts=3_000.0)
    gpus = {
        name: {f"{name}-{slot}": gpu(f"{name}-{slot}", 75.0) for slot in range(8)} for name in ("c1", "c2")
    }
    nodes = {name: NodeState(name=name, age_seconds=0.5, gpus=found) for name, found in gpus.items()}
    return replace(seen, nodes=nodes)


def full() -> Snapshot:
    """The grid connection at its limit."""
    return situation(
        of=site(grid_limit_watts=11_000.0, with_ess=False),
        jobs=(running("1", ("c1",)), running("2", ("c2",), gpus_per_node=4)),
        import_watts=11_000.0,
        rack_watts=(11_000.0, 0.0),
    )


def ran(*seconds: float, limit: float = 3600.0, gpus: float = 8.0) -> RunTimes:
    known = RunTimes()
    for one in seconds:
        known.ended(JobKind(ME.user, gpus, limit), one)
    return known


def test_energy_cost_and_carbon_over_the_run_and_the_limit() -> None:
    supply = Supply(price_per_kwh=hours(*[0.25] * 24), carbon_g_per_kwh=hours(*[400.0] * 24))
    answer = Controller(idle(), supply, ran(*[1800.0] * 20)).expect(gpus=8, time_limit_seconds=3600)
    assert answer["site_watts"] == 8 * (650 - 75 + 25)
    assert answer["run"]["seconds"] == 1800
    assert answer["run"]["own_jobs"] == 20
    assert answer["expected_bill"] == {"energy_kwh": 2.4, "cost": 0.6, "carbon_kg": 0.96}
    assert answer["limit_bill"] == {"energy_kwh": 4.8, "cost": 1.2, "carbon_kg": 1.92}


def test_what_nobody_knows_is_null() -> None:
    answer = Controller(idle()).expect(gpus=8)
    assert (answer["run"], answer["expected_bill"], answer["limit_bill"]) == (None, None, None)
    answer = Controller(idle()).expect(gpus=8, time_limit_seconds=3600)
    assert (answer["run"], answer["expected_bill"]) == (None, None)
    assert answer["limit_bill"] == {"energy_kwh": 4.8, "cost": None, "carbon_kg": None}
    for row in answer["flex_classes"]:
        assert row["hold_saves_cost"] is row["hold_saves_carbon_kg"] is row["cap_saves_cost"] is None
    # A price that runs out before the job does says nothing of the whole.
    supply = Supply(price_per_kwh=hours(0.25))
    answer = Controller(idle(), supply).expect(gpus=8, time_limit_seconds=7200)
    assert answer["limit_bill"]["cost"] is None
    none = Controller(idle(), supply).expect(time_limit_seconds=7200)
    assert (none["site_watts"], none["limit_bill"], none["flex_classes"]) == (None, None, [])


def test_too_few_runs_tell_nothing() -> None:
    assert (
        Controller(idle(), run_times=ran(60.0, 60.0)).expect(gpus=8, time_limit_seconds=3600)["run"] is None
    )


def test_a_cheaper_hour_within_the_hold_is_found() -> None:
    """Half an hour from now a kWh costs a fifth; flex1 may be held for 12 minutes, flex3 for an hour."""
    at = NOW // 900.0 * 900.0 + 1800.0
    supply = Supply(price_per_kwh=HeldValues(seconds=(0.0, at), values=(0.5, 0.1)))
    controller = Controller(idle(), supply, ran(*[600.0] * 20, limit=7200.0))
    rows = {row["flex"]: row for row in controller.expect(gpus=8, time_limit_seconds=7200)["flex_classes"]}
    assert [row["longest_hold_seconds"] for row in rows.values()] == [0.0, 720.0, 1800.0, 3600.0]
    assert rows["flex0"]["hold_saves_cost"] == 0.0
    assert rows["flex1"]["hold_saves_cost"] == 0.0
    assert rows["flex3"]["hold_saves_cost"] == pytest.approx(0.8 * 0.4, abs=1e-3)  # 4.8 kW for 10 min
    held_to_the_end = rows["flex2"]["hold_saves_cost"]
    assert 0.0 < held_to_the_end <= rows["flex3"]["hold_saves_cost"]


def test_room_by_caps_follows_the_promise() -> None:
    supply = Supply(price_per_kwh=hours(*[0.25] * 24))
    rows = Controller(idle(), supply).expect(gpus=8, time_limit_seconds=3600)["flex_classes"]
    room = [row["room_watts"] for row in rows]
    assert room[0] == 0.0
    assert room == sorted(room)
    assert 0.0 < room[1] < room[3] < 8 * 650.0
    assert rows[0]["cap_saves_cost"] == 0.0
    assert all(row["cap_saves_cost"] is not None for row in rows)
    nobody = replace(idle(), nodes={})
    assert Controller(nobody).expect(gpus=8)["flex_classes"][3]["room_watts"] is None


def test_held_where_there_is_no_room_and_never_against_the_users_word() -> None:
    ask = {"gpus": 8, "flex": "flex2", "time_limit_seconds": 3600}
    controller = Controller(full())
    answer = controller.expect(**ask)
    assert (answer["held"], answer["longest_hold_seconds"]) == (True, 900)
    assert answer["limits"][0]["circuit"] == "grid"
    assert answer["limits"][0]["room_watts"] < 4800
    assert controller.expect(**ask, max_hold_seconds=60)["longest_hold_seconds"] == 60
    assert controller.expect(**ask, max_hold_seconds=7200)["longest_hold_seconds"] == 900
    never = controller.expect(**ask, max_hold_seconds=0)
    assert (never["held"], never["longest_hold_seconds"]) == (False, 0)
    assert controller.expect(**ask, finish_by_in_seconds=3600 + 360)["longest_hold_seconds"] == 300
    late = controller.expect(**ask, finish_by_in_seconds=3600 + 360, start_in_seconds=200)
    assert late["longest_hold_seconds"] == 100
    assert controller.expect(**ask, finish_by_in_seconds=60)["held"] is False
    no_limit = {key: value for key, value in ask.items() if key != "time_limit_seconds"}
    assert controller.expect(**no_limit)["held"] is True
    assert controller.expect(**no_limit, finish_by_in_seconds=1e6)["held"] is False


def test_a_cap_of_the_users_own() -> None:
    controller = Controller(idle(), run_times=ran(*[1800.0] * 20))
    free = controller.expect(gpus=8, time_limit_seconds=7200)
    capped = controller.expect(gpus=8, time_limit_seconds=7200, cap_watts=400)
    assert capped["expected"]["expected_mean_watts"] == 400.0
    assert capped["expected"]["expected_p95_watts"] == 400.0
    assert 0.1 < capped["expected"]["cap_slowdown_ratio"] < 0.5
    assert capped["site_watts"] == 8 * (400 - 75 + 25)
    assert free["expected"]["cap_slowdown_ratio"] == 0.0
    above = controller.expect(gpus=8, time_limit_seconds=7200, cap_watts=900)
    assert above["expected"]["expected_mean_watts"] == 650.0


@pytest.mark.parametrize(
    "key", ["start_in_seconds", "max_hold_seconds", "finish_by_in_seconds", "cap_watts", "time_limit_seconds"]
)
@pytest.mark.parametrize("value", [-1, "1", True, 1e12, [], float("nan")])
def test_what_is_no_number_is_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(RefusedError, match=f"{key}: "):
        Controller(idle()).expect(gpus=8, **{key: value})


def test_the_answer_travels_as_json_whatever_is_asked() -> None:
    for snapshot in (idle(), full(), replace(full(), circuits={})):
        for limit in (None, 1, 1e9):
            for gpus in (0, 1, 1_000_000):
                answer = Controller(snapshot).expect(gpus=gpus, time_limit_seconds=limit, flex="flex3")
                json.dumps(answer, allow_nan=False)


def test_run_times_are_learned_from_jobs_that_end_and_from_what_was_stored(tmp_path: Path) -> None:
    feed = JobFeed()
    job = replace(running("1", ("c1",)), time_limit_seconds=3600.0)
    feed.follow(replace(situation(jobs=(job,)), jobs_age_seconds=0.0))
    feed.follow(replace(situation(jobs=()), jobs_age_seconds=0.0))
    assert feed.run_times.known("alice") == (1, 1)
    known = ran(*[100.0] * 10)
    (tmp_path / "forecast").mkdir()
    file = tmp_path / "forecast" / "run_times.json"
    file.write_text(json.dumps(known.state()))
    found = expected_run(stored_run_times(tmp_path), JobKind(ME.user, 8.0, 3600.0))
    assert found is not None
    assert found.seconds == 100.0
    file.write_text('{"users": 7}')
    assert stored_run_times(tmp_path).known(ME.user) == (0, 0)
    assert stored_run_times(tmp_path / "nowhere").known(ME.user) == (0, 0)


def test_times_here_are_times_of_the_snapshot() -> None:
    assert datetime.fromtimestamp(NOW, UTC) == AT
