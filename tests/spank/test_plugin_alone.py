"""The plugin's logic under address and undefined-behaviour sanitizers, without a cluster."""

import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.spank.building import PROJECT, SOURCES, build_driver, build_plugin

SRUN, NODE, SBATCH = "1", "2", "3"
BATCH_STEP, EXTERN_STEP = "0xfffffffb", "0xfffffffc"
# 200 ms, and what a busy machine adds between two looks at a clock.
ASK_SECONDS = 0.6

SOON, LATER = (f"@{int(time.time()) + seconds}" for seconds in (3600, 7200))

Drive = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Drive:
    program = tmp_path_factory.mktemp("spank") / "drive"
    build_driver(program, *SOURCES, PROJECT / "tests/spank/drive.c")

    def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(program), *arguments],
            env=environ,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

    return run


def test_builds_as_documented(tmp_path: Path) -> None:
    target = build_plugin(tmp_path / "slurm_power.so")
    symbols = subprocess.run(
        ["nm", "--dynamic", "--defined-only", str(target)], capture_output=True, text=True, check=True
    )
    names = set(re.findall(r" [A-Z] (\w+)$", symbols.stdout, re.MULTILINE))
    # Nothing that could meet a name of another plugin.
    plugin = {"plugin_name", "plugin_type", "plugin_version", "spank_plugin_version"}
    assert names == plugin | {"slurm_spank_init", "slurm_spank_init_post_opt"}


@pytest.mark.parametrize("context", [SRUN, SBATCH])
def test_options_reach_hooks_and_job(drive: Drive, context: str) -> None:
    words = ["workload=inference", "flex=2", "max-hold=30", f"finish-by={SOON}", "power-cap=0.4kW"]
    words += ["tier=digits/full", "tiers-ok=small,int8", "min-quality=0.950"]
    done = drive(context, *words)
    assert done.returncode == 0
    carried = ["WORKLOAD=inference", "FLEX=flex2", "MAX_HOLD=1800s", f"FINISH_BY={SOON}", "CAP=400"]
    carried += ["TIER=digits/full", "TIERS_OK=int8,small", "MIN_QUALITY=0.95"]
    assert done.stdout.splitlines() == [
        *[f"control POWER_{word}" for word in carried],
        *[f"process SLURM_POWER_{word}" for word in carried],
    ]


def test_environment_stands_in_for_options_not_given(drive: Drive) -> None:
    around = {"SLURM_POWER_WORKLOAD": "generation", "SLURM_POWER_FLEX": "1", "SLURM_POWER_MAX_HOLD": "2h"}
    done = drive(SBATCH, "workload=training", **around)
    assert "control POWER_WORKLOAD=training" in done.stdout
    assert "control POWER_FLEX=flex1" in done.stdout
    assert "process SLURM_POWER_FLEX=flex1" in done.stdout
    assert "control POWER_MAX_HOLD=7200s" in done.stdout


AROUND = {
    "SLURM_JOB_ID": "17",
    "SLURM_POWER_FLEX": "flex1",
    "SLURM_POWER_TIER": "a/b",
    "SLURM_POWER_TIERS_OK": "any",
    "SLURM_POWER_MIN_QUALITY": "0.5",
}


def test_a_job_hands_its_words_on_but_not_its_tier(drive: Drive) -> None:
    done = drive(SBATCH, **AROUND)
    assert done.stdout.splitlines() == ["control POWER_FLEX=flex1", "process SLURM_POWER_FLEX=flex1"]
    done = drive(SBATCH, "tier=c/d", **AROUND)
    assert "process SLURM_POWER_TIER=c/d" in done.stdout
    assert "TIERS_OK" not in done.stdout
    for said in (drive(SBATCH, SLURM_POWER_SAID="1", **AROUND), drive(SRUN, **AROUND)):
        assert "control POWER_TIER=a/b" in said.stdout
        assert "process SLURM_POWER_TIERS_OK=any" in said.stdout
    outside = {name: value for name, value in AROUND.items() if name != "SLURM_JOB_ID"}
    assert "control POWER_TIER=a/b" in drive(SBATCH, **outside).stdout


