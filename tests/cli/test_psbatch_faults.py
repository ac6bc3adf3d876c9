"""Whatever is broken around psbatch or in it, the job reaches sbatch, once, as its user told sbatch."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.recorder import PROJECT, Recorder, controller, make_recorder

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount and change its user")
SBATCH = """#!/bin/sh
echo "$*" >> "$RECORD/started"
echo "${SLURM_POWER_FLEX-none}" >> "$RECORD/flex"
"""


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return make_recorder(tmp_path)


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A folder that any user may use, with an sbatch that needs no process of its own."""
    place = Path(tempfile.mkdtemp(prefix="sp-psbatch-"))
    try:
        place.chmod(0o777)
        (place / "bin").mkdir()
        (place / "bin/sbatch").write_text(SBATCH)
        for path in (place / "bin", place / "bin/sbatch"):
            path.chmod(0o755)
        yield place
    finally:
        shutil.rmtree(place)


def environment(place: Path, **more: str) -> dict[str, str]:
    return {
        "PATH": f"{place}/bin:/usr/bin:/bin",
        "PYTHONPATH": str(PROJECT),
        "RECORD": str(place),
        "SLURM_POWER_CONF": str(place / "slurm-power.conf"),
        "PYTHONDONTWRITEBYTECODE": "1",
        **more,
    }


def started(place: Path) -> list[str]:
    file = place / "started"
    return file.read_text().splitlines() if file.exists() else []


PSBATCH = [sys.executable, "-m", "slurm_power.cli.psbatch"]

# Each breaks one thing in psbatch, then runs it.
BROKEN = {
    "submission": "sys.modules['slurm_power.cli.submission'] = None",
    "configuration": "from slurm_power.cli import plain_conf; plain_conf.read_plain = broken",
    "choosing": "from slurm_power.cli import choices; choices.choose = broken",
    "script": "from slurm_power.cli import choices; choices.from_script = broken",
    "memory": "from slurm_power.cli import choices; choices.from_script = out_of_memory",
    "hint": "from slurm_power.cli import hint; hint.announce = broken",
    "options": "from slurm_power.cli import sbatch_options; sbatch_options.our_name = broken",
}
CODE = """
import sys
def broken(*arguments, **more):
    raise RuntimeError("broken on purpose")
def out_of_memory(*arguments, **more):
    raise MemoryError
{breaks}
from slurm_power.cli.psbatch import main
sys.exit(main())
"""


@pytest.mark.parametrize("what", list(BROKEN))
def test_a_fault_of_our_own_submits_plainly(recorder: Recorder, what: str) -> None:
    command = (sys.executable, "-c", CODE.format(breaks=BROKEN[what]))
    recorder.site("controller=127.0.0.1:1\n")
    outcome = recorder.run("--flex=2", "-N1", "job.sh", "--flex=x", command=command, status=5)
    # Options that cannot be told apart all go to sbatch: our plugin knows ours.
    left = [b"--flex=2"] if what == "options" else []
    assert outcome.argv == [*left, b"-N1", b"job.sh", b"--flex=x"]
    assert outcome.status == 5
    if what == "hint":  # all that matters was done before
        assert outcome.environ[b"SLURM_POWER_FLEX"] == b"flex2"
    assert outcome.stderr.count(b"\n") == 1
    assert outcome.stderr.startswith(b"psbatch: fault of psbatch (")
    assert outcome.stderr.endswith(b": submitting plainly\n")


@pytest.mark.parametrize("word", ["--dry-run", "--dry", "--explain", "--print-script", "--completion=bash"])
def test_a_fault_never_submits_what_was_not_to_be_submitted(recorder: Recorder, word: str) -> None:
    command = (sys.executable, "-c", CODE.format(breaks=BROKEN["submission"]))
    outcome = recorder.run(word, "job.sh", command=command)
    assert (outcome.status, outcome.argv) == (1, None)
    assert outcome.stderr.endswith(b"nothing was submitted\n")


