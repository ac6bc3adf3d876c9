"""psbatch's help, man page and completions name every option, and work where their programs are installed."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from slurm_power.cli import completion
from slurm_power.cli.help_text import HELP
from slurm_power.cli.option_forms import OPTIONS
from slurm_power.cli.sbatch_options import COMPLETION, LONG_WITH_VALUE, LONG_WITHOUT_VALUE, WITHOUT_VALUE
from tests.cli.recorder import make_recorder

DOCS = Path(__file__).parents[2] / "docs"
MANUAL = DOCS / "man/psbatch.1"
FILES = {"bash": "psbatch.bash", "zsh": "_psbatch", "fish": "psbatch.fish"}
NAMES = (*OPTIONS, *WITHOUT_VALUE, COMPLETION)


def manual() -> str:
    """The man page without its markup."""
    text = re.sub(r"\\f[BIRP]", "", MANUAL.read_text())
    return text.replace("\\-", "-")


@pytest.mark.parametrize("name", NAMES)
def test_every_option_is_in_help_man_page_and_guide(name: str) -> None:
    assert re.search(rf"^  --{name}\b", HELP, re.MULTILINE)
    assert re.search(rf"^\.BI? --{name}\b", manual(), re.MULTILINE)
    assert f"`--{name}" in (DOCS / "psbatch.md").read_text()


@pytest.mark.parametrize("name", list(OPTIONS))
def test_every_place_is_in_man_page_and_guide(name: str) -> None:
    option = OPTIONS[name]
    for text in (manual(), (DOCS / "psbatch.md").read_text()):
        for word in (option.user_variable, option.variable, f"{name.replace('-', '_')}="):
            assert word in text, word


def test_the_man_page_has_what_a_man_page_has() -> None:
    headings = re.findall(r"^\.SH (.+)$", MANUAL.read_text(), re.MULTILINE)
    assert headings[:4] == ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS"]
    assert {"ENVIRONMENT", "FILES", "EXIT STATUS", "EXAMPLES", "SEE ALSO"} <= set(headings)
    known = ("TH", "SH", "TP", "IP", "PP", "EX", "EE", "B", "I", "BI", "BR", "RI", "RB", "IR")
    for line in MANUAL.read_text().splitlines():
        assert not line.startswith(".") or line[1:].split()[0] in known, line
        assert len(line) <= 120


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_groff_has_nothing_to_say_about_it() -> None:
    done = subprocess.run(
        ["groff", "-man", "-Tascii", "-ww", str(MANUAL)], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert "--print-script" in re.sub(r".\x08|\x1b\[[\d;]*m", "", done.stdout)


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_the_files_are_what_the_command_prints(tmp_path: Path, shell: str) -> None:
    ran = make_recorder(tmp_path).run(f"--completion={shell}")
    assert (ran.status, ran.argv, ran.stderr) == (0, None, b"")
    file = DOCS / "completion" / FILES[shell]
    assert ran.stdout.decode() == file.read_text(), f"psbatch --completion={shell} > {file}"


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_every_option_is_completed(shell: str) -> None:
    text = completion.script(shell)
    assert text is not None
    for name in (*NAMES, *LONG_WITH_VALUE, *LONG_WITHOUT_VALUE):
        found = rf"-l {name}\b" if shell == "fish" else rf"--{name}(=|\[|\b)"
        assert re.search(found, text), name


def test_a_shell_that_is_not_known(tmp_path: Path) -> None:
    recorder = make_recorder(tmp_path)
    for word in ("--completion=tcsh", "--completion"):
        ran = recorder.run(word)
        assert (ran.status, ran.argv) == (2, None)
        assert b"is not one of bash, zsh, fish" in ran.stderr


ASK = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _psbatch; printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--fl"], ["--flex="]),
        (["--dry"], ["--dry-run"]),
        (["--max"], ["--max-hold="]),
        (["--flex", "="], ["flex0", "flex1", "flex2", "flex3"]),
        (["--workload", "=", "t"], ["training"]),
        (["--workload", "in"], ["inference"]),
        (["-N1", "--completion", "=", ""], ["bash", "zsh", "fish"]),
        (["--open-mode", "=", "a"], ["append"]),
        (["--partition", "=", "m"], ["main"]),
        (["-p", ""], ["main", "debug"]),
        (["job"], ["job.sh", "jobs"]),
    ],
)
def test_bash_completes(tmp_path: Path, words: list[str], found: list[str]) -> None:
    (tmp_path / "job.sh").touch()
    (tmp_path / "jobs").mkdir()
    sinfo = tmp_path / "bin/sinfo"
    sinfo.parent.mkdir()
    sinfo.write_text("#!/bin/sh\nprintf 'main\\ndebug\\n'\n")
    sinfo.chmod(0o755)
    done = subprocess.run(
        ["bash", "--norc", "-c", ASK, "bash", str(DOCS / "completion/psbatch.bash"), "psbatch", *words],
        env={"PATH": f"{sinfo.parent}:/usr/bin:/bin"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert sorted(done.stdout.split()) == sorted(found)
    assert done.stderr == ""


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_can_read_theirs(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    subprocess.run([shell, "-n", str(DOCS / "completion" / FILES[shell])], check=True)