@pytest.mark.parametrize("value", ["flex9", "x" * 5000, "4", "%s%n", "\x01", "flex1 "])
def test_wrong_environment_is_ignored_with_a_warning(drive: Drive, value: str) -> None:
    done = drive(SBATCH, SLURM_POWER_FLEX=value)
    assert done.returncode == 0
    assert "control" not in done.stdout
    assert done.stderr.startswith("slurm_info: warning: ignoring SLURM_POWER_FLEX=")
    assert "is not one of flex0, flex1, flex2, flex3" in done.stderr or len(value) > 80
    assert done.stderr.count("\n") == 1
    assert len(done.stderr) < 200


@pytest.mark.parametrize(
    ("option", "forms"),
    [
        ("workload", "is not one of training, inference, generation"),
        ("flex", "is not one of flex0, flex1, flex2, flex3"),
        (
            "max-hold",
            "is no time: minutes (30), MM:SS, HH:MM:SS, D-HH[:MM[:SS]], or a number with s, m, h or d",
        ),
        (
            "finish-by",
            "is no moment: YYYY-MM-DD[THH:MM[:SS]], HH:MM[:SS], now+N[minutes|hours|days] or @EPOCH",
        ),
        ("power-cap", "is no power: watts per GPU: 400, 400W or 0.4kW"),
        ("tier", "is no tier: FAMILY/TIER, each of a to z, 0 to 9, dot, dash and underscore"),
        (
            "min-quality",
            "is no quality: a number as 0.95, with at most 9 digits before and 6 behind the point",
        ),
    ],
)
@pytest.mark.parametrize("value", ["", "lots", "%s%n"])
def test_wrong_option_ends_the_command(drive: Drive, option: str, forms: str, value: str) -> None:
    done = drive(SBATCH, f"{option}={value}")
    assert done.returncode == 11
    assert done.stderr.startswith(f"slurm_error: --{option}: '{value}' {forms}")
    assert done.stderr.count("\n") == 1


def test_a_wrong_option_is_shown_short_and_printable(drive: Drive) -> None:
    assert "'xxx" in drive(SBATCH, "flex=" + "x" * 5000).stderr
    assert len(drive(SBATCH, "flex=" + "x" * 5000).stderr) < 120
    assert "'a?[31mb?c'" in drive(SBATCH, "flex=a\x1b[31mb\nc").stderr


def test_wrong_option_on_a_node_fails_no_job(drive: Drive) -> None:
    done = drive(NODE, "workload=word-of-a-newer-version", "flex=flex3", STEP=BATCH_STEP)
    assert done.returncode == 0
    assert [line for line in done.stdout.splitlines() if line.startswith("job")] == [
        "job SLURM_POWER_FLEX=flex3 unless set"
    ]


def test_nothing_said_leaves_everything_alone(drive: Drive) -> None:
    for context in (SRUN, SBATCH):
        done = drive(context, SLURM_POWER_FLEX="")
        assert (done.returncode, done.stdout, done.stderr) == (0, "process SLURM_POWER_FLEX=\n", "")


def test_refusals_of_slurm_lose_no_submission(drive: Drive) -> None:
    assert drive(SBATCH, "workload=training", "flex=3", REFUSE="1").returncode == 0
    assert drive(NODE, "workload=training", "flex=3", REFUSE="1").returncode == 0


INHERITED = "SLURM_SPANK__SLURM_SPANK_OPTION_slurm_power_finish_by"