def test_a_fault_before_json_submits_and_one_after_it_not_again(recorder: Recorder) -> None:
    before = "import os; os.posix_spawn = broken"
    outcome = recorder.run("--json", "job.sh", command=(sys.executable, "-c", CODE.format(breaks=before)))
    assert outcome.argv == [b"job.sh"]
    assert b"submitting plainly" in outcome.stderr
    after = "from slurm_power.cli import json_submission; json_submission._parsed = broken"
    (recorder.directory / "bin/sbatch").write_text(SBATCH)
    code = CODE.format(breaks=after)
    done = subprocess.run(
        [sys.executable, "-c", code, "--json", "job.sh"],
        env=environment(recorder.directory),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert started(recorder.directory) == ["--parsable job.sh"]
    assert done.returncode == 1
    assert b"sbatch goes on" in done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- 2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams(open_place: Path, closed: str) -> None:
    """What is closed stays closed for sbatch, and no message of ours lands in what is opened in its place."""
    sbatch = '#!/bin/sh\nfor n in 0 1 2; do if [ -e /proc/$$/fd/$n ]; then open="$open$n"; fi; done\n'
    # The shell itself opens its script at 10 or above.
    (open_place / "bin/sbatch").write_text(f'{sbatch}echo "$open" >> "$RECORD/started"\n')
    with controller(b'{"type":"noted"}\n') as (address, received):
        (open_place / "slurm-power.conf").write_text(f"controller={address}\ndefault_flex=lots\n")
        line = f"exec {' '.join(PSBATCH)} --flexx=1 --flex=1 job.sh {closed}"
        subprocess.run(["/bin/sh", "-c", line], env=environment(open_place), check=False, timeout=30)
    assert received == [b'{"type":"submitting"}\n']
    names = {"<": "0", ">": "1", "2": "2"}
    open_ones = {"0", "1", "2"} - {names[word[0]] for word in closed.split()}
    assert started(open_place) == ["".join(sorted(open_ones))]


def test_full_outputs(open_place: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        for arguments in (["--flexx=1", "job.sh"], ["--json", "job.sh"]):
            subprocess.run(
                [*PSBATCH, *arguments],
                env=environment(open_place),
                stdout=full,
                stderr=full,
                stdin=subprocess.DEVNULL,
                check=False,
                timeout=30,
            )
    assert started(open_place) == ["--flexx=1 job.sh", "--parsable job.sh"]


def test_a_reader_of_stderr_that_has_stopped(open_place: Path) -> None:
    source, target = os.pipe()
    try:
        os.set_blocking(target, False)
        with pytest.raises(BlockingIOError):
            while True:
                os.write(target, b"x" * 4096)
        os.set_blocking(target, True)
        done = subprocess.run(
            [*PSBATCH, "job.sh"],
            env=environment(open_place),
            stderr=target,
            stdin=subprocess.DEVNULL,
            check=False,
            timeout=30,
        )
    finally:
        os.close(source)
        os.close(target)
    assert (done.returncode, started(open_place)) == (0, ["job.sh"])


@pytest.mark.parametrize(
    "bad", [b"\x00\xff=\xfe\n=\n==\n\n#\n" * 100, os.urandom(200_000), b"controller=\xff:99999\n"]
)
def test_garbage_in_the_sites_file(open_place: Path, bad: bytes) -> None:
    (open_place / "slurm-power.conf").write_bytes(bad)
    done = subprocess.run(
        [*PSBATCH, "--flex=1", "job.sh"],
        env=environment(open_place),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert (done.returncode, started(open_place)) == (0, ["job.sh"])
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("kind", ["loop", "directory", "pipe", "device", "missing folder"])
def test_configuration_that_is_no_file(open_place: Path, kind: str) -> None:
    place = open_place / "slurm-power.conf"
    match kind:
        case "loop":
            place.symlink_to(place)
        case "directory":
            place.mkdir()
        case "pipe":
            os.mkfifo(place)
        case "device":
            place.symlink_to("/dev/zero")
        case _:
            pass
    more = {"SLURM_POWER_CONF": "/nonexistent/x"} if kind == "missing folder" else {}
    done = subprocess.run(
        [*PSBATCH, "job.sh"],
        env=environment(open_place, **more),
        stdin=subprocess.DEVNULL,
        check=False,
        timeout=30,
    )
    assert (done.returncode, started(open_place)) == (0, ["job.sh"])


def test_scripts_that_are_huge_missing_or_a_pipe(open_place: Path) -> None:
    huge = open_place / "huge.sh"
    huge.write_text("#!/bin/sh\n#PSBATCH --flex=2\n")
    os.truncate(huge, 1 << 40)
    os.mkfifo(open_place / "pipe.sh")
    scripts = [str(huge), str(open_place / "pipe.sh"), "/nonexistent/job.sh", str(open_place), ""]
    for script in scripts:
        subprocess.run(
            [*PSBATCH, script], env=environment(open_place), stdin=subprocess.DEVNULL, check=True, timeout=30
        )
    assert started(open_place) == scripts
    assert (open_place / "flex").read_text().split() == ["flex2", "none", "none", "none", "none"]


def test_without_home_or_environment(open_place: Path) -> None:
    bare = {"RECORD": str(open_place), "PYTHONPATH": str(PROJECT), "PATH": f"{open_place}/bin"}
    done = subprocess.run([*PSBATCH, "job.sh"], env=bare, stdin=subprocess.DEVNULL, check=False, timeout=30)
    assert (done.returncode, started(open_place)) == (0, ["job.sh"])


def test_a_folder_that_has_gone(open_place: Path) -> None:
    gone = open_place / "gone"
    gone.mkdir()
    line = f"rmdir {gone}; exec {' '.join(PSBATCH)} --flex=1 job.sh"
    subprocess.run(["/bin/sh", "-c", line], env=environment(open_place), cwd=gone, check=True, timeout=30)
    assert started(open_place) == ["job.sh"]


def for_anybody(place: Path) -> list[str]:
    """The words that start psbatch where nobody may read the checkout and its virtual environment."""
    package = place / "python/slurm_power"
    shutil.copytree(PROJECT / "slurm_power/cli", package / "cli", ignore=shutil.ignore_patterns("commands"))
    for name in ("__init__.py", "clock.py"):
        shutil.copyfile(PROJECT / "slurm_power" / name, package / name)
    for path in [package.parent, *package.parent.rglob("*")]:
        path.chmod(0o755)
    return [os.path.realpath(sys.executable), "-m", "slurm_power.cli.psbatch"]


@needs_root
@pytest.mark.parametrize("arguments", [["job.sh"], ["--json", "job.sh"]])
def test_no_process_and_no_thread_to_be_had(open_place: Path, arguments: list[str]) -> None:
    """The hint needs a thread and --json a child: without them a plain submission is left."""
    (open_place / "slurm-power.conf").write_text("controller=127.0.0.1:1\n")
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--"]
    psbatch = for_anybody(open_place)
    if subprocess.run([*nobody, psbatch[0], "-c", "pass"], check=False).returncode != 0:
        pytest.skip("nobody but root may run this Python")
    done = subprocess.run(
        [*nobody, "prlimit", "--nproc=1:1", "--", *psbatch, *arguments],
        env=environment(open_place, PYTHONPATH=str(open_place / "python")),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        cwd=open_place,
        check=False,
        timeout=30,
    )
    assert (done.returncode, started(open_place)) == (0, ["job.sh"]), done.stderr
    lines = done.stderr.splitlines()
    assert b"no thread could be started" in lines[0]
    assert lines[-1].endswith(b"submitting plainly")
    assert len(lines) == len(arguments)


@needs_root
@pytest.mark.parametrize("word", ["", "--json"])
def test_a_name_service_that_hangs(open_place: Path, word: str) -> None:
    """A resolver that gets the question and never answers, in a mount namespace of psbatch's own."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.77.0.1", 53))
        (open_place / "resolv.conf").write_text("nameserver 127.77.0.1\noptions timeout:30\n")
        (open_place / "nsswitch.conf").write_text("hosts: dns\npasswd: files\n")
        (open_place / "slurm-power.conf").write_text("controller=powerctld.example.org:6820\n")
        mounts = [
            f"mount --bind {open_place}/{name} /etc/{name}" for name in ("resolv.conf", "nsswitch.conf")
        ]
        line = " && ".join([*mounts, f"exec {' '.join(PSBATCH)} {word} job.sh"])
        began = time.monotonic()
        done = subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", line],
            env=environment(open_place),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=30,
        )
        took_seconds = time.monotonic() - began
        silent.settimeout(1.0)
        assert b"powerctld" in silent.recv(512)
    told = ["--parsable job.sh"] if word else ["job.sh"]
    assert (done.returncode, started(open_place)) == (0, told), done.stderr
    assert b"no answer within 150 ms" in done.stderr
    assert took_seconds < 10.0


def test_a_hung_controller_and_json(open_place: Path) -> None:
    with controller(None) as (address, _):
        (open_place / "slurm-power.conf").write_text(f"controller={address}\n")
        done = subprocess.run(
            [*PSBATCH, "--json", "job.sh"],
            env=environment(open_place),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=30,
        )
    found = json.loads(done.stdout)
    assert found["warnings"] == [
        f"no power controller at {address} (no answer within 150 ms): submitting plainly"
    ]


def test_a_slow_writer_of_the_script(open_place: Path) -> None:
    """The script comes piece by piece, as from a program that writes it."""
    (open_place / "bin/sbatch").write_text(SBATCH + 'cat > "$RECORD/script"\n')
    process = subprocess.Popen(PSBATCH, env=environment(open_place), stdin=subprocess.PIPE)
    pieces = [b"#!/bin/sh\n#PSB", b"ATCH --fl", b"ex=2\ntrue\n"]
    stdin = process.stdin
    assert stdin is not None

    def write() -> None:
        for piece in pieces:
            stdin.write(piece)
            stdin.flush()
            while fcntl_left(stdin.fileno()):
                time.sleep(0.01)
        stdin.close()

    thread = threading.Thread(target=write)
    thread.start()
    assert process.wait(30) == 0
    thread.join()
    assert (open_place / "script").read_bytes() == b"".join(pieces)
    assert (open_place / "flex").read_text() == "flex2\n"


def fcntl_left(descriptor: int) -> int:
    """Bytes in a pipe that nobody has read yet."""
    import array
    import fcntl
    import termios

    left = array.array("i", [0])
    fcntl.ioctl(descriptor, termios.FIONREAD, left)
    return left[0]
