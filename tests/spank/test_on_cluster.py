"""What users type, on a real cluster: through psbatch, sbatch, srun, salloc to hooks, comment and job."""

import json
import re
import shutil
import string
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers.cluster.lab import Lab
from containers.cluster.layout import Options
from containers.cluster.lifecycle import up
from slurm_power.cli.sbatch_options import LONG_WITH_VALUE, LONG_WITHOUT_VALUE, SHORT_WITH_VALUE
from tests.cluster.lab import await_job, output
from tests.spank.building import build_plugin

pytestmark = pytest.mark.slurm
PROJECT = Path(__file__).resolve().parents[2]
PSBATCH = ["python", "-m", "slurm_power.cli.psbatch"]


@pytest.fixture(scope="module")
def carrying_lab() -> Iterator[Lab]:
    """One node with our plugin and job_submit, and a prolog that writes down its environment."""
    started = up(Options(nodes=1))
    lab = started.lab
    try:
        etc = lab.layout.etc
        plugin = build_plugin(etc / "slurm_power.so")
        (etc / "plugstack.conf").write_text(f"optional {plugin}\n")
        for script in (PROJECT / "prolog_epilog").glob("*.lua"):
            shutil.copyfile(script, etc / script.name)
        prolog = etc / "recording_prolog"
        prolog.write_text(f"#!/bin/sh\n/usr/bin/env > {lab.run_directory}/log/prolog.$SLURM_JOB_ID\nexit 0\n")
        prolog.chmod(0o755)
        with lab.layout.slurm_conf.open("a") as file:
            file.write(f"\nProlog={prolog}\nJobSubmitPlugins=lua\n")
        for daemon in (
            "slurmctld",
            *(name for name in lab.daemon_names if name.startswith("slurmd.") or name == "c1"),
        ):
            lab.kill(daemon)
            lab.start(daemon)
        yield lab
    finally:
        started.down()


def in_prolog(lab: Lab, job: str) -> dict[str, str]:
    text = (lab.run_directory / f"log/prolog.{job}").read_text()
    found = dict(line.split("=", 1) for line in text.splitlines() if line.startswith("SPANK_POWER_"))
    return {name.removeprefix("SPANK_POWER_"): value for name, value in found.items()}


def psbatch(
    lab: Lab, *arguments: str, stdin: str = "", check: bool = True, **environ: str
) -> subprocess.CompletedProcess[str]:
    return lab.run(
        [*PSBATCH, *arguments],
        user="alice",
        stdin=stdin,
        check=check,
        environment={"PYTHONPATH": str(PROJECT), **environ},
    )


@pytest.mark.parametrize("export", ["ALL", "NONE"])
def test_psbatch_to_hooks_comment_and_job(carrying_lab: Lab, export: str) -> None:
    lab = carrying_lab
    arguments = ["--parsable", "--workload=training", "--flex=2", f"--export={export}", "--output=%j.out"]
    job = psbatch(lab, *arguments, "--wrap=echo $SLURM_POWER_WORKLOAD $SLURM_POWER_FLEX").stdout.strip()
    fields = await_job(lab, job)
    assert in_prolog(lab, job) == {"WORKLOAD": "training", "FLEX": "flex2"}
    assert json.loads(fields["AdminComment"]) == {"power": {"workload": "training", "flex": "flex2"}}
    assert output(lab, job) == "training flex2\n"


CATALOG = """
[family.digits]
task = "image-classification"
class = "inference"
metric = "accuracy"
[[family.digits.tier]]
name = "full"
method = "none"
model = "models/full"
sbatch = ["--ntasks=2", "--job-name=tier"]
environment = { BATCH = "64" }
quality = { value = 0.98 }
[[family.digits.tier]]
name = "int8"
method = "int8"
parent = "full"
quality = { value = 0.97 }
"""


