"""Streams of tests: what fails is judged once more, alone, and no failure gets lost."""

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
LATE = """
from pathlib import Path
def test_late():
    seen = Path("seen")
    before = seen.exists()
    seen.touch()
    assert before
"""
WRONG = "def test_wrong():\n    assert 1 == 2\n"
RIGHT = "def test_right():\n    pass\n"
ALL_WRONG = "import pytest\n@pytest.mark.parametrize('n', range(11))\ndef test_n(n):\n    assert n < 0\n"


@pytest.mark.parametrize(
    ("files", "status", "said", "unsaid"),
    [
        ({"a": RIGHT, "b": RIGHT}, 0, "== b: exit status 0", "once more"),
        ({"a": LATE, "b": RIGHT}, 0, "passed alone: test_a.py::test_late", "test_right"),
        ({"a": LATE, "b": WRONG}, 1, "once more, alone: test_b.py::test_wrong", "passed alone"),
        ({"a": ALL_WRONG, "b": RIGHT}, 1, "11 failed", "once more"),
        ({"a": "import nothing_of_that_name\n", "b": LATE}, 1, "exit status 2", "once more"),
    ],
)
def test_streams(tmp_path: Path, files: dict[str, str], status: int, said: str, unsaid: str) -> None:
    for name, text in files.items():
        (tmp_path / f"test_{name}.py").write_text(text)
    streams = [f"{name}{'~' if text == RIGHT else ''}=test_{name}.py" for name, text in files.items()]
    done = subprocess.run(
        [sys.executable, "-m", "tests.streams", *streams, "--", "-q", "-p", "no:schemathesis"],
        cwd=tmp_path,
        env={
            "PYTHONPATH": str(PROJECT),
            "PATH": "/usr/bin:/bin",
            "COVERAGE_FILE": str(tmp_path / "coverage"),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert said in done.stdout
    assert unsaid not in done.stdout
