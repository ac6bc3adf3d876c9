"""What SPANK promises its plugins, with ours loaded: a real cluster, real daemons, and a second plugin."""

import json
import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers.cluster.lab import Lab
from containers.cluster.layout import Options
from containers.cluster.lifecycle import up
from tests.cluster.lab import await_job, output
from tests.spank.building import PLUGIN_FLAGS, PROJECT
from tests.spank.scenes import HOOKS, SHOW, Scenes, read, variables
from tests.versions.chosen import chosen_root

pytestmark = pytest.mark.slurm
OPTIONS = ["--workload=training", "--flex=2", "--max-hold=30", "--finish-by=now+2hours", "--power-cap=0.4kW"]
OPTIONS += ["--tier=digits/full", "--tiers-ok=small,int8", "--min-quality=0.950"]
FORMS = {"WORKLOAD": "training", "FLEX": "flex2", "MAX_HOLD": "1800s", "CAP": "400"}
FORMS |= {"TIER": "digits/full", "TIERS_OK": "int8,small", "MIN_QUALITY": "0.95"}
ASK = """\
import json, os, socket
powerd = socket.socket(socket.AF_UNIX)
powerd.connect(os.environ["SLURM_POWER_SOCKET"])
powerd.sendall(b'{"op":"status"}\\n')
print(json.dumps(json.loads(powerd.makefile().readline())["jobs"]))
"""


@pytest.fixture(scope="module")
def module_scenes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenes]:
    started = up(Options(nodes=2, power=True, slurm_root=chosen_root()))
    witness = started.lab.layout.etc / "witness.so"
    source = PROJECT / "tests/spank/witness.c"
    # In the lab, whose Slurm need not be the host's.
    started.lab.run(["cc", *PLUGIN_FLAGS, "-o", str(witness), str(source)], timeout_seconds=60.0)
    yield Scenes(started.lab, witness)
    started.down()


@pytest.fixture
def scenes(module_scenes: Scenes) -> Iterator[Scenes]:
    module_scenes.plugstack(module_scenes.ours())
    yield module_scenes
    assert module_scenes.undrained()


@pytest.mark.parametrize("command", ["sbatch", "srun", "salloc"])
def test_each_command_shows_our_options(scenes: Scenes, command: str) -> None:
    text = scenes.lab.run([command, "--help"], user="alice").stdout
    for name in ("workload=CLASS", "flex=FLEX", "max-hold=TIME", "finish-by=TIME", "power-cap=WATTS"):
        assert f"--{name}" in text
    for name in ("tier=TIER", "tiers-ok=TIERS", "min-quality=NUMBER"):
        assert f"--{name}" in text


def test_all_values_reach_job_hooks_and_node(scenes: Scenes) -> None:
    before = int(time.time()) + 7200
    job = scenes.sbatch(*OPTIONS, "--gres=gpu:2", f"--wrap={SHOW}")
    after = int(time.time()) + 7200
    await_job(scenes.lab, job)
    in_job = variables(output(scenes.lab, job))
    moment = in_job.pop("FINISH_BY")
    assert before <= int(moment.removeprefix("@")) <= after
    assert in_job.pop("SOCKET") == f"{scenes.lab.run_directory}/run/powerd.c1.sock"
    assert in_job.pop("RESTART") == "0"
    assert in_job.pop("ADVICE_FILE").endswith(f"/powerd.c1.advice/{job}.json")
    in_job.pop("CAP_WATTS", "")  # where the controller has been as fast as that
    assert in_job == FORMS
    for hook in HOOKS:
        assert scenes.in_hook(hook, job) == {**FORMS, "FINISH_BY": moment}, hook