@pytest.mark.parametrize("text", ["@1000000000", "now+1hour", "00:00:01"])
@pytest.mark.parametrize("context", [SRUN, SBATCH])
def test_in_a_job_its_own_options_end_nothing_and_are_not_read_again(
    drive: Drive, context: str, text: str
) -> None:
    """Slurm offers each command in a job the job's options, as they were typed when it was submitted."""
    around = {INHERITED: text, "SLURM_POWER_FINISH_BY": SOON, "SLURM_JOB_ID": "17"}
    done = drive(context, f"finish-by={text}", **around)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"control POWER_FINISH_BY={SOON}\n" in done.stdout
    done = drive(context, f"finish-by={text}", f"finish-by={LATER}", **around)
    assert f"control POWER_FINISH_BY={LATER}\n" in done.stdout
    assert drive(context, f"finish-by={text}", "finish-by=soon", **around).returncode == 11


def test_a_moment_that_has_passed_since_the_job_was_submitted(drive: Drive) -> None:
    """A step says nothing of it; a new submission is told that this moment does not count."""
    around = {"SLURM_POWER_FINISH_BY": "@1000000000", "SLURM_JOB_ID": "17"}
    step = drive(SRUN, **around)
    assert (step.returncode, step.stderr) == (0, "")
    submission = drive(SBATCH, **around)
    assert submission.returncode == 0
    assert "ignoring SLURM_POWER_FINISH_BY='@1000000000': is in the past" in submission.stderr
    assert "control" not in step.stdout + submission.stdout


def test_parts_of_a_het_job_have_options_of_their_own(drive: Drive) -> None:
    done = drive(SRUN, "flex=1", "power-cap=300", "/", "flex=2", "/", SLURM_POWER_MAX_HOLD="60s")
    parts = [part.splitlines() for part in done.stdout.split("/\n")]
    hold = "control POWER_MAX_HOLD=60s"
    assert parts[0] == ["control POWER_FLEX=flex1", hold, "control POWER_CAP=300"]
    assert parts[1] == ["control POWER_FLEX=flex2", hold]
    assert [line for line in parts[2] if line.startswith("control")] == [hold]


Answer = Callable[[socket.socket], None]


@contextmanager
def powerd(path: Path, answer: Answer) -> Iterator[list[bytes]]:
    """A server in powerd's place, for one request; gives what it was asked."""
    asked: list[bytes] = []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        with suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(2.0)
                asked.append(connection.recv(4096))
                answer(connection)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield asked
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()


GOOD = b"SLURM_POWER_SOCKET=/run/p.sock\nSLURM_POWER_RESTART=2\n.\n"


@pytest.mark.parametrize("step", ["0", "7", BATCH_STEP, "0xfffffffa"])
def test_what_powerd_says_is_put_into_the_job(drive: Drive, tmp_path: Path, step: str) -> None:
    with powerd(tmp_path / "c1.sock", lambda connection: connection.sendall(GOOD)) as asked:
        done = drive(NODE, f"node_socket={tmp_path}/%n.sock", STEP=step, SLURMD_NODENAME="c1")
    assert asked == [b'{"op":"environment","job_id":"17"}\n']
    assert done.stdout.splitlines()[:2] == ["job SLURM_POWER_SOCKET=/run/p.sock", "job SLURM_POWER_RESTART=2"]
    assert done.stderr == ""


@pytest.mark.parametrize(("before", "forgets"), [("digits/full", True), ("digits/int8", False), ("", False)])
def test_a_moved_job_does_not_ask_for_its_old_gpus(
    drive: Drive, tmp_path: Path, before: str, forgets: bool
) -> None:
    answer = b"SLURM_POWER_TIER=digits/int8\n.\n"
    environ = {"JOB_SLURM_POWER_TIER": before} if before else {}
    with powerd(tmp_path / "c1.sock", lambda connection: connection.sendall(answer)):
        done = drive(NODE, f"node_socket={tmp_path}/c1.sock", STEP=BATCH_STEP, **environ)
    forgotten = ["job without SLURM_GPUS", "job without SLURM_GPUS_PER_NODE"] if forgets else []
    lines = [line for line in done.stdout.splitlines() if "without" in line or "TIER" in line]
    assert lines == [*forgotten, "job SLURM_POWER_TIER=digits/int8"]


