"""The log of all daemons: a line for each event, whatever others have put into it."""

import io
import logging
import os
import subprocess
import sys

import pytest

from slurm_power.systemd import LogLine

HOSTILE = "name\n2026-01-01 00:00:00,000 INFO operator root: control on\x1b[2J\u202e"


def lines(text: str, *, level: int = logging.INFO, journal: bool = False, failed: bool = False) -> list[str]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LogLine("powerd", journal=journal))
    log = logging.Logger("test")
    log.addHandler(handler)
    try:
        if failed:
            raise ValueError(HOSTILE)
        log.log(level, "job %s ended", text)
    except ValueError:
        log.exception("it went wrong")
    return stream.getvalue().splitlines()


def test_an_event_is_one_line_whatever_is_in_it() -> None:
    (line,) = lines(HOSTILE)
    assert r"powerd INFO job name\n2026-01-01" in line
    assert r"\x1b[2J\u202e ended" in line and line.isprintable()
    (line,) = lines("", failed=True)
    assert (
        "ERROR it went wrong" in line and "Traceback" in line and "ValueError" in line and line.isprintable()
    )
    (line,) = lines("J\N{LATIN SMALL LETTER U WITH DIAERESIS}lich")
    assert "J\N{LATIN SMALL LETTER U WITH DIAERESIS}lich" in line


def test_the_journal_gets_a_priority_and_has_its_own_time() -> None:
    assert lines("7", level=logging.WARNING, journal=True) == ["<4>powerd WARNING job 7 ended"]
    assert lines("7", level=logging.ERROR, journal=True) == ["<3>powerd ERROR job 7 ended"]


@pytest.mark.parametrize("named", [True, False])
def test_the_journal_is_known_by_what_systemd_says(named: bool) -> None:
    reading, writing = os.pipe()
    there = os.fstat(writing)
    told = f"{there.st_dev}:{there.st_ino}" if named else "1:1"
    code = "import logging; from slurm_power.systemd import start_logging; start_logging('INFO', 'x'); "
    code += "logging.getLogger().info('here'); logging.getLogger().debug('not here')"
    subprocess.run(
        [sys.executable, "-c", code], stderr=writing, check=True, env={**os.environ, "JOURNAL_STREAM": told}
    )
    os.close(writing)
    with os.fdopen(reading) as stream:
        (line,) = stream.read().splitlines()
    assert line.startswith("<6>x INFO here") is named and line.endswith("x INFO here")
