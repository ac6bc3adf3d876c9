"""docs/quickstart.md and docs/upgrading.md, followed literally on one lab."""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers.cluster.lab import Lab
from containers.cluster.layout import CHECKOUT, Options
from containers.cluster.lifecycle import up
from slurm_power.store.sqlite import SqliteStore
from tests.install.followed import follow, steps
from tests.install.shells import shells

DEMO = "/tmp/slurm-power-demo"
pytestmark = [pytest.mark.slurm, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """The cluster that `make cluster-up` leaves running."""
    started = up(Options(power=True))
    yield started.lab
    started.down()


def quickstart() -> str:
    return (CHECKOUT / "docs/quickstart.md").read_text()


def test_a_stranger_gets_to_shadow_mode(lab: Lab, tmp_path: Path) -> None:
    inside, made = shells(lab), []

    def run(who: str, command: str) -> tuple[int, str]:
        if who == "the host":
            # From nothing: what the slow test does in an empty folder.
            made.append(command)
            lines = (
                "",
                f"export SLURM_CONF={lab.layout.slurm_conf}",
                f"export PATH={lab.run_directory}/bin:",
            )
            return 0, f"{lab.run_directory}" + "\n".join(lines)
        if command.startswith("export "):
            return 0, ""  # a shell inside the lab is pointed at it
        if command.startswith(f"python -m containers.cluster restart --dir {lab.run_directory} "):
            lab.restart(command.rpartition(" ")[2])
            return 0, ""
        return inside(who, command)

    follow(quickstart().replace(DEMO, str(lab.run_directory)), run)
    assert [command.split()[0] for command in made] == ["git", "make", "make"]
    page = lab.run_directory / "shadow.html"
    assert "<svg" in page.read_text() and "How sure this is" in page.read_text()


def test_a_copy_is_made_and_put_back_beside_a_live_controller(lab: Lab) -> None:
    inside = shells(lab)
    state = lab.run_directory / "state" / "powerctld"
    text = (CHECKOUT / "docs/upgrading.md").read_text()
    text = text.replace("/var/lib/slurm-power/powerctld", str(state)).replace(
        "/var/backups", str(lab.run_directory)
    )
    text = text.replace("slurm-power store version\n", f"slurm-power store version --state {state}\n")
    for command in ("backup", "restore", "check\n"):
        with_state = f"slurm-power store {command.strip()} --state {state}" + command[len(command.strip()) :]
        text = text.replace(f"$ slurm-power store {command}", f"$ {with_state}")

    def run(who: str, command: str) -> tuple[int, str]:
        match who, command:
            case "reader", "stops powerctld":
                status, said = inside("root", f"slurm-power store restore --state {state} --from {copy}")
                assert status == 2 and "stop powerctld first" in said
                lab.stop("powerctld")
            case "reader", "starts powerctld":
                lab.start("powerctld")
            case _:
                return inside(who, command)
        return 0, ""

    copy = lab.run_directory / "slurm-power-before"
    follow(text, run)
    lab.await_service("powerctld")
    store = SqliteStore(state / "powerctld.sqlite", read_only=True)
    put_back = SqliteStore(copy / "powerctld.sqlite", read_only=True)
    try:
        before = put_back.entries()
        # It answers before its first entry is on disk.
        lab.wait_until(lambda: len(store.entries()) > len(before), "a new entry", seconds=20)
        after = store.entries()
        assert store.broken_at_sequence() is None
        # It goes on where the copy ended.
        assert after[: len(before)] == before
        assert after[len(before)].kind == "start"
    finally:
        store.close()
        put_back.close()


def test_every_step_shows_something() -> None:
    for name, least in (("quickstart", 15), ("upgrading", 5)):
        found = steps((CHECKOUT / f"docs/{name}.md").read_text())
        assert len([step for step in found if step.who != "reader"]) >= least
        assert sum(bool(step.shown) for step in found) >= least * 2 // 3


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_whole_page_from_an_empty_folder(tmp_path: Path) -> None:
    """A fresh clone, a new virtual environment, the packages: nothing but the page's commands."""
    source = tmp_path / "source"
    # Users of the cluster have to get there, and paths of sockets are short.
    demo = Path(tempfile.mkdtemp(prefix="sp-", dir="/tmp")) / "demo"
    demo.parent.chmod(0o755)
    # Of what is committed: a stranger has nothing else.
    subprocess.run(["git", "clone", "--quiet", str(CHECKOUT), str(source)], check=True)
    text = quickstart().replace("git clone URL", f"git clone --quiet {source}").replace(DEMO, str(demo))
    state = tmp_path / "shell"
    environment = {
        "HOME": str(tmp_path),
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LAB": str(demo),
        "COLUMNS": "120",
        "LC_ALL": "C.UTF-8",
    }

    def run(who: str, command: str) -> tuple[int, str]:
        del who
        script = (
            f'[ ! -e {state} ] || . {state}; cd "$(cat {state}.pwd 2>/dev/null || echo {tmp_path})"\n'
            f"{command}\nstatus=$?; export -p >{state}; pwd >{state}.pwd; exit $status"
        )
        done = subprocess.run(
            ["bash", "-c", script],
            env=environment,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
        )
        return done.returncode, done.stdout

    try:
        follow(text, run)
        assert (tmp_path / "slurm-power" / "shadow.html").stat().st_size > 10_000
    finally:
        if demo.exists():
            run("root", f"cd {tmp_path}/slurm-power && make cluster-down")
        demo.parent.rmdir()
