"""psbatch --tier: what the catalogs say of it, what sbatch is given for it, and what is refused."""

import json
import sys
from pathlib import Path

import pytest

from slurm_power.cli.option_forms import TIER_FORMS
from tests.cli.fake_powerctld import fake_powerctld
from tests.cli.recorder import Outcome, Recorder, make_recorder
from tests.cli.test_explain import ANSWER

CATALOG = """
[family.digits]
task = "image-classification"
class = "inference"
metric = "accuracy"
higher_is_better = true
floor = 0.95
data = "digits/test"
subgroup = { by = "class", metric = "recall", max_drop = 0.05 }
[[family.digits.tier]]
name = "full"
method = "none"
model = "models/digits/full"
gpus = 2
watts_per_gpu = 400
power_source = "nvml"
items_per_second = 900
joules_per_item = 0.9
sbatch = ["--gpus=2", "--mem=4G", "-c8"]
environment = { BATCH = "64", MODE = "fast" }
quality = { value = 0.983, ci95 = 0.011, samples = 540, worst_group = 0.942, worst_group_name = "8" }
[[family.digits.tier]]
name = "int8"
method = "int8"
parent = "full"
gpus = 1
watts_per_gpu = 300
power_source = "nvml"
items_per_second = 1350
approved = { by = "mlops", date = 2026-11-28 }
quality = { value = 0.975, ci95 = 0.012, samples = 540, worst_group = 0.93 }
[[family.digits.tier]]
name = "tiny"
method = "distilled"
parent = "full"
quality = { value = 0.576, samples = 540, worst_group = 0.0 }
[[family.digits.tier]]
name = "unmeasured"
method = "pruned"
parent = "full"
[family.lm]
task = "language-modelling"
class = "training"
metric = "perplexity"
higher_is_better = false
[[family.lm.tier]]
name = "large"
method = "none"
quality = { value = 108.6 }
[[family.lm.tier]]
name = "small"
method = "smaller"
quality = { value = 185.7 }
"""
OWN = """
[family.mine]
task = "image-classification"
class = "inference"
metric = "accuracy"
[[family.mine.tier]]
name = "one"
method = "none"
quality = { value = 0.9 }
[[family.mine.tier]]
name = "two"
method = "int8"
quality = { value = 0.8 }
"""

DIGITS = [f"digits/{name}" for name in ("full", "int8", "tiny", "unmeasured")]
EXPERIMENT = "another tier is another experiment: of a training, name the tiers"


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    made = make_recorder(tmp_path)
    (tmp_path / "tiers.toml").write_text(CATALOG)
    made.site(f"tiers_path={tmp_path}/tiers.toml\n")
    return made


def own(recorder: Recorder, text: str) -> None:
    file = recorder.home / ".config/slurm-power/tiers.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def complaints(outcome: Outcome) -> list[str]:
    """All lines but that on the controller."""
    lines = [line.removeprefix("psbatch: ") for line in outcome.stderr.decode().splitlines()]
    return [line for line in lines if "no power controller" not in line]


def refused(recorder: Recorder, *arguments: str) -> list[str]:
    outcome = recorder.run(*arguments, "job.sh")
    assert (outcome.status, outcome.argv, outcome.stdout) == (2, None, b"")
    *problems, last = complaints(outcome)
    assert last == "nothing was submitted"
    return problems


def test_its_arguments_variables_model_and_class(recorder: Recorder) -> None:
    outcome = recorder.run("--tier=digits/full", "--tiers-ok=int8", "--min-quality=0.96", "job.sh")
    assert outcome.argv == [b"--gpus=2", b"--mem=4G", b"-c8", b"job.sh"]
    assert (outcome.status, complaints(outcome)) == (0, [])
    found = {name.decode(): outcome.environ[name].decode() for name in outcome.environ}
    assert {
        name: found[name] for name in found if name.startswith("SLURM_POWER_") and "CONF" not in name
    } == {
        "SLURM_POWER_TIER": "digits/full",
        "SLURM_POWER_TIERS_OK": "int8",
        "SLURM_POWER_MIN_QUALITY": "0.96",
        "SLURM_POWER_WORKLOAD": "inference",
        "SLURM_POWER_MODEL": f"{recorder.directory}/models/digits/full",
    }
    assert (found["BATCH"], found["MODE"]) == ("64", "fast")
    assert recorder.run("--tier=digits/full", "--export=NONE", "job.sh").argv == [
        *(b"--gpus=2", b"--mem=4G", b"-c8", b"--export=NONE", b"job.sh")
    ]


