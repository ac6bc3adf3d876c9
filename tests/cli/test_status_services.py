"""``slurm-power status``: services, how the site stands, and the jobs that are left off."""

from functools import partial
from typing import Any

import pytest
from click.testing import CliRunner, Result

from slurm_power.cli.slurm_power import main
from tests.cli.fake_powerctld import STATUS, fake_powerctld


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], terminal_width=200)


def test_status_shows_what_services_run_and_are_asked_to() -> None:
    service: dict[str, Any] = {"name": "ask", "user": "alice", "family": "digits", "full_tier": "full"}
    service["serving"] = "full"
    service |= {"asked_tier": None, "reason": "", "switching": False, "age_seconds": 1.0}
    service |= {"backends": [{"tier": "full", "state": "serving", "job_id": "17", "open_streams": 3}]}

    def shown(**more: Any) -> str:
        with fake_powerctld(lambda _: {**STATUS, "services": [{**service, **more}]}) as fake:
            return run("status", "--socket", fake.path).output

    begin = "service ask of alice serves digits with full, 3 open streams"
    assert f"{begin}\n" in shown()
    asked = shown(asked_tier="int8", reason="the grid is short", switching=True)
    assert f"{begin}; asked for int8 in place of full: the grid is short\n" in asked
    assert "with int8; on its way back to full\n" in shown(serving="int8", switching=True, backends=[])
    assert "with nothing yet" in shown(serving="")


def test_status_begins_with_how_the_site_stands() -> None:
    for safe, headline in ((True, "SAFE: grid is 1.0 kW below its limit"), (False, "AT RISK: \x1b[2Jnobody")):
        told: dict[str, Any] = {**STATUS, "standing": {"safe": safe, "headline": headline}}
        with fake_powerctld(partial(_same, told)) as fake:
            first = run("status", "--socket", fake.path).output.splitlines()[0]
        assert first.startswith(headline.partition(":")[0]) and "\x1b" not in first


@pytest.mark.parametrize(
    ("capped", "said"),
    [
        ((300.0, None), "1,200 jobs more, neither capped, held nor paused: squeue"),
        # Those that are left off may be capped as well.
        ((300.0, 300.0), "1,200 jobs more: squeue"),
    ],
)
def test_status_says_of_jobs_it_leaves_off_what_is_known(
    capped: tuple[float | None, float | None], said: str
) -> None:
    job = STATUS["jobs"][0]
    rows = [{**job, "cap_watts": cap, "hold_ends_in_seconds": None, "paused_seconds": None} for cap in capped]
    told = {**STATUS, "jobs": rows, "jobs_left_off": 1200}
    with fake_powerctld(partial(_same, told)) as fake:
        assert said in run("status", "--socket", fake.path).output


def _same(told: dict[str, Any], _request: dict[str, Any]) -> dict[str, Any]:
    return told
