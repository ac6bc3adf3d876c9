"""Powerctld refuses a wrong site before it touches anything, gives back everything when it stops, and psbatch
does without it."""

import json
import re

from tests.loop.bed import Bed


def test_a_wrong_site_is_refused_with_every_problem(bed: Bed) -> None:
    bed.lab.stop("powerctld")
    before = bed.truth()
    wrong = bed.site_toml.replace("[controller]\n", '[controller]\ncolour = "red"\n')
    wrong = re.sub(r"(?s)(\[circuit\.rack1\].*?rating_watts = )\d+", r"\g<1>70000", wrong)
    wrong = re.sub(r"(?s)(\[circuit\.rack1\].*?limit_watts = )\d+", r"\g<1>65000", wrong)
    wrong = re.sub(r"(?s)(\[circuit\.rack2\].*?limit_watts = )\d+", r"\g<1>3", wrong)
    bed.site_file.write_text(wrong)
    found = refusals(bed)
    for path in ("controller.colour", "circuit.rack1.limit_watts", "circuit.rack2.limit_watts"):
        assert all(path in text for text in found), found
    assert all("is it in kW or MW?" in text for text in found)

    port = bed.lab.layout.ports["meter"]
    bed.site_file.write_text(bed.site_toml.replace(f"127.0.0.1:{port}", "127.0.0.1:9"))
    found = refusals(bed)
    assert all("device.grid_meter" in text for text in found), found

    after = bed.truth()
    assert after["ess"]["enabled"] is before["ess"]["enabled"] is False
    assert after["ess"]["setpoint_watts"] == before["ess"]["setpoint_watts"]
    assert bed.free()


def test_a_device_that_has_answered_before_may_be_away_at_a_start(bed: Bed) -> None:
    bed.plant("fault", target="pdu.rack1", fault="silence", value=0)
    bed.configure(hold_lease_seconds=30)
    rack = next(circuit for circuit in bed.glance()["circuits"] if circuit["name"] == "rack1")
    assert rack["watts"] is None
    assert rack["quality"] == "invalid"
    bed.plant("clear_faults")
    bed.until(lambda: bed.glance()["circuits"][1]["quality"] == "good", "the PDU's return", 15)


def test_a_battery_is_commissioned_while_powerctld_only_watches(bed: Bed) -> None:
    words = ["slurm-power", "commission", "pcs", "battery", "--config", str(bed.site_file), "--yes", "--json"]
    done = bed.lab.run(words, check=False, timeout_seconds=60.0)
    assert (done.returncode, "slurm-power control off" in done.stderr) == (2, True)
    bed.lab.run(["slurm-power", "control", "off"])
    done = bed.lab.run(words, check=False, timeout_seconds=90.0)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["proven"]
    assert found["charge_reads_negative"]
    assert found["revert_seconds"] < 10.0
    assert not bed.truth()["ess"]["enabled"]
    # From now on nobody has to answer for it.
    text = bed.site_toml.replace("uncommissioned =", "# uncommissioned =")
    bed.site_file.write_text(text)
    bed.lab.restart("powerctld")
    assert "uncommissioned" not in {entry["kind"] for entry in bed.ledger(5)}
    words = ["slurm-power", "check", "--no-slurm", "--config", str(bed.site_file)]
    done = bed.lab.run(words, timeout_seconds=30.0)
    assert "no problems" in done.stdout
    (bed.run / "state" / "powerctld" / "commissioned.json").unlink()
    done = bed.lab.run(words, check=False, timeout_seconds=30.0)
    assert (done.returncode, "ess.battery: not commissioned" in done.stderr) == (2, True)


def refusals(bed: Bed) -> list[str]:
    """What powerctld and `slurm-power check` say of the site, both with exit status 2."""
    texts = []
    for words in (["powerctld"], ["powerctld", "--check"], ["slurm-power", "check"]):
        done = bed.lab.run([*words, "--config", str(bed.site_file)], check=False, timeout_seconds=30.0)
        assert done.returncode == 2, done
        assert "Traceback" not in done.stderr
        texts.append(done.stderr)
    return texts


def test_a_clean_stop_gives_everything_back_at_once(bed: Bed) -> None:
    _capped, held = bed.peak()
    bed.lab.stop("powerctld")
    assert bed.until(bed.free, "the caps' end", 5) < 2.0
    assert not bed.truth()["ess"]["enabled"]
    assert "hold" not in bed.lab.job(held)["AdminComment"]
    bed.lab.run(["scancel", "--user=alice"])
    bed.until(lambda: bed.lab.job(held)["JobState"] == "RUNNING", "the start of the held job", 10)


def test_psbatch_without_powerctld(bed: Bed) -> None:
    bed.lab.stop("powerctld")
    script = "--wrap=true"
    plain = bed.lab.run(["sbatch", "--output=/dev/null", script], user="alice")
    ours = bed.lab.run(["psbatch", "--workload=training", "--output=/dev/null", script], user="alice")
    assert re.sub(r"\d+", "N", ours.stdout) == re.sub(r"\d+", "N", plain.stdout) == "Submitted batch job N\n"
    assert plain.stderr == ""
    (line,) = ours.stderr.splitlines()
    assert line.startswith("psbatch: no power controller at 127.0.0.1:")
    assert line.endswith("submitting plainly")
    job = re.findall(r"\d+", ours.stdout)[0]
    assert '"workload":"training"' in bed.lab.job(job)["AdminComment"]