@pytest.mark.parametrize(
    ("words", "more", "kept", "passed_over"),
    [
        (("--gpus=4",), ("", {}), [b"--mem=4G", b"-c8"], "--gpus=2"),
        (("-G", "4"), ("", {}), [b"--mem=4G", b"-c8"], "--gpus=2"),
        (("--gres=gpu:4",), ("", {}), [b"--mem=4G", b"-c8"], "--gpus=2"),
        (("--gres=disk:4",), ("", {}), [b"--gpus=2", b"--mem=4G", b"-c8"], ""),
        (("--mem-per-gpu=1G", "--cpus-per-t", "4"), ("", {}), [b"--gpus=2"], "--mem=4G, -c8"),
        ((), ("#SBATCH -c4 --gpus-per-node=1\n", {}), [b"--mem=4G"], "--gpus=2, -c8"),
        ((), ("", {b"SBATCH_GPUS": b"1"}), [b"--mem=4G", b"-c8"], "--gpus=2"),
        ((), ("", {b"SBATCH_MEM_PER_NODE": b"1"}), [b"--gpus=2", b"-c8"], "--mem=4G"),
        ((), ("true\n#SBATCH -c4\n", {}), [b"--gpus=2", b"--mem=4G", b"-c8"], ""),
    ],
)
def test_the_user_s_own_word_stands(
    recorder: Recorder,
    words: tuple[str, ...],
    more: tuple[str, dict[bytes, bytes]],
    kept: list[bytes],
    passed_over: str,
) -> None:
    script, environ = more
    job = recorder.script(f"#!/bin/sh\n{script}true\n")
    outcome = recorder.run("--tier=digits/full", *words, job, environ=environ)
    assert outcome.argv == [*kept, *(word.encode() for word in words), job.encode()]
    note = f"digits/full comes with {passed_over}: your own word stands"
    assert complaints(outcome) == ([note] if passed_over else [])


def test_the_user_s_own_variables_stand(recorder: Recorder) -> None:
    outcome = recorder.run("--tier=digits/full", "job.sh", environ={b"BATCH": b"1", b"MODE": b""})
    assert (outcome.environ[b"BATCH"], outcome.environ[b"MODE"]) == (b"1", b"")
    outer = {b"SLURM_POWER_MODEL": b"/old", b"SLURM_POWER_TIER": b"digits/int8"}
    outcome = recorder.run("--tier=digits/full", "--workload=training", "job.sh", environ=outer)
    assert outcome.environ[b"SLURM_POWER_MODEL"].endswith(b"/models/digits/full")
    assert outcome.environ[b"SLURM_POWER_WORKLOAD"] == b"training"


def test_a_job_that_says_nothing_of_tiers_has_none_of_its_submitter_s(recorder: Recorder) -> None:
    outer = {name.encode(): b"a/b" for name in ("SLURM_POWER_TIER", "SLURM_POWER_MODEL")}
    outcome = recorder.run("--flex=1", "job.sh", environ={**outer, b"SLURM_POWER_TIERS_OK": b"any"})
    assert outcome.argv == [b"job.sh"]
    assert not {b"SLURM_POWER_TIER", b"SLURM_POWER_MODEL", b"SLURM_POWER_TIERS_OK"} & outcome.environ.keys()