def test_the_node_daemon_knows_what_the_prolog_was_told(scenes: Scenes) -> None:
    program = scenes.lab.run_directory / "home/alice/ask.py"
    program.write_text(ASK)
    job = scenes.sbatch(*OPTIONS, "--gres=gpu:1", f"--wrap=/usr/bin/python3 {program}")
    await_job(scenes.lab, job)
    [known] = json.loads(output(scenes.lab, job))
    assert (known["max_hold_seconds"], known["own_cap_watts"], known["flex"]) == (1800, 400, "flex2")
    assert known["finish_by"] > time.time()
    assert (known["tier"], known["tiers_ok"], known["min_quality"]) == (
        "digits/full",
        ["int8", "small"],
        0.95,
    )
    assert known["told_tier"] == "digits/full"


@pytest.mark.parametrize("export", ["NONE", "NIL"])
def test_whatever_export_says(scenes: Scenes, export: str) -> None:
    found = scenes.batch("--flex=1", "--power-cap=300", f"--export={export}")
    assert (found["FLEX"], found["CAP"]) == ("flex1", "300")
    words = ["srun", "--flex=1", "--power-cap=300", f"--export={export}", "/bin/sh", "-c", f"/usr/bin/{SHOW}"]
    found = variables(scenes.lab.run(words, user="alice").stdout)
    assert (found["FLEX"], found["CAP"]) == ("flex1", "300")


def test_options_in_the_script(scenes: Scenes) -> None:
    lines = "#SBATCH --flex=1 --max-hold=1h\n#SBATCH --power-cap 350W --tier a/b\n#SBATCH --tiers-ok=any\n"
    script = f"#!/bin/sh\n{lines}{SHOW}\n"
    job = scenes.lab.run(
        ["sbatch", "--parsable", "--output=%j.out", "--flex=3"], user="alice", stdin=script
    ).stdout.strip()
    await_job(scenes.lab, job)
    found = variables(output(scenes.lab, job))
    assert (found["FLEX"], found["MAX_HOLD"], found["CAP"]) == ("flex3", "3600s", "350")
    assert (found["TIER"], found["TIERS_OK"]) == ("a/b", "any")


@pytest.mark.parametrize(
    "option", ["workload", "flex", "max-hold", "finish-by", "power-cap", "tier", "min-quality"]
)
def test_a_wrong_option_submits_nothing_and_says_so_once(scenes: Scenes, option: str) -> None:
    script = f"#!/bin/sh\n#SBATCH --{option}=lots\ntrue\n"
    for command, stdin in (
        (["sbatch", f"--{option}=lots", "--wrap=true"], ""),
        (["srun", f"--{option}=lots", "true"], ""),
        (["salloc", f"--{option}=lots", "true"], ""),
        (["sbatch"], script),
    ):
        done = scenes.lab.run(command, user="alice", stdin=stdin, check=False)
        assert (done.returncode, done.stdout) == (255, ""), command
        assert len(re.findall(f"--{option}: 'lots' is n", done.stderr)) == 1, done.stderr
    assert scenes.lab.run(["squeue", "--noheader"]).stdout == ""


def test_both_contexts_of_both_plugins_in_either_order(scenes: Scenes) -> None:
    for lines in ([scenes.ours(), scenes.other()], [scenes.other(), scenes.ours()]):
        scenes.plugstack(*lines)
        scenes.log.write_text("")
        job = scenes.sbatch("--witness=me", "--flex=1", f"--wrap={SHOW}; echo WITNESS=$WITNESS")
        await_job(scenes.lab, job)
        assert "WITNESS=me" in output(scenes.lab, job)
        assert variables(output(scenes.lab, job))["FLEX"] == "flex1"
        record = scenes.lab.run_directory / "log" / f"prolog_slurmd.{job}"
        assert "SPANK_WITNESS=me" in record.read_text()
        assert scenes.in_hook("prolog", job) == {"FLEX": "flex1"}
        calls = [line.split()[1:4] for line in scenes.log.read_text().splitlines()]
        assert calls == [["post_opt", "3", "me"], ["post_opt", "2", "me"], ["user_init", "2", "me"]]
        done = scenes.lab.run(["srun", "--witness=me", "--flex=0", "sh", "-c", SHOW], user="alice")
        assert variables(done.stdout)["FLEX"] == "flex0"
        calls = [line.split()[1:3] for line in scenes.log.read_text().splitlines()[3:]]
        assert calls == [["post_opt", "1"], ["post_opt", "2"], ["user_init", "2"]]
        wrong = scenes.lab.run(["srun", "--witness=wrong", "--flex=0", "true"], user="alice", check=False)
        assert wrong.returncode == 255