@pytest.mark.parametrize("export", ["ALL", "NONE"])
def test_a_job_has_what_the_catalog_says_of_its_tier(carrying_lab: Lab, export: str) -> None:
    lab, folder = carrying_lab, carrying_lab.run_directory / "home/alice"
    (folder / "tiers.toml").write_text(CATALOG)
    (folder / "tiers.conf").write_text(f"tiers_path={folder}/tiers.toml\n")
    show = "env | grep -E '^(BATCH|SLURM_NTASKS|SLURM_JOB_NAME|SLURM_POWER_[A-Z_]*)=' | sort"
    words = ["--parsable", "--tier=digits/full", "--tiers-ok=int8", f"--export={export}", "--output=%j.out"]
    words += ["--job-name=mine", f"--wrap={show}"]
    done = psbatch(lab, *words, SLURM_POWER_CONF=str(folder / "tiers.conf"))
    assert "digits/full comes with --job-name=tier: your own word stands" in done.stderr
    job = done.stdout.strip()
    power = json.loads(await_job(lab, job)["AdminComment"])["power"]
    assert power == {"workload": "inference", "tier": "digits/full", "tiers_ok": ["int8"]}
    assert in_prolog(lab, job) == {"WORKLOAD": "inference", "TIER": "digits/full", "TIERS_OK": "int8"}
    found = dict(line.split("=", 1) for line in output(lab, job).splitlines())
    assert (found["SLURM_NTASKS"], found["SLURM_JOB_NAME"]) == ("2", "mine")
    assert found["SLURM_POWER_MODEL"] == f"{folder}/models/full"
    assert found["SLURM_POWER_TIER"] == "digits/full"
    assert found.get("BATCH") == ("64" if export == "ALL" else None), "what --export keeps out stays out"


def test_a_job_hands_its_tier_on_to_no_job_that_it_submits(carrying_lab: Lab) -> None:
    """But what psbatch is told of the other one counts, in a job as well."""
    lab = carrying_lab
    child = 'env | grep -E "^SLURM_POWER_[A-Z_]*=" | sort'
    submit = f"--parsable --output=%j.out --wrap='{child}'"
    ours = f"{' '.join(PSBATCH)} --flex=2"
    script = f"sbatch {submit}\n{ours} {submit}\n{ours} --tier=c/d --tiers-ok=e {submit}\n"
    words = ["--parsable", "--flex=1", "--tier=a/b", "--tiers-ok=any", "--output=%j.out", "--wrap", script]
    job = psbatch(lab, *words, "--workload=inference").stdout.strip()
    await_job(lab, job)
    numbers = [line for line in output(lab, job).splitlines() if line.isdigit()]
    found = []
    for number in numbers:
        await_job(lab, number)
        found.append(dict(line.split("=", 1) for line in output(lab, number).splitlines()))
    tiers = [{name: one[name] for name in one if "TIER" in name or "SAID" in name} for one in found]
    assert tiers == [{}, {}, {"SLURM_POWER_TIER": "c/d", "SLURM_POWER_TIERS_OK": "e"}]
    assert [one["SLURM_POWER_FLEX"] for one in found] == ["flex1", "flex2", "flex2"]
    assert in_prolog(lab, numbers[0]) == {"FLEX": "flex1", "WORKLOAD": "inference"}


def test_options_of_plain_commands(carrying_lab: Lab) -> None:
    lab = carrying_lab
    show = "echo $SLURM_JOB_ID $SLURM_POWER_WORKLOAD $SLURM_POWER_FLEX"
    script = f"#!/bin/sh\n#SBATCH --workload=inference --flex=flex1 --output=%j.out\n{show}\n"
    job = lab.run(["sbatch", "--parsable"], user="alice", stdin=script).stdout.strip()
    await_job(lab, job)
    assert output(lab, job) == f"{job} inference flex1\n"
    for command in ("srun", "salloc"):
        line = [command, "--workload=generation", "--flex=0", "sh", "-c", show]
        job, *words = lab.run(line, user="alice").stdout.split()
        assert words == ["generation", "flex0"]
        assert in_prolog(lab, job) == {"WORKLOAD": "generation", "FLEX": "flex0"}


def test_srun_inside_a_job_keeps_its_words(carrying_lab: Lab) -> None:
    show = "srun sh -c 'echo $SLURM_POWER_WORKLOAD $SLURM_POWER_FLEX'"
    job = psbatch(carrying_lab, "--parsable", "--flex=3", "--output=%j.out", f"--wrap={show}").stdout.strip()
    await_job(carrying_lab, job)
    assert output(carrying_lab, job).split() == ["flex3"]