@pytest.mark.parametrize(
    ("words", "problems"),
    [
        (["--tier=digits/ful"], ["--tier: there is no tier digits/ful; did you mean digits/full?"]),
        (
            ["--tier=digits/q"],
            [f"--tier: there is no tier digits/q; there are {', '.join(DIGITS)}"],
        ),
        (["--tier=digit/full"], ["--tier: there is no tier digit/full; did you mean digits/full?"]),
        (
            ["--tier=digits/tiny"],
            ["--tier: digits/tiny is refused: its accuracy of 0.576 is below the floor of 0.95"],
        ),
        (
            ["--tier=digits/unmeasured"],
            ["--tier: digits/unmeasured is refused: its accuracy was never measured"],
        ),
        (
            ["--tier=digits/full", "--tiers-ok=int4,small"],
            [
                "--tiers-ok: the family digits has no tier int4; did you mean int8?",
                "--tiers-ok: the family digits has no tier small; there are full, int8, tiny, unmeasured",
            ],
        ),
        (["--tiers-ok=int8"], ["--tiers-ok: needs --tier=FAMILY/TIER as well"]),
        (["--min-quality=0.9"], ["--min-quality: needs --tier=FAMILY/TIER as well"]),
        (
            ["--tier=digits/int8", "--min-quality=0.98"],
            ["--min-quality: digits/int8 itself has accuracy 0.975"],
        ),
        (["--tier=lm/large", "--min-quality=100"], ["--min-quality: lm/large itself has perplexity 108.6"]),
        (
            ["--tier=lm/large", "--tiers-ok=any"],
            [f"--tiers-ok: {EXPERIMENT}; there are large, small"],
        ),
        (
            ["--tier=nobody", "--tiers-ok=int8"],
            [f"--tier: 'nobody' is no tier: {TIER_FORMS}"],
        ),
    ],
)
def test_what_is_wrong_is_said_and_submits_nothing(
    recorder: Recorder, words: list[str], problems: list[str]
) -> None:
    found = refused(recorder, *words)
    # A refused tier may have more reasons than one.
    assert found[0] == problems[0] if "refused" in problems[0] else found == problems


@pytest.mark.parametrize(
    "words",
    [
        ["--tier=lm/large", "--tiers-ok=small"],
        ["--tier=lm/large", "--tiers-ok=none"],
        ["--tier=lm/large", "--workload=inference", "--tiers-ok=any", "--min-quality=108.6"],
        ["--tier=digits/full", "--tiers-ok=any", "--min-quality=0.983"],
        ["--tier=digits/int8"],
    ],
)
def test_what_may_be_said(recorder: Recorder, words: list[str]) -> None:
    outcome = recorder.run(*words, "job.sh")
    assert (outcome.status, complaints(outcome)) == (0, [])


def test_any_for_a_training_by_its_own_word(recorder: Recorder) -> None:
    problems = refused(recorder, "--tier=digits/full", "--workload=training", "--tiers-ok=any")
    assert problems[0].startswith("--tiers-ok: another tier is another experiment")


@pytest.mark.parametrize("content", [None, "nonsense [", "[family.x]\nmetric = 3\n", ""])
def test_a_site_catalog_that_cannot_be_read_costs_one_line(recorder: Recorder, content: str | None) -> None:
    file = recorder.directory / "tiers.toml"
    file.unlink()
    if content is not None:
        file.write_text(content)
    outcome = recorder.run("--tier=digits/full", "--tiers-ok=int8", "job.sh")
    if content == "":  # it can be read: there is no such tier
        assert (outcome.status, outcome.argv) == (2, None)
        return
    assert (outcome.status, outcome.argv) == (0, [b"job.sh"])
    assert outcome.environ[b"SLURM_POWER_TIER"] == b"digits/full"
    [line] = complaints(outcome)
    start = "there is no catalog of tiers at" if content is None else "the catalog of tiers cannot be read:"
    assert line.startswith(start)
    assert line.endswith(": digits/full is not checked")