def test_optional_and_required(scenes: Scenes) -> None:
    scenes.plugstack("optional /nowhere/other.so", scenes.ours())
    assert scenes.batch("--flex=1")["FLEX"] == "flex1"
    scenes.plugstack(f"required {scenes.plugin}")
    assert scenes.batch("--flex=1")["FLEX"] == "flex1"
    scenes.plugstack("required /nowhere/other.so", scenes.ours())
    done = scenes.lab.run(["sbatch", "--flex=1", "--wrap=true"], user="alice", check=False)
    assert done.returncode != 0


def test_lines_that_are_included_and_have_arguments(scenes: Scenes) -> None:
    folder = scenes.etc / "plugstack.d"
    folder.mkdir()
    socket = f"{scenes.lab.run_directory}/run/powerd.%n.sock"
    (folder / "10-power.conf").write_text(f"# ours\n{scenes.ours(f'node_socket={socket}')}\n")
    (folder / "20-witness.conf").write_text(scenes.other("name=second") + "\n")
    scenes.plugstack(f"include {folder}/*.conf")
    assert scenes.batch("--flex=1")["RESTART"] == "0"
    assert scenes.log.read_text().startswith("second post_opt 3")
    (folder / "10-power.conf").write_text(scenes.ours("conf=/nowhere/slurm-power.conf") + "\n")
    found = scenes.batch("--flex=1")
    assert found == {"FLEX": "flex1"}, "without powerd there is what the user said"
    shutil.rmtree(folder)


def test_a_node_without_the_plugin_and_one_with_it_alone(scenes: Scenes) -> None:
    job = scenes.sbatch("--hold", "--flex=1", "--finish-by=23:59", f"--wrap={SHOW}")
    bare = scenes.sbatch("--hold", f"--wrap={SHOW}", SLURM_POWER_FLEX="flex2")
    scenes.plugstack()
    scenes.lab.run(["scontrol", "release", job])
    await_job(scenes.lab, job)
    found = variables(output(scenes.lab, job))
    assert found["FLEX"] == "flex1"
    assert scenes.in_hook("prolog", job) == {"FLEX": "flex1", "FINISH_BY": found["FINISH_BY"]}
    late = scenes.sbatch("--hold", f"--wrap={SHOW}")
    scenes.plugstack(scenes.ours())
    scenes.lab.run(["scontrol", "release", f"{late},{bare}"])
    await_job(scenes.lab, late)
    found = variables(output(scenes.lab, late))
    assert set(found) == {"SOCKET", "RESTART", "ADVICE_FILE"}
    await_job(scenes.lab, bare)
    assert variables(output(scenes.lab, bare))["FLEX"] == "flex2"


def test_commands_in_a_job_keep_the_job_s_moment(scenes: Scenes) -> None:
    """Slurm offers them the job's options as typed; read again, "now+1hour" would be another moment."""
    inner = "echo $SLURM_POWER_FINISH_BY $SLURM_POWER_FLEX"
    child = "sbatch --parsable --output=child.out --wrap='echo $SLURM_POWER_FINISH_BY'"
    script = f"{inner}\nsleep 1.1\nsrun sh -c '{inner}'\nsrun --flex=1 sh -c '{inner}'\n{child}\n"
    job = scenes.sbatch("--finish-by=now+1hour", "--flex=2", f"--wrap={script}")
    await_job(scenes.lab, job)
    batch, step, other_step, child_job = output(scenes.lab, job).splitlines()
    assert batch.startswith("@") and batch == step == other_step
    assert scenes.in_hook("prolog", job)["FINISH_BY"] == batch.split()[0]
    await_job(scenes.lab, child_job)
    assert scenes.in_hook("prolog", child_job)["FINISH_BY"] == batch.split()[0]
    done = scenes.lab.run(
        [
            "salloc",
            "--finish-by=now+1hour",
            "--flex=2",
            "sh",
            "-c",
            f"{inner}\nsleep 1.1\nsrun sh -c '{inner}'",
        ],
        user="alice",
    )
    shell, step = done.stdout.splitlines()
    assert shell.startswith("@") and shell == step


