"""slurm-power against a thread that speaks powerctld's protocol."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from slurm_power.cli.commands.quantities import Duration, Watts
from slurm_power.cli.slurm_power import main
from tests.cli.fake_powerctld import STATUS, Answer, entry, fake_powerctld
from tests.devices import benches

RECORD = {
    "energy_joules": 3.6e6,
    "estimated_joules": 3.6e5,
    "shared_joules": 0.0,
    "host_joules": 7.2e5,
    "pdu_joules": 5.4e6,
    "residual_joules": 1.08e6,
    "user": "alice",
    "gpu_count": 8,
    "mean_watts": 3184.0,
    "expected_mean_watts": 412.4,
    "expected_known_from": "your jobs of this name",
    "expected_jobs": 14,
}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def answer(request: dict[str, Any]) -> Answer:
    match request["op"]:
        case "status":
            return STATUS
        case "ledger":
            return {"ok": True, "entries": [entry(1), entry(2)], "more": False, "broken_at_sequence": None}
        case "job":
            return {"ok": True, "record": RECORD}
        case "event":
            return {"ok": True, "event_id": "ev-4"}
        case "cancel_event":
            return {"ok": False, "error": "there is no event ev-9"}
        case _:
            return {"ok": True, "mode": "off"}


def test_status_shows_the_site() -> None:
    with fake_powerctld(answer) as fake:
        result = run("status", "--socket", fake.path)
    assert result.exit_code == 0
    for words in (
        "lab [north]: powerctld controls, up 61 s",
        "21.3 kW",
        "106 %",
        "invalid: stale for 9.0 s",
        "charging 1.5 kW",
        "hot, operated locally",
        "[red]train",
        "520 W",
        "6 % slower",
        "event ev-3: grid limited to 9.0 kW from in 5 min, ends in 15 min: utility call",
        "grid is 300 W above what the levers can hold: nothing is left to cap",
    ):
        assert words in result.output, words


def test_status_shows_the_level_in_one_line() -> None:
    level = {
        "circuit": "grid",
        "period": "2026-01",
        "level_watts": 84_000.0,
        "natural_most_watts": 99_000.0,
        "trade_watts": None,
        "reason": "peak: what the battery could have held",
        "trade_reason": "",
    }

    def shown(**more: Any) -> str:
        with fake_powerctld(lambda _: {**STATUS, "level": {**level, **more}}) as fake:
            return run("status", "--socket", fake.path).output

    words = "in 2026-01 the batteries hold grid to 84.0 kW (peak: what the battery could have held)"
    assert words + "\n" in shown()
    assert words + "; energy is dear\n" in shown(trade_watts=5.0, trade_reason="energy is dear")
    assert "in 2026-01 no peak of grid is paid for now\n" in shown(level_watts=None)
    with fake_powerctld(lambda _: {**STATUS, "level": None}) as fake:
        assert "2026-01" not in run("status", "--socket", fake.path).output


def test_status_shows_a_clock_lock() -> None:
    decoding = {**STATUS["jobs"][0], "cap_watts": 180.0, "lock_hertz": 1.395e9}
    with fake_powerctld(lambda _: {**STATUS, "jobs": [decoding]}) as fake:
        result = run("status", "--socket", fake.path)
    assert "6 % slower, clock locked at 1395 MHz" in result.output


def test_json_is_the_answer_itself() -> None:
    with fake_powerctld(answer) as fake:
        assert json.loads(run("status", "--json", "--socket", fake.path).output) == STATUS
        why = json.loads(run("why", "17", "--json", "--socket", fake.path).output)
        event = run(
            "event",
            "grid",
            "--limit-watts",
            "9kW",
            "--for",
            "10m",
            "--reason",
            "x",
            "--json",
            "--socket",
            fake.path,
        )
    sentences = why.pop("sentences")
    assert why == {"job": STATUS["jobs"][0], "record": RECORD, "entries": [entry(1), entry(2)]}
    assert len(sentences) == 3
    assert json.loads(event.output) == {"ok": True, "event_id": "ev-4"}


def test_ledger_asks_for_all_pages() -> None:
    def pages(request: dict[str, Any]) -> Answer:
        after = request.get("after_sequence", 0)
        found = [entry(after + 1), entry(after + 2)]
        return {"ok": True, "entries": found, "more": after < 4, "broken_at_sequence": None}

    with fake_powerctld(pages) as fake:
        result = run("ledger", "--job", "17", "--since", "10m", "--socket", fake.path)
    assert [line.split("reason ")[1] for line in result.output.splitlines()] == [
        f"{n} (1.2 kW)" for n in range(1, 7)
    ]
    assert [request.get("after_sequence") for request in fake.requests] == [None, 2, 4]
    assert all(request["job_id"] == "17" and request["since_seconds"] == 600 for request in fake.requests)


def test_altered_ledger_is_told() -> None:
    with fake_powerctld(
        lambda _: {"ok": True, "entries": [], "more": False, "broken_at_sequence": 7}
    ) as fake:
        result = run("ledger", "--socket", fake.path)
    assert result.exit_code == 1
    assert "entry 7 does not follow from its past" in result.output


def test_why_explains() -> None:
    with fake_powerctld(answer) as fake:
        result = run("why", "17", "--socket", fake.path)
    for words in (
        "is running: training, flex2, 8 GPUs.",
        "Its GPUs draw 4.1 kW; 1.000 kWh so far.",
        "Capped at 520 W a GPU (about 6 % slower): grid is over its limit",
        "Held for 42 s in all.",
        "Expected 412 W a GPU (from 14 of alice's jobs of this name); it drew 398 W.",
        "reason 2",
        "Energy of its GPUs: 1.000 kWh (0.100 kWh of it estimated).",
        "Its part of the hosts: 0.200 kWh.",
        "by their PDUs: 1.500 kWh; 0.300 kWh (20 %) of that is neither GPUs nor hosts",
    ):
        assert words in result.output, words


def test_the_tier_is_shown_where_there_is_one() -> None:
    tiered = {**STATUS["jobs"][0], "tier": "digits/int8", "tiers_ok": ["int8", "small"], "min_quality": 0.95}

    def told(request: dict[str, Any], jobs: list[dict[str, Any]]) -> Answer:
        if request["op"] == "status":
            return {**STATUS, "jobs": jobs}
        if request["op"] == "job":
            return {"ok": True, "record": {**RECORD, "tier": "digits/int8"}}
        return answer(request)

    with fake_powerctld(lambda request: told(request, [tiered])) as fake:
        assert "tier digits/int8, 6 % slower" in run("status", "--socket", fake.path).output
        said = run("why", "17", "--socket", fake.path).output
    assert "Its model tier is digits/int8; it may be moved to int8, small." in said
    assert "Its user asked for: a tier with a quality of 0.95 at least." in said
    with fake_powerctld(lambda request: told(request, [])) as fake:
        said = run("why", "17", "--socket", fake.path).output
    assert "Job 17 is no longer in the queue.\nIt ran the model tier digits/int8.\n" in said


def test_why_of_an_unknown_job() -> None:
    def nothing(request: dict[str, Any]) -> Answer:
        if request["op"] == "status":
            return {**STATUS, "jobs": []}
        if request["op"] == "job":
            return {"ok": True, "record": {}}
        return {"ok": True, "entries": [], "more": False, "broken_at_sequence": None}

    with fake_powerctld(nothing) as fake:
        result = run("why", "99", "--socket", fake.path)
    assert result.exit_code == 1
    assert "nothing is known of a job 99" in result.output


def test_event_and_control_say_what_they_did() -> None:
    with fake_powerctld(answer) as fake:
        line = ["--limit-watts", "9kW", "--for", "1h30m", "--in", "5m", "--reason", "utility call"]
        event = run("event", "grid", *line, "--socket", fake.path)
        cancelled = run("cancel-event", "ev-9", "--socket", fake.path)
        control = run("control", "off", "--socket", fake.path)
    assert event.output == "event ev-4: grid: at most 9.0 kW from in 5 min for 90 min\n"
    assert fake.requests[0] == {
        "op": "event",
        "circuit": "grid",
        "limit_watts": 9000.0,
        "start_in_seconds": 300.0,
        "duration_seconds": 5400.0,
        "reason": "utility call",
    }
    assert (cancelled.exit_code, cancelled.output) == (2, "Error: there is no event ev-9\n")
    assert control.output == "control is off\n"
    assert fake.requests[2] == {
        "op": "control",
        "enabled": False,
        "reason": "asked for on the command line",
    }


@pytest.mark.parametrize("reply", [b"", b"no json\n", b"[]\n", b'{"ok":true', b"{}\n", b"\xff\n"])
def test_nonsense_from_the_socket_is_one_sentence(reply: bytes) -> None:
    with fake_powerctld(lambda _: reply) as fake:
        result = run("status", "--socket", fake.path)
    assert result.exit_code == 1
    assert result.output.startswith("Error: powerctld")
    assert result.output.count("\n") == 1


def test_nobody_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conf = tmp_path / "slurm-power.conf"
    conf.write_text(f"controller_socket={tmp_path}/none.sock\n")
    monkeypatch.setenv("SLURM_POWER_CONF", str(conf))
    result = run("status")
    assert result.exit_code == 1
    assert f"does not answer at {tmp_path}/none.sock" in result.output


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90.0), ("90s", 90.0), ("10m", 600.0), ("1h30m", 5400.0), ("2d", 172_800.0), ("0.5h", 1800.0)],
)
def test_durations(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize(
    "arguments",
    [
        ["--for", "soon"],
        ["--for", "10 x"],
        ["--for", ""],
        ["--for", "-5m"],
        ["--for", "\N{SUPERSCRIPT TWO}"],
        ["--for", "9" * 400],
        ["--for", "9" * 400 + "d"],
    ],
)
def test_wrong_quantities_are_refused(arguments: list[str]) -> None:
    result = run("event", "grid", "--limit-watts", "9kW", "--reason", "x", *arguments)
    assert result.exit_code == 2
    assert run("event", "grid", "--limit-watts", "9 apples", "--reason", "x", "--for", "1m").exit_code == 2
    huge = run("event", "grid", "--limit-watts", "9" * 400, "--reason", "x", "--for", "1m")
    assert huge.exit_code == 2


def test_watts() -> None:
    found = [Watts().convert(text, None, None) for text in ("9000", "9000W", "9kW", "1.2 MW", "0")]
    assert found == [9000.0, 9000.0, 9000.0, 1.2e6, 0.0]


def test_check_lists_every_problem_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    file.write_text(
        '[site]\nname = "x"\n[circuit.grid]\nrating_watts = 3\nlimit_kind = "economic"\nmetre = "m"\n'
    )
    result = run("check", "--no-slurm", "--config", file)
    assert result.exit_code == 2
    assert "circuit.grid.metre: unknown key; did you mean meter?" in result.output
    told = json.loads(run("check", "--json", "--config", file).output)
    assert told["ok"] is False
    assert told["problems"]


def test_check_reads_the_devices_after_the_file(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    file.write_text(
        '[site]\nname = "x"\n'
        '[circuit.grid]\nrating_watts = 40000.0\nlimit_kind = "economic"\nmeter = "m"\n'
        '[device.m]\ndriver = "sunspec_meter"\naddress = "127.0.0.1:1"\n'
        '[device.b]\ndriver = "sunspec_pcs"\naddress = "127.0.0.1:1"\n'
    )
    result = run("check", "--no-slurm", "--config", file)
    assert result.exit_code == 2
    assert [line.partition(": ")[2].partition(":")[0] for line in result.output.splitlines()] == [
        "device.m",
        "device.b",
    ]
    assert run("check", "--no-devices", "--no-slurm", "--config", file).exit_code == 0


def test_check_reads_each_device_once(tmp_path: Path) -> None:
    async def check() -> Result:
        ports = [benches.free_port() for _ in range(2)]
        meter, pcs = benches.meter_front(ports[0]), benches.pcs_front(ports[1])
        file = tmp_path / "site.toml"
        file.write_text(
            '[site]\nname = "x"\n'
            '[circuit.grid]\nrating_watts = 40000.0\nlimit_kind = "economic"\nmeter = "m"\n'
            f'[device.m]\ndriver = "sunspec_meter"\naddress = "127.0.0.1:{ports[0]}"\n'
            f'[device.b]\ndriver = "sunspec_pcs"\naddress = "127.0.0.1:{ports[1]}"\n'
        )
        async with benches.serving(meter), benches.serving(pcs):
            benches.take(meter, 23_400.0)
            return await asyncio.to_thread(run, "check", "--no-slurm", "--config", file)

    result = asyncio.run(check())
    assert result.exit_code == 0, result.output
    assert "device.m: answers: 23.4 kW" in result.output
    assert "device.b: answers: discharges 0 W, charged to " in result.output
    assert result.output.endswith("site.toml: no problems\n")


def test_show_config_says_where_values_come_from(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    file.write_text(
        '[site]\nname = "x"\n[policy]\nmargin_ratio = 0.03\n'
        '[circuit.grid]\nrating_watts = 40000.0\nlimit_kind = "economic"\n'
    )
    told = json.loads(run("show-config", "--json", "--config", file).output)
    assert told["policy.margin_ratio"] == {"value": 0.03, "from": "site.toml"}
    assert told["policy.control"] == {"value": True, "from": "default"}
    assert told["circuit.grid.rating_watts"] == {"value": 40000.0, "from": "site.toml"}
    assert told["circuit.grid.limit_watts"]["value"] is None
    assert "policy.margin_ratio = 0.03" in run("show-config", "--config", file).output


@pytest.mark.parametrize("columns", ["80", "40", None])
def test_status_cuts_no_name_and_no_number_off(columns: str | None) -> None:
    """In 80 columns, in 40, and in a pipe, which has none."""
    with fake_powerctld(answer) as fake:
        result = CliRunner().invoke(main, ["status", "--socket", str(fake.path)], env={"COLUMNS": columns})
    assert result.exit_code == 0 and "…" not in result.output
    assert "520 W/GPU" in result.output and "alice" in result.output
    assert ("training" in result.output) is (columns is None)
    if columns is not None:
        assert all(len(line) <= int(columns) for line in result.output.splitlines()[1:])