def test_a_catalog_of_the_user_s_own(recorder: Recorder) -> None:
    own(recorder, OWN)
    outcome = recorder.run("--tier=mine/one", "job.sh")
    assert (outcome.status, complaints(outcome)) == (0, [])
    outcome = recorder.run("--tier=mine/one", "--tiers-ok=two", "job.sh")
    assert complaints(outcome) == ["the site does not know the family mine: it will not move the job"]
    assert refused(recorder, "--tier=mine/oen") == [
        "--tier: there is no tier mine/oen; did you mean mine/one?"
    ]
    (recorder.directory / "tiers.toml").write_text("nonsense [")
    assert recorder.run("--tier=mine/one", "job.sh").status == 0
    own(recorder, "nonsense [")
    assert ".config/slurm-power/tiers.toml" in refused(recorder, "--tier=mine/one")[0]
    own(recorder, OWN.replace("family.mine", "family.digits"))
    (recorder.directory / "tiers.toml").write_text(CATALOG)
    [problem] = refused(recorder, "--tier=digits/full")
    assert "family digits: the site's catalog has a family of that name" in problem
    assert problem.endswith("rename yours or take it out of this file")
    assert recorder.run("--flex=1", "job.sh").status == 0, "nobody looks into it without a tier"


def test_what_stands_for_all_jobs_stops_none(recorder: Recorder) -> None:
    """Consent in the user's file is for jobs with a tier of that family; the site's is not for trainings."""
    recorder.user("tiers_ok=int8\nmin_quality=0.98\n")
    outcome = recorder.run("job.sh")
    assert (outcome.status, complaints(outcome)) == (0, [])
    assert b"SLURM_POWER_TIERS_OK" not in outcome.environ
    outcome = recorder.run("--tier=lm/large", "job.sh")
    assert outcome.status == 0
    assert len(complaints(outcome)) == 2
    assert not {b"SLURM_POWER_TIERS_OK", b"SLURM_POWER_MIN_QUALITY"} & outcome.environ.keys()
    outcome = recorder.run("--tier=digits/full", "job.sh")
    assert outcome.environ[b"SLURM_POWER_TIERS_OK"] == b"int8"
    recorder.user("")
    recorder.site(f"tiers_path={recorder.directory}/tiers.toml\ndefault_tiers_ok=any\n")
    assert recorder.run("--tier=digits/full", "job.sh").environ[b"SLURM_POWER_TIERS_OK"] == b"any"
    assert b"SLURM_POWER_TIERS_OK" not in recorder.run("--tier=lm/large", "job.sh").environ


def test_dry_run_shows_it_all(recorder: Recorder) -> None:
    outcome = recorder.run("--dry-run", "--tier=digits/full", "-G1", "job.sh")
    lines = outcome.stdout.decode().splitlines()
    assert lines[0] == "sbatch would be started as:  sbatch --mem=4G -c8 -G1 job.sh"
    assert any("SLURM_POWER_TIER=digits/full" in line and line.endswith("from --tier") for line in lines)
    assert any("SLURM_POWER_WORKLOAD=inference" in line and line.endswith("digits") for line in lines)
    assert any("BATCH=64" in line and line.endswith("tiers.toml") for line in lines)
    found = json.loads(recorder.run("--dry-run", "--json", "--tier=digits/full", "job.sh").stdout)
    assert found["environment"]["BATCH"] == "64"
    assert found["command"] == ["sbatch", "--gpus=2", "--mem=4G", "-c8", "job.sh"]


def test_nothing_of_catalogs_is_loaded_without_a_tier(recorder: Recorder) -> None:
    command = (sys.executable, "-X", "importtime", "-m", "slurm_power.cli.psbatch")
    plain = recorder.run("--flex=1", "job.sh", command=command).stderr
    assert b"slurm_power.cli.submission" in plain
    for module in (b"tier_choice", b"slurm_power.model", b"tomllib", b"dataclasses"):
        assert module not in plain, module
    assert b"tomllib" in recorder.run("--tier=digits/full", "job.sh", command=command).stderr