def test_a_moment_that_passes_in_a_job_ends_none_of_its_commands(scenes: Scenes) -> None:
    script = (
        "sleep 2.1\nsrun true && echo step\nsbatch --parsable --output=child.out --wrap=true && echo child\n"
    )
    job = scenes.sbatch(f"--finish-by=@{int(time.time()) + 2}", f"--wrap={script}")
    await_job(scenes.lab, job)
    words = output(scenes.lab, job)
    assert "step\n" in words and "child\n" in words
    assert words.count("warning: ignoring SLURM_POWER_FINISH_BY=") == 1


def test_each_task_of_an_array(scenes: Scenes) -> None:
    job = scenes.sbatch(
        "--flex=3", "--array=1-3", "--output=%A_%a.out", f"--wrap={SHOW}; echo id $SLURM_JOB_ID"
    )
    home = scenes.lab.run_directory / "home/alice"
    for task in (1, 2, 3):
        await_job(scenes.lab, f"{job}_{task}")
        text = (home / f"{job}_{task}.out").read_text()
        assert variables(text)["FLEX"] == "flex3"
        assert scenes.in_hook("epilog", text.split("id ")[1].strip()) == {"FLEX": "flex3"}


def test_each_part_of_a_het_job_has_its_own_words(scenes: Scenes) -> None:
    show = f"echo id $SLURM_JOB_ID; {SHOW}"
    parts = [["--flex=1", "--power-cap=300"], ["--flex=2"]]
    words = ["srun", *parts[0], "-N1", "-n1", ":", *parts[1], "-N1", "-n1", "sh", "-c", show]
    text = scenes.lab.run(words, user="alice").stdout
    jobs = sorted(set(re.findall(r"id (\d+)", text)), key=int)
    first = jobs[0]
    second = str(int(first) + 1)
    assert scenes.in_hook("prolog", first) == {"FLEX": "flex1", "CAP": "300"}
    assert scenes.in_hook("prolog", second) == {"FLEX": "flex2"}
    assert sorted(re.findall(r"^SLURM_POWER_FLEX=(\w+)$", text, re.MULTILINE)) == ["flex1", "flex2"]


def test_at_each_start_the_node_is_asked_again(scenes: Scenes) -> None:
    home = scenes.lab.run_directory / "home/alice"
    job = scenes.sbatch(
        "--requeue", "--flex=1", "--open-mode=append", f"--wrap={SHOW}; test -e {home}/go || sleep 60"
    )
    scenes.lab.wait_until(lambda: "RESTART=0" in read(home / f"{job}.out"), "the first start", seconds=20)
    (home / "go").touch()
    # Slurm 22.05 starts a job that was requeued in the very second of its start again without its prolog.
    over = int((home / f"{job}.out").stat().st_mtime) + 1.0
    scenes.lab.wait_until(lambda: time.time() > over, "the second to be over", seconds=5.0)
    scenes.lab.run(["scontrol", "requeue", job])
    # It ends first, and then Slurm would let it wait for two minutes; in the second of its end its credential
    # would be a revoked one.
    scenes.lab.wait_until(lambda: scenes.lab.job(job)["JobState"] == "PENDING", "its end", seconds=20.0)
    scenes.lab.run(["scontrol", "update", f"jobid={job}", "starttime=now+2"])
    await_job(scenes.lab, job, seconds=60)
    assert re.findall(r"RESTART=(\d)", read(home / f"{job}.out")) == ["0", "1"]


