"""Progress is shown on a terminal's standard error and nowhere else."""

import os
import pty
import subprocess
import sys

CODE = """
from slurm_power.cli.commands.progress_bar import progress_bar
with progress_bar("counting", 3.0) as done:
    for number in range(3):
        done(number + 1.0)
print("result")
"""


def test_nothing_without_a_terminal() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("result\n", "")


def test_a_bar_on_a_terminal_and_the_result_alone_on_standard_output() -> None:
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    process = subprocess.Popen(
        [sys.executable, "-c", CODE], stdout=subprocess.PIPE, stderr=slave, env=environment
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            part = os.read(master, 4096)
        except OSError:
            break
        if not part:
            break
        shown += part
    out, _ = process.communicate(timeout=60)
    os.close(master)
    assert process.returncode == 0
    assert out == b"result\n"
    assert b"counting" in shown
