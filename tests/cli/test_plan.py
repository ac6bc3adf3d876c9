"""slurm-power plan, as people and programs read it."""

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from slurm_power.cli.slurm_power import main
from tests.cli.fake_powerctld import fake_powerctld

PRICE = {"money_per_kwh": 0.284, "work_gpu_hours_per_kwh": 0.44}
CAP = {
    "lever": "cap",
    "subject": "17",
    "user": "al[i]ce",
    "flex": "flex3",
    "chosen_watts": 1200.0,
    "left_watts": 300.0,
    "price": PRICE,
    "next_price": {"money_per_kwh": 0.455, "work_gpu_hours_per_kwh": 0.7},
    "remark": "",
}
HIDDEN = {
    **CAP,
    "subject": None,
    "user": None,
    "chosen_watts": 0.0,
    "price": None,
    "next_price": PRICE,
}
BATTERY = {
    "lever": "discharge",
    "subject": "battery",
    "user": None,
    "flex": None,
    "chosen_watts": 2000.0,
    "left_watts": 0.0,
    "price": {"money_per_kwh": 0.034, "work_gpu_hours_per_kwh": 0.0},
    "next_price": None,
    "remark": "gives its most",
}
GRID: dict[str, Any] = {
    "circuit": "grid",
    "limit_kind": "economic",
    "limit_watts": 30_000.0,
    "target_watts": 29_400.0,
    "load_watts": 29_300.0,
    "natural_watts": 32_500.0,
    "binding": True,
    "short_watts": 0.0,
    "shadow": PRICE,
    "marginal": CAP,
    "next": HIDDEN,
    "levers": [BATTERY, CAP, HIDDEN],
    "levers_left_off": 3,
}
PLAN: dict[str, Any] = {
    "ok": True,
    "site": "lab",
    "mode": "control",
    "at": "2026-01-02T03:04:05+00:00",
    "actions": [
        {"lever": "discharge", "subject": "battery", "watts": 2000.0, "reason": "too much"},
        {"lever": "cap", "subject": "17", "watts": 500.0, "reason": "grid is full", "changed": True},
        {"lever": "cap", "subject": "18", "watts": 500.0, "reason": "still needed", "changed": False},
        {"lever": "hold", "subject": "19", "watts": 900.0, "reason": "no room"},
        {"lever": "release", "subject": "20", "watts": None, "reason": "room"},
    ],
    "actions_left_off": 0,
    "shortfalls": [
        {
            "circuit": "rack1",
            "watts": 400.0,
            "reason": "all at their floors",
            "since": "2026-01-02T03:00:05+00:00",
        }
    ],
    "notes": ["rack2: no usable reading; treated as full"],
    "fairness": {"jain_index": 0.987, "worst_user": "bob", "worst_lost_ratio": 0.04, "own_lost_ratio": 0.02},
    "energy_price_per_kwh": 0.31,
    "currency": "EUR",
    "circuits": [GRID],
    "circuits_left_off": 0,
}


def run(reply: dict[str, Any], *arguments: str) -> Result:
    with fake_powerctld(lambda _: reply) as fake:
        result = CliRunner().invoke(
            main, ["plan", *arguments, "--socket", str(fake.path)], env={"COLUMNS": "200"}
        )
        assert fake.requests == [{"op": "plan", "explain": "--explain" in arguments}]
    return result


def test_it_ranks_the_levers_and_says_what_is_next() -> None:
    result = run(PLAN, "--explain")
    assert result.exit_code == 0
    for words in (
        "battery discharging 2.0 kW: too much",
        "job 17 at 500 W a GPU: grid is full",
        "1 lever stays as it is",
        "job 19 held: no room",
        "job 20 let go: room",
        "grid: limit 30.0 kW (economic), steered to 29.4 kW; draws 29.3 kW",
        "would draw 32.5 kW without levers",
        "Shadow price 0.284 EUR per kWh (0.44 GPU-hours of work): that of the last watt of the cap on job 17",
        "; next would be the cap on another user's job at 0.284 EUR per kWh.",
        "17 (al[i]ce, flex3)",
        "gives its most",
        "and 3 levers more",
        "rack1 cannot be met since",
        "(4 min): 400 W above what the levers can hold, all at their floors",
        "rack2: no usable reading",
        "Fairness among users (Jain): 0.987; bob has lost most lately, 4 % of the GPU time;",
        "; you have lost 2 %.",
    ):
        assert words in result.output, words
    ranks = [line for line in result.output.splitlines() if line.strip()[:1] in "123" and "flex" in line]
    assert ["0.284" in line for line in ranks] == [True, True]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"binding": False, "shadow": None, "marginal": None},
            "The limit does not bind, so its shadow price is none",
        ),
        (
            {"shadow": None, "marginal": None, "next": None},
            "no lever is in use for it; nothing is left to choose",
        ),
        ({"load_watts": None, "natural_watts": None}, "draws \N{EN DASH} with"),
    ],
)
def test_what_there_is_not_is_said(changes: dict[str, Any], words: str) -> None:
    assert words in run({**PLAN, "circuits": [{**GRID, **changes}]}, "--explain").output


def test_without_explain_only_the_plan_is_shown() -> None:
    short = {key: value for key, value in PLAN.items() if not key.startswith("circuits")}
    output = run(short).output
    assert "job 17 at 500 W a GPU" in output
    assert "Shadow" not in output


def test_shadow_mode_and_no_plan_are_said() -> None:
    assert "nothing of it was done" in run({**PLAN, "mode": "off"}).output
    assert run({**PLAN, "at": None}).output == "no plan has been made yet\n"


def test_json_is_the_answer() -> None:
    assert json.loads(run(PLAN, "--explain", "--json").output) == PLAN


def test_in_40_columns_levers_prices_and_watts_are_whole() -> None:
    with fake_powerctld(lambda _: PLAN) as fake:
        words = ["plan", "--explain", "--socket", str(fake.path)]
        result = CliRunner().invoke(main, words, env={"COLUMNS": "40"})
    assert result.exit_code == 0 and "…" not in result.output
    assert "0.284" in result.output