def test_a_job_queued_again_goes_on_with_the_tier_that_was_ordered(scenes: Scenes) -> None:
    """The order is as powerd keeps it for a start to come; it outlives powerd."""
    home, lab = scenes.lab.run_directory / "home/alice", scenes.lab
    show = f"{SHOW}; srun sh -c 'echo STEP_TIER=$SLURM_POWER_TIER'"
    job = scenes.sbatch(
        *("--requeue", "--open-mode=append", "--nodelist=c1", *OPTIONS[-3:]),
        f"--wrap={show}; test -e {home}/moved || sleep 60",
    )
    log = home / f"{job}.out"
    lab.wait_until(lambda: "STEP_TIER=" in read(log), "the first start", seconds=20)
    name = next(name for name in lab.daemon_names if name.startswith("powerd") and "c1" in name)

    def known() -> list[Path]:
        return [file for file in lab.run_directory.rglob("front/jobs.json") if f'"{job}"' in read(file)]

    lab.wait_until(lambda: bool(known()), "powerd's record", seconds=10.0)
    [kept] = known()
    # No controller is there to say otherwise.
    lab.stop(name, "powerctld")
    document = json.loads(kept.read_text())
    order = {"job_id": job, "tier": "digits/int8", "model": "/models/int8", "restart_count": 1}
    kept.write_text(json.dumps({**document, "tier_orders": [order]}))
    lab.start(name)
    (home / "moved").touch()
    over = int(log.stat().st_mtime) + 1.0
    lab.wait_until(lambda: time.time() > over, "the second to be over", seconds=5.0)
    lab.run(["scontrol", "requeue", job])
    lab.wait_until(lambda: lab.job(job)["JobState"] == "PENDING", "its end", seconds=20.0)
    lab.run(["scontrol", "update", f"jobid={job}", "starttime=now+2"])
    await_job(lab, job, seconds=60)
    text = read(log)
    assert re.findall(r"^SLURM_POWER_TIER=(.*)$", text, re.MULTILINE) == ["digits/full", "digits/int8"]
    assert re.findall(r"^STEP_TIER=(.*)$", text, re.MULTILINE) == ["digits/full", "digits/int8"]
    assert re.findall(r"^SLURM_POWER_MODEL=(.*)$", text, re.MULTILINE) == ["/models/int8"]
    assert re.findall(r"^SLURM_POWER_TIERS_OK=(.*)$", text, re.MULTILINE) == ["int8,small"] * 2
    assert scenes.in_hook("prolog", job)["TIER"] == "digits/full"
    lab.start("powerctld")


@pytest.mark.parametrize("state", ["stopped", "gone"])
def test_a_powerd_that_hangs_or_is_gone_fails_no_job(scenes: Scenes, state: str) -> None:
    """Its halves are stopped, or it is not there at all: prolog, steps and epilog go on without it."""
    name = next(name for name in scenes.lab.daemon_names if name.startswith("powerd") and "c1" in name)
    if state == "gone":
        scenes.lab.stop(name)
    else:
        halves(scenes.lab, signal.SIGSTOP)
    try:
        began = time.monotonic()
        found = scenes.batch("--flex=1", "--nodelist=c1")
        assert found == {"FLEX": "flex1"}
        assert time.monotonic() - began < 10.0
        words = ["srun", "--nodelist=c1", "--flex=1", "true"]
        assert scenes.lab.run(words, user="alice").stderr == ""
    finally:
        if state == "gone":
            scenes.lab.start(name)
        else:
            halves(scenes.lab, signal.SIGCONT)


def halves(lab: Lab, number: signal.Signals) -> None:
    """Send every process of c1's powerd a signal."""
    # Of this lab and this node, and not the shell that looks for them.
    pattern = f"{lab.run_directory}/.*[p]owerd.*c1"
    lab.run(["sh", "-c", f"kill -{number.value} $(pgrep -f '{pattern}')"])
