"""`slurm-power top`: one picture, and live in a pseudo-terminal: keys, sizes, a controller that goes."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from slurm_power.cli.commands.site.top import after_key, split_keys
from slurm_power.cli.commands.site.top_picture import Wishes, picture_lines
from slurm_power.cli.commands.site.top_view import View
from slurm_power.cli.slurm_power import main
from tests.cli.fake_powerctld import STATUS, Answer, entry, fake_powerctld
from tests.cli.forecast_answer import answer as forecast_answer

EVIL = "\x1b[31mred\x1b]0;owned\x07\nSAFE: all is well"
STANDING = {
    "safe": False,
    "word": "AT RISK",
    "headline": "AT RISK: grid is 1.3 kW above its limit",
    "risks": [
        {"danger": "above", "circuit": "grid", "watts": 1300.0, "in_seconds": 0.0, "reason": "nothing left"}
    ],
}
BAD = {"source": "pdu", "measures": "circuit rack1", "quality": "invalid", "reason": "stale for 9.0 s"}
ALERT = {
    "id": "limit_at_risk:grid", "severity": "page", "state": "firing", "summary": "grid is above its limit",
    "effects": [], "what_to_do": "Look.", "runbook": "x", "since": "2026-01-02T03:04:05+00:00",
}  # fmt: skip


def job(number: int, **changes: Any) -> dict[str, Any]:
    row = {**STATUS["jobs"][0], "job_id": str(number), "name": f"train{number}", "gpu_watts": 100.0 * number}
    return {**row, "paused_seconds": None, "pause_reason": "", **changes}


def live(**changes: Any) -> dict[str, Any]:
    ess = {**STATUS["ess"][0], "next": {"does": "rest", "watts": None, "in_seconds": 300.0, "reason": "full"}}
    jobs = [job(number, user="alice" if number % 2 else "bob") for number in range(1, 41)]
    picture = {
        **STATUS,
        "standing": STANDING,
        "paused_until": None,
        "ess": [ess],
        "jobs": jobs,
        "jobs_left_off": 0,
        "job_counts": {"running": 40, "pending": 3, "capped": 1, "held": 0, "paused": 0},
        "starts": [],
        "circuits_left_off": 0,
        "sources": {"good": 3, "bad": [BAD]},
        "alerts": [ALERT],
    }  # fmt: skip
    return {**picture, **changes}


class Powerctld:
    """Answers as an operator's or a user's powerctld."""

    def __init__(self, *, operator: bool = True, **changes: Any) -> None:
        self.operator, self.changes = operator, changes
        self.turns = 0

    def __call__(self, request: dict[str, Any]) -> Answer:
        answers: dict[str, Callable[[], Answer]] = {
            "live": self.live,
            "status": lambda: {**STATUS, "standing": STANDING, "jobs": [job(17)]},
            "sources": lambda: {"ok": True, "sources": [BAD]},
            "ledger": lambda: self.ledger(request["after_sequence"]),
            "forecast": forecast_answer,
        }
        return answers[request["op"]]()

    def live(self) -> Answer:
        if not self.operator:
            return {"ok": False, "error": "bob may not see everybody's jobs at once"}
        self.turns += 1
        return live(**{"uptime_seconds": 100.0 + self.turns, **self.changes})

    def ledger(self, after: int) -> Answer:
        entries = [] if after else [{**entry(1), "reason": EVIL}]
        return {"ok": True, "entries": entries, "more": False}


# --- one picture --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 60), (40, 10), (20, 3), (1, 1)])
def test_a_picture_has_the_size_of_its_terminal(width: int, height: int) -> None:
    view = View(answer=live(), forecast=forecast_answer(), entries=(entry(1),))
    lines = picture_lines(view, Wishes(), width=width, height=height, only_ascii=False)
    assert len(lines) == height


def test_80_by_24_shows_what_matters() -> None:
    view = View(answer=live(), forecast=forecast_answer(), entries=(entry(1),))
    text = "\n".join(
        line.plain for line in picture_lines(view, Wishes(), width=80, height=24, only_ascii=False)
    )
    assert text.startswith("AT RISK: grid is 1.3 kW above its limit")
    for words in (
        "PAGE grid is above",
        "rack1",
        "battery charging 1.5 kW",
        "event ev-3",
        "JOB",
        "train40",
        "q quit",
    ):
        assert words in text, f"{words} is not in:\n{text}"


def test_without_a_terminal_one_picture_is_printed() -> None:
    with fake_powerctld(Powerctld()) as fake:
        done = CliRunner().invoke(main, ["top", "--socket", str(fake.path)], env={"COLUMNS": "120"})
    assert done.exit_code == 0, done.output
    assert done.output.startswith("AT RISK: grid is 1.3 kW above its limit\n")
    assert "train1" in done.output
    assert "owned" in done.output
    assert "\x1b" not in done.output
    assert "\nSAFE" not in done.output


def test_a_terminal_without_unicode_gets_plain_signs() -> None:
    with fake_powerctld(Powerctld()) as fake:
        code = "from slurm_power.cli.slurm_power import run; run()"
        words = [sys.executable, "-c", code, "top", "--once", "--socket", str(fake.path)]
        environment = {**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "80"}
        shown = subprocess.run(words, env=environment, capture_output=True, timeout=60, check=False)
    assert shown.returncode == 0, shown.stderr
    assert b"grid  ################" in shown.stdout


def test_users_see_what_is_theirs() -> None:
    with fake_powerctld(Powerctld(operator=False)) as fake:
        done = CliRunner().invoke(main, ["top", "--once", "--socket", str(fake.path)], env={"COLUMNS": "120"})
    assert done.exit_code == 0, done.output
    assert "train17" in done.output
    assert "stale for 9.0 s" in done.output
    assert [request["op"] for request in fake.requests][:2] == ["live", "status"]


def test_json_is_the_answer_as_it_came() -> None:
    with fake_powerctld(Powerctld()) as fake:
        done = CliRunner().invoke(main, ["top", "--json", "--socket", str(fake.path)])
    found = json.loads(done.output)
    assert found["standing"]["headline"] == STANDING["headline"]
    assert found["entries"][0]["reason"] == EVIL


def test_no_controller_is_an_error(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["top", "--once", "--socket", str(tmp_path / "none")])
    assert done.exit_code == 1
    assert "Is it running?" in done.output


# --- keys ---------------------------------------------------------------------------------------------------


def test_keys_are_cut_from_what_is_typed() -> None:
    assert split_keys("a\x1b[A\x1b[C\x1bOBq") == ["a", "k", "right", "j", "q"]
    assert split_keys("\x1b") == ["escape"]
    assert split_keys("\x1b[15;2~x\x1b[") == ["x"]


def test_keys_sort_scroll_and_filter() -> None:
    wishes = Wishes()
    assert after_key(wishes, "right", 9).sort == "gpus"
    assert after_key(wishes, "left", 9).sort == "job"
    assert after_key(wishes, "k", 9).first_job == 0
    assert after_key(after_key(wishes, "j", 2), "page down", 2).first_job == 1
    for key in ("f", "b", "o", "q", "\x7f", "\r"):
        wishes = after_key(wishes, key, 9)
    assert (wishes.filter, wishes.typing) == ("bo", False)
    rows = [
        line.plain
        for line in picture_lines(View(answer=live()), wishes, width=100, height=60, only_ascii=True)
    ]
    assert not any(" alice " in row for row in rows)
    assert sum(" bob " in row for row in rows) == 20
    assert after_key(wishes, "escape", 9).filter == ""


# --- live ---------------------------------------------------------------------------------------------------


class Terminal:
    """The master's side of a pseudo-terminal, and what stands on its screen."""

    def __init__(self, master: int, process: subprocess.Popen[bytes]) -> None:
        self.master, self.process = master, process
        self.got = b""

    def size(self, width: int, height: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        self.process.send_signal(signal.SIGWINCH)

    def type(self, text: str) -> None:
        self.got = b""
        os.write(self.master, text.encode())

    def read(self, seconds: float = 0.1) -> None:
        ready, _, _ = select.select([self.master], [], [], seconds)
        if ready:
            try:
                self.got += os.read(self.master, 65_536)
            except OSError:
                time.sleep(0.05)

    def screen(self) -> str:
        """The last whole picture that was drawn, without what colours it."""
        frames = self.got.decode("utf-8", "replace").split("\x1b[H")
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", frames[-2] if len(frames) > 2 else frames[-1])

    def until(self, happens: Callable[[str], bool], what: str, seconds: float = 30.0) -> str:
        end = time.monotonic() + seconds
        while not happens(self.screen()):
            assert time.monotonic() < end, f"{what} did not come:\n{self.screen()}"
            assert self.process.poll() is None, (
                f"it ended before {what}:\n{self.got.decode('utf-8', 'replace')}"
            )
            self.read()
        return self.screen()


@contextmanager
def terminal(socket: Path, width: int = 80, height: int = 24) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
    code = "from slurm_power.cli.slurm_power import run; run()"
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-c", code, "top", "--socket", str(socket)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**environment, "TERM": "xterm-256color", "LANG": "C.UTF-8"},
        start_new_session=True,
    )
    before = termios.tcgetattr(slave)
    try:
        yield Terminal(master, process)
        assert termios.tcgetattr(slave)[3] == before[3], "the terminal was left in another mode"
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(slave)
        os.close(master)


