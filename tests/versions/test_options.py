"""What users say about power, on this Slurm: by plugin and psbatch into job_submit, hooks and the job."""

import json
import time

import pytest

from containers.cluster.lab import Lab
from slurm_power.model.job import Flex
from tests.cluster.lab import await_job, output

# In an hour; whole seconds, as it travels.
FINISH_BY = f"@{int(time.time()) + 3600}"
# Option, what a user says, variable in the job, name behind SPANK_ in hooks, normal form; key and value in
# AdminComment.
WORDS = [
    ("--workload", "training", "SLURM_POWER_WORKLOAD", "POWER_WORKLOAD", "training", "workload", "training"),
    ("--flex", "2", "SLURM_POWER_FLEX", "POWER_FLEX", "flex2", "flex", "flex2"),
    ("--max-hold", "30", "SLURM_POWER_MAX_HOLD", "POWER_MAX_HOLD", "1800s", "max_hold_seconds", 1800),
    (
        "--finish-by",
        FINISH_BY,
        "SLURM_POWER_FINISH_BY",
        "POWER_FINISH_BY",
        FINISH_BY,
        "finish_by",
        int(FINISH_BY[1:]),
    ),
    ("--power-cap", "0.4kW", "SLURM_POWER_CAP", "POWER_CAP", "400", "cap_watts", 400),
    ("--tier", "digits/full", "SLURM_POWER_TIER", "POWER_TIER", "digits/full", "tier", "digits/full"),
    (
        *("--tiers-ok", "small,int8", "SLURM_POWER_TIERS_OK", "POWER_TIERS_OK", "int8,small", "tiers_ok"),
        ["int8", "small"],
    ),
    (
        *("--min-quality", "0.950", "SLURM_POWER_MIN_QUALITY", "POWER_MIN_QUALITY", "0.95", "min_quality"),
        0.95,
    ),
]
OPTIONS = [f"{option}={said}" for option, said, *_ in WORDS]
ENVIRONMENT = "env | grep ^SLURM_POWER_ | sort"


def told(lab: Lab, hook: str, job: str) -> dict[str, str]:
    """What a hook found in its environment; waits until it ran."""
    file = lab.run_directory / "log" / f"{hook}.{job}"
    lab.wait_until(file.exists, f"the {hook} of job {job}", seconds=20)
    return dict(line.split("=", 1) for line in file.read_text().splitlines() if "=" in line)


def assert_everywhere(lab: Lab, job: str) -> None:
    """Fail unless AdminComment, prolog, epilog and the job itself hold all the words."""
    comment = json.loads(lab.job(job)["AdminComment"])["power"]
    assert {key: comment.get(key) for *_, key, _value in WORDS} == {key: value for *_, key, value in WORDS}
    for hook in ("prolog", "epilog"):
        found = told(lab, hook, job)
        assert [found.get(f"SPANK_{name}") for *_, name, _form, _key, _value in WORDS] == [
            form for *_, form, _key, _value in WORDS
        ], hook
    printed = dict(line.split("=", 1) for line in output(lab, job).splitlines() if "=" in line)
    assert [printed.get(name) for _option, _said, name, *_ in WORDS] == [form for *_, form, _k, _v in WORDS]


@pytest.mark.parametrize("command", ["sbatch", "psbatch"])
@pytest.mark.parametrize("export", ["ALL", "NONE"])
def test_batch_jobs(site: Lab, command: str, export: str) -> None:
    words = [command, "--parsable", "-t", "5", "-o", "%j.out", f"--export={export}", "--gres=gpu:1", *OPTIONS]
    job = site.run([*words, f"--wrap={ENVIRONMENT}"], user="alice").stdout.strip()
    await_job(site, job)
    assert_everywhere(site, job)


def test_lines_of_the_script(site: Lab) -> None:
    lines = "\n".join(f"#SBATCH {option}" for option in OPTIONS)
    script = f"#!/bin/sh\n#SBATCH -t 5 -o %j.out\n{lines}\n{ENVIRONMENT}\n"
    job = site.run(["sbatch", "--parsable"], user="alice", stdin=script).stdout.strip()
    await_job(site, job)
    assert_everywhere(site, job)


@pytest.mark.parametrize("command", ["srun", "salloc"])
def test_interactive_jobs(site: Lab, command: str) -> None:
    words = [command, "-n1", "-t", "5", *OPTIONS, "sh", "-c", f"{ENVIRONMENT}; echo JOB=$SLURM_JOB_ID"]
    printed = site.run(words, user="alice").stdout.splitlines()
    found = dict(line.split("=", 1) for line in printed if "=" in line)
    assert [found.get(name) for _option, _said, name, *_ in WORDS] == [
        form for *_, form, _key, _value in WORDS
    ]
    in_prolog = told(site, "prolog", found["JOB"])
    assert [in_prolog.get(f"SPANK_{name}") for *_, name, _form, _key, _value in WORDS] == [
        form for *_, form, _key, _value in WORDS
    ]


def test_a_requeued_job_keeps_its_words(site: Lab) -> None:
    script = f"{ENVIRONMENT}; [ $SLURM_RESTART_COUNT ] || sleep 60"
    words = ["sbatch", "--parsable", "--requeue", "-t", "5", "-o", "%j.out", *OPTIONS, f"--wrap={script}"]
    job = site.run(words, user="alice").stdout.strip()
    await_job(site, job, "RUNNING")
    told(site, "prolog", job)
    site.run(["scontrol", "requeue", job])
    site.wait_until(lambda: site.job(job).get("JobState") == "PENDING", "the first run's end", seconds=20)
    prolog = site.run_directory / "log" / f"prolog.{job}"
    prolog.unlink()
    # Slurm would let it wait for two minutes; within the second of its end its credential is a revoked one.
    site.run(["scontrol", "update", f"job={job}", "StartTime=now+2"])
    site.wait_until(prolog.exists, "the second start", seconds=60)
    await_job(site, job)
    assert_everywhere(site, job)


@pytest.mark.parametrize("command", ["sbatch", "srun", "salloc", "psbatch"])
@pytest.mark.parametrize("option", ["--flex=flex9", "--workload=mining", "--max-hold=soon", "--power-cap=-1"])
def test_nonsense_is_refused_by_name(site: Lab, command: str, option: str) -> None:
    job = ["--wrap=true"] if command in ("sbatch", "psbatch") else ["true"]
    done = site.run([command, "-n1", option, *job], user="alice", check=False)
    assert done.returncode != 0
    name, _, value = option.partition("=")
    assert name in done.stderr
    assert value in done.stderr


@pytest.mark.parametrize("command", ["sbatch", "srun", "salloc"])
def test_help_names_the_options(site: Lab, command: str) -> None:
    text = site.run([command, "--help"]).stdout
    assert [option for option, *_ in WORDS if option not in text] == []


@pytest.mark.parametrize("flex", list(Flex))
def test_psbatch_options_in_the_script_of_a_plain_job(site: Lab, flex: Flex) -> None:
    script = f"#!/bin/sh\n#PSBATCH --workload=generation --flex={flex.value}\n#SBATCH --hold\ntrue\n"
    file = site.run_directory / "home/alice/tagged.sh"
    file.write_text(script)
    job = site.run(["psbatch", "--parsable", file.name], user="alice").stdout.strip()
    comment = json.loads(site.job(job)["AdminComment"])["power"]
    assert (comment["workload"], comment["flex"]) == ("generation", flex.value)
    site.run(["scancel", job])