@pytest.mark.parametrize("argument", [True, False])
def test_slurm_power_conf_names_the_socket(drive: Drive, tmp_path: Path, argument: bool) -> None:
    conf = tmp_path / "slurm-power.conf"
    conf.write_text(
        f"# of nodes\nnode_socket_old = /nowhere\n  node_socket = {tmp_path}/%n.sock \t\ncontroller=x:1\n"
    )
    environ = {
        "SLURMD_NODENAME": "c2",
        "SLURM_CONF": "/nowhere/slurm.conf" if argument else f"{tmp_path}/slurm.conf",
    }
    with powerd(tmp_path / "c2.sock", lambda connection: connection.sendall(GOOD)):
        done = drive(NODE, *([f"conf={conf}"] if argument else []), **environ)
    assert "job SLURM_POWER_RESTART=2" in done.stdout


def test_nobody_asks_for_the_container_of_foreign_processes(drive: Drive, tmp_path: Path) -> None:
    with powerd(tmp_path / "sock", lambda connection: connection.sendall(GOOD)) as asked:
        done = drive(NODE, f"node_socket={tmp_path}/sock", STEP=EXTERN_STEP)
    assert (done.returncode, asked) == (0, [])


def drip(connection: socket.socket) -> None:
    with suppress(OSError):
        for number in range(40):
            connection.sendall(GOOD[number : number + 1])
            time.sleep(0.05)  # as slow as that, and not a wait for anything


ANSWERS: dict[str, Answer] = {
    "nothing": lambda _connection: None,
    "garbage": lambda connection: connection.sendall(bytes(range(256)) * 4),
    "half": lambda connection: connection.sendall(GOOD[:-2]),
    "foreign": lambda connection: connection.sendall(b"LD_PRELOAD=/tmp/x.so\n.\n"),
    "mixed": lambda connection: connection.sendall(b"SLURM_POWER_A=1\nLD_PRELOAD=/tmp/x.so\n.\n"),
    "refusal": lambda connection: connection.sendall(b'{"ok":false,"error":"no such job"}\n'),
    "endless": lambda connection: connection.sendall(b"SLURM_POWER_A=1\n" * 10_000),
    "drip": drip,
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_mad_powerd_changes_nothing_and_holds_nobody_up(drive: Drive, tmp_path: Path, name: str) -> None:
    def answer(connection: socket.socket) -> None:
        with suppress(OSError):
            ANSWERS[name](connection)

    with powerd(tmp_path / "sock", answer):
        done = drive(NODE, f"node_socket={tmp_path}/sock")
    assert_harmless(done)


def assert_harmless(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0
    assert re.fullmatch(r"took \d+\n", done.stdout)
    assert int(done.stdout.split()[1]) < 1000 * ASK_SECONDS
    assert re.fullmatch(r"slurm_verbose: slurm_power: .*\n", done.stderr)


def test_a_powerd_that_never_accepts_or_is_not_there(drive: Drive, tmp_path: Path) -> None:
    full = socket.socket(socket.AF_UNIX)
    full.bind(str(tmp_path / "full"))
    full.listen(0)
    waiting = socket.socket(socket.AF_UNIX)
    waiting.connect(str(tmp_path / "full"))
    hung = socket.socket(socket.AF_UNIX)
    hung.bind(str(tmp_path / "hung"))
    hung.listen()
    (tmp_path / "file").write_text("no socket")
    for name in ("full", "hung", "file", "missing"):
        assert_harmless(drive(NODE, f"node_socket={tmp_path}/{name}"))
    assert_harmless(drive(NODE, "node_socket=/" + "x" * 200))
    assert_harmless(drive(NODE, f"conf={tmp_path}/missing"))
    for listener in (full, waiting, hung):
        listener.close()


def test_a_socket_that_may_not_be_opened(drive: Drive, tmp_path: Path) -> None:
    """As root there is no such thing: here the folder is none."""
    (tmp_path / "file").write_text("")
    assert_harmless(drive(NODE, f"node_socket={tmp_path}/file/sock"))