def lines(screen: str) -> list[str]:
    return [line.rstrip() for line in screen.replace("\r", "").split("\n")]


def test_live_it_draws_again_sorts_filters_fits_and_ends() -> None:
    own = Powerctld()
    with fake_powerctld(own) as fake, terminal(fake.path) as screen:
        shown = screen.until(lambda text: "train40" in text and "q quit" in text, "a picture")
        assert shown.lstrip().startswith("AT RISK: grid is 1.3 kW above its limit")
        assert len(lines(shown)) == 24
        assert "\x07" not in screen.got.decode("utf-8", "replace")
        turns = own.turns
        screen.until(lambda _: own.turns > turns + 1, "the next pictures")
        screen.type("f")
        screen.until(lambda text: "filter:" in text, "the filter's line")
        screen.type("bob\r")
        screen.until(
            lambda text: "bob" in text and " alice " not in text and "filter: bob" in text, "the filter"
        )
        screen.type("\x1b[C")
        screen.until(lambda text: "sort by gpus" in text, "another order")
        screen.size(120, 40)
        screen.until(lambda text: len(lines(text)) == 40, "the new size")
        screen.size(60, 12)
        small = screen.until(lambda text: len(lines(text)) == 12, "a small size")
        assert max(map(len, lines(small))) <= 60
        screen.type("q")
        end = time.monotonic() + 20.0
        while screen.process.poll() is None and time.monotonic() < end:
            screen.read()
        assert screen.process.returncode == 0
        assert "\x1b[?1049l" in screen.got.decode("utf-8", "replace")