def test_command_line_beats_the_scripts_sbatch_line(carrying_lab: Lab) -> None:
    script = carrying_lab.run_directory / "home/alice/job.sh"
    script.write_text("#!/bin/sh\n#SBATCH --workload=inference --output=%j.out\necho $SLURM_POWER_WORKLOAD\n")
    for arguments, word in ((["--workload=training"], "training"), ([], "inference")):
        job = psbatch(carrying_lab, "--parsable", *arguments, str(script)).stdout.strip()
        await_job(carrying_lab, job)
        assert output(carrying_lab, job) == f"{word}\n"


def test_nonsense_is_refused_and_nothing_submitted(carrying_lab: Lab) -> None:
    for command in (["sbatch", "--wrap=true"], ["srun", "true"], ["salloc", "true"]):
        done = carrying_lab.run([command[0], "--flex=lots", *command[1:]], user="alice", check=False)
        assert done.returncode != 0
        assert "--flex: 'lots' is not one of flex0, flex1, flex2, flex3" in done.stderr
    assert psbatch(carrying_lab, "--flex=lots", "--wrap=true", check=False).returncode == 2


def test_nonsense_in_the_environment_loses_no_submission(carrying_lab: Lab) -> None:
    job = carrying_lab.run(
        ["sbatch", "--parsable", "--output=%j.out", "--wrap=true"],
        user="alice",
        environment={"SLURM_POWER_FLEX": "lots"},
    )
    assert "warning: ignoring SLURM_POWER_FLEX='lots'" in job.stderr
    await_job(carrying_lab, job.stdout.strip())


def test_what_sbatch_says_and_how_it_ends_is_kept(carrying_lab: Lab) -> None:
    plain = carrying_lab.run(
        ["sbatch", "--wrap=exit 3", "--wait", "--output=%j.out"], user="alice", check=False
    )
    ours = psbatch(carrying_lab, "--wrap=exit 3", "--wait", "--output=%j.out", check=False)
    assert (plain.returncode, ours.returncode) == (3, 3)
    assert re.fullmatch(r"Submitted batch job \d+\n", ours.stdout)
    ours = psbatch(carrying_lab, "--output=%j.out", "--parsable", "-", "x", stdin="", check=False)
    plain = carrying_lab.run(["sbatch", "--parsable", "-", "x"], user="alice", check=False)
    assert ours.returncode == plain.returncode
    tested = psbatch(carrying_lab, "--test-only", "--wrap=true")
    assert "to start at" in tested.stderr


def test_table_agrees_with_this_sbatch(carrying_lab: Lab) -> None:
    """sbatch itself says of each option that it "requires an argument", or goes on to the empty script."""
    options = [f"--{name}" for name in sorted(LONG_WITH_VALUE | LONG_WITHOUT_VALUE)]
    options += [f"-{letter}" for letter in string.ascii_letters]
    ask = 'answer=$(sbatch "$option" 2>&1 < /dev/null | tr "\\n" " "); printf "%s %s\\n" "$option" "$answer"'
    script = f'for option in "$@"; do {ask}; done'
    answers = carrying_lab.run(["sh", "-c", script, "sh", *options], user="alice").stdout.splitlines()
    known = 0
    for answer in answers:
        option, _, text = answer.partition(" ")
        if "unrecognized option" in text or "invalid option" in text:
            continue
        known += 1
        table = LONG_WITH_VALUE if option.startswith("--") else SHORT_WITH_VALUE
        assert (option.lstrip("-") in table) == ("requires an argument" in text), answer
    assert known > 120


def test_table_names_every_option_in_the_help(carrying_lab: Lab) -> None:
    text = carrying_lab.run(["sbatch", "--help"]).stdout
    named = set(re.findall(r"^\s+(?:-\w, )?--([\w-]+)", text, flags=re.MULTILINE))
    assert len(named) > 60
    assert named <= LONG_WITH_VALUE | LONG_WITHOUT_VALUE | {
        "workload",
        "flex",
        "max-hold",
        "finish-by",
        "power-cap",
        "tier",
        "tiers-ok",
        "min-quality",
    }