TIERS = """\
Its tier digits/full: accuracy 0.983 +- 0.011, 800 W on 2 GPUs, 0.9 J an item, measured by NVML (catalog).
Over the expected run that is 0.53 kWh of its GPUs.
What the tiers that it may be moved to would mean (unknown: ?):
              GPUs  draws  quality                   speed
  int8        1     300 W  accuracy 0.975 +- 0.012   1.50 x
  tiny        1     ?      accuracy 0.576            ?       not chosen: refused: its accuracy of 0.576 is
  unmeasured  1     ?      ?                         ?       not chosen: refused: its accuracy was never
"""


def test_explain_says_what_the_tiers_would_mean(recorder: Recorder) -> None:
    with fake_powerctld(lambda _: ANSWER) as fake:
        with (recorder.directory / "slurm-power.conf").open("a") as conf:
            conf.write(f"controller_socket={fake.path}\n")
        words = ("--tier=digits/full", "--tiers-ok=any", "job.sh")
        outcome = recorder.run("--explain", *words)
        as_object = json.loads(recorder.run("--explain", "--json", "--min-quality=0.98", *words).stdout)
        never = recorder.run("--explain", "--tier=digits/full", "job.sh").stdout.decode()
    assert outcome.status == 0
    assert fake.requests[0]["gpus"] == 2, "the tier's own GPUs"
    lines = outcome.stdout.decode().splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("Its tier "))
    for line, expected in zip(lines[begin:], TIERS.splitlines(), strict=False):
        assert " ".join(line.split()).startswith(" ".join(expected.split())), line
    assert lines[-1] == "Nothing was submitted."
    assert "--tiers-ok names none" in never
    told = as_object["tier"]
    assert (told["name"], told["known"]["watts"], told["known"]["quality"]) == ("digits/full", 800.0, 0.983)
    why = {row["name"]: row["not_chosen_because"] for row in told["tiers_ok"]}
    assert why["int8"] == ["its accuracy misses your 0.98"]
    assert why["tiny"][0].startswith("refused: its accuracy of 0.576")


def test_explain_of_tiers_needs_no_controller(recorder: Recorder) -> None:
    with (recorder.directory / "slurm-power.conf").open("a") as conf:
        conf.write("controller_socket=/nonexistent\n")
    outcome = recorder.run("--explain", "--tier=digits/full", "--tiers-ok=int8", "job.sh")
    assert outcome.status == 1
    assert outcome.stdout.startswith(b"Its tier digits/full: accuracy 0.983")
    found = json.loads(recorder.run("--explain", "--json", "--tier=digits/full", "job.sh").stdout)
    assert (found["submitted"], found["tier"]["name"]) == (False, "digits/full")
    (recorder.directory / "tiers.toml").unlink()
    outcome = recorder.run("--explain", "--tier=digits/full", "job.sh")
    assert outcome.stdout.startswith(b"Of the tier digits/full nothing is known here")


@pytest.mark.parametrize(
    ("tier", "why"),
    [("digits/tiny", "is refused: its accuracy of 0.576"), ("digits/gone", "there is no tier digits/gone")],
)
def test_a_default_tier_that_is_none_any_more_stops_nobody(recorder: Recorder, tier: str, why: str) -> None:
    recorder.site(f"tiers_path={recorder.directory}/tiers.toml\ndefault_tier={tier}\ndefault_tiers_ok=any\n")
    outcome = recorder.run("job.sh")
    assert (outcome.status, outcome.argv) == (0, [b"job.sh"])
    assert not {b"SLURM_POWER_TIER", b"SLURM_POWER_TIERS_OK", b"SLURM_POWER_MODEL"} & outcome.environ.keys()
    line, *_ = complaints(outcome)
    assert line.startswith("ignoring the site's default_tier: ")
    assert why in line
    assert refused(recorder, f"--tier={tier}")


def test_beside_a_default_tier_a_broken_catalog_of_one_s_own_costs_a_line(recorder: Recorder) -> None:
    recorder.site(f"tiers_path={recorder.directory}/tiers.toml\ndefault_tier=digits/full\n")
    own(recorder, "[family")
    outcome = recorder.run("job.sh")
    assert (outcome.status, outcome.environ[b"SLURM_POWER_TIER"]) == (0, b"digits/full")
    assert "is not TOML" in complaints(outcome)[0]