def test_live_ctrl_c_ends_it_with_the_terminal_as_it_was() -> None:
    with fake_powerctld(Powerctld()) as fake, terminal(fake.path) as screen:
        screen.until(lambda text: "train40" in text, "a picture")
        screen.process.send_signal(signal.SIGINT)
        end = time.monotonic() + 20.0
        while screen.process.poll() is None and time.monotonic() < end:
            screen.read()
        assert screen.process.returncode == 0
        assert "Traceback" not in screen.got.decode("utf-8", "replace")


def test_live_a_controller_that_goes_and_comes_back() -> None:
    gone = [False]
    own = Powerctld()

    def reply(request: dict[str, Any]) -> Answer:
        return b"" if gone[0] else own(request)

    with fake_powerctld(reply) as fake, terminal(fake.path) as screen:
        screen.until(lambda text: "train40" in text, "a picture")
        gone[0] = True
        old = screen.until(lambda text: "ago: AT RISK" in text, "the old picture, called so")
        assert "hung up" in old
        assert "train40" in old
        gone[0] = False
        screen.until(lambda text: text.lstrip().startswith("AT RISK"), "the new picture")
        screen.type("q")
        assert screen.process.wait(20.0) == 0


def test_40_columns_hold_whose_job_draws_what_and_how_full_circuits_are() -> None:
    view = View(answer=live(), forecast=None, entries=())
    lines = [line.plain[:40] for line in picture_lines(view, Wishes(), width=40, height=24, only_ascii=False)]
    assert any(line.startswith("grid") and line.endswith("106 %") for line in lines), lines
    assert any(line.startswith("40 ") and "bob" in line and "4.0 kW" in line for line in lines), lines
