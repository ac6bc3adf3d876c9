"""What `plan` answers: the last plan with its prices, and nobody's name to those it is not meant for."""

import json
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from slurm_power.config.supply import SupplyConfig
from slurm_power.controller.answers.plan_answer import plan
from slurm_power.controller.answers.user_socket import Caller
from slurm_power.controller.governance.fairness_desk import FairnessDesk
from slurm_power.model.action import Plan
from slurm_power.model.job import Flex
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.planner import plan_cycle
from slurm_power.plan.policy import Policy
from tests.controller.test_fairness_desk import Memory
from tests.plan.situations import AT, cap_lease, pending, running, site, situation
from tests.plan.test_services import CHAT, SERVER, served

STRANGER = 12_345  # a uid without a name: its user is "12345"
POLICY = Policy()


@dataclass
class Supply:
    """A supply that knows one price."""

    price: float | None = None

    def ahead(self, *_: object, **__: object) -> Any:
        return SimpleNamespace(price_per_kwh=(self.price,))


@dataclass
class Controller:
    """As much of the controller as the answer asks for."""

    planned_on: Snapshot | None
    mode: str = "control"
    supply: Supply = field(default_factory=Supply)
    short_since: dict[str, datetime] = field(default_factory=dict)

    def __post_init__(self) -> None:
        seen = self.planned_on
        self.plan = Plan() if seen is None else plan_cycle(seen, POLICY, hold_seconds=60.0)
        self.config = SimpleNamespace(site=site(), policy=POLICY, supply=SupplyConfig())
        self.admission = SimpleNamespace(row=lambda: None)
        self.governance = SimpleNamespace(policy=SimpleNamespace(override_row=lambda: None))
        self.recorder = SimpleNamespace(short_since=self.short_since)
        book = {"users": {"alice": [3e7, 1e8], str(STRANGER): [1e7, 1e8]}, "accounts": {}}
        self.fairness = FairnessDesk(POLICY, Memory(fairness=book))
        if seen is not None:
            self.planned_on = self.fairness.onto(seen)


def crowded() -> Snapshot:
    mine = replace(running("1", ("c1",), flex=Flex.FLEX3), user=str(STRANGER), name="mine")
    others = replace(running("2", ("c2", "c3"), flex=Flex.FLEX3), name="secret")
    return situation(
        of=site(with_ess=False),
        import_watts=30_000.0,
        jobs=(mine, others, pending("3", 8)),
        gpu_watts={"2": 500.0},
        caps={"2": cap_lease("2", 500.0)},
    )


def ask(controller: Controller, uid: int = 0, *, explain: bool = True) -> dict[str, Any]:
    found = plan(controller, {"op": "plan", "explain": explain}, Caller(uid))  # type: ignore[arg-type]
    again: dict[str, Any] = json.loads(json.dumps(found))
    return again


def test_operators_see_every_lever_with_its_price() -> None:
    found = ask(Controller(crowded()))
    (grid,) = found["circuits"]
    assert (grid["circuit"], grid["binding"]) == ("grid", True)
    assert {row["subject"] for row in grid["levers"]} == {"1", "2", "3"}
    assert grid["shadow"]["money_per_kwh"] > 0.0
    assert grid["next"] is not None
    assert found["fairness"]["worst_user"] == "alice"
    assert {action["subject"] for action in found["actions"]} >= {"2", "3"}


def test_users_see_others_jobs_without_names() -> None:
    text = json.dumps(ask(Controller(crowded()), STRANGER))
    assert str(STRANGER) in text
    for hidden in ("alice", "bob", "secret", '"2"', '"3"'):
        assert hidden not in text, hidden
    found = json.loads(text)
    (grid,) = found["circuits"]
    assert len(grid["levers"]) == 3
    assert sum(row["subject"] is None for row in grid["levers"]) == 2
    fairness = found["fairness"]
    assert (fairness["worst_user"], fairness["worst_lost_ratio"], fairness["own_lost_ratio"]) == (
        None,
        0.3,
        0.1,
    )


@pytest.mark.parametrize(("user", "its_own"), [("bob", False), (str(STRANGER), True)])
def test_users_see_what_is_asked_of_their_own_services_alone(user: str, its_own: bool) -> None:
    """Its name alone would tell what somebody else serves."""
    server = replace(SERVER, user=user)
    seen = replace(served(replace(CHAT, user=user)), jobs=(server,))
    asked = {"lever": "switch service", "subject": "chat"}
    found = {uid: ask(Controller(seen), uid)["actions"] for uid in (0, STRANGER)}
    shown = {uid: any(asked.items() <= row.items() for row in rows) for uid, rows in found.items()}
    assert shown == {0: True, STRANGER: its_own}


def test_prices_are_worked_out_only_when_asked_for() -> None:
    found = ask(Controller(crowded()), explain=False)
    assert "circuits" not in found
    assert found["actions"]


def test_before_the_first_plan_there_is_nothing() -> None:
    found = ask(Controller(None))
    assert (found["at"], found["actions"]) == (None, [])


def test_a_shortfall_says_since_when() -> None:
    over = situation(of=site(with_ess=False), import_watts=60_000.0)
    since = AT - timedelta(seconds=90)
    (short,) = ask(Controller(over, short_since={"grid": since}))["shortfalls"]
    assert (short["circuit"], short["since"]) == ("grid", since.isoformat())


@pytest.mark.parametrize("price", [None, 0.5])
def test_the_tariffs_price_counts_for_a_battery(price: float | None) -> None:
    carried = situation(import_watts=32_000.0)
    found = ask(Controller(carried, supply=Supply(price)))
    (battery,) = (row for row in found["circuits"][0]["levers"] if row["lever"] == "discharge")
    lost = 1.0 / POLICY.ess_round_trip_ratio - 1.0
    expected = POLICY.ess_wear_per_kwh + lost * (POLICY.energy_price_per_kwh if price is None else price)
    assert battery["price"]["money_per_kwh"] == pytest.approx(expected, abs=1e-4)


def test_a_crowd_is_counted_not_listed() -> None:
    many = tuple(replace(running(str(n), ("c1",), flex=Flex.FLEX3), job_id=str(n)) for n in range(100))
    found = ask(Controller(situation(of=site(with_ess=False), import_watts=31_000.0, jobs=many)))
    (grid,) = found["circuits"]
    assert (len(grid["levers"]), grid["levers_left_off"]) == (40, 60)
