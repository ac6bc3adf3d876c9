"""psbatch --dry-run and --print-script: what would be submitted, said without submitting."""

import json
from pathlib import Path

import pytest

from tests.cli.recorder import Recorder, make_recorder

SCRIPT = "#!/bin/bash\n#SBATCH -J name\n# words\n#PSBATCH --flex=1\n\ntrue\n#PSBATCH --flex=0\n"
STARTS = "sbatch: Job 8 to start at 2026-01-02T03:04:05 using 1 processors on nodes c1 in partition main"


WRAPPED = b"""#!/bin/sh
#PSBATCH --flex=flex1
# This script was created by sbatch by way of --wrap.

echo 'a b'
"""


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return make_recorder(tmp_path)


def test_command_variables_origins_and_what_slurm_says(recorder: Recorder) -> None:
    script = recorder.script(SCRIPT)
    recorder.site("default_workload=training\n")
    outcome = recorder.run(
        "--dry-run", "--power-cap=0.4kW", "--comment=a b", script, environ={b"RECORD_SAYS": STARTS.encode()}
    )
    assert outcome.argv == [b"--test-only", b"--comment=a b", script.encode()]
    assert outcome.environ[b"SLURM_POWER_CAP"] == b"400"
    assert outcome.stdout.decode().splitlines() == [
        f"sbatch would be started as:  sbatch '--comment=a b' {script}",
        "with these variables more in its environment:",
        "  SLURM_POWER_WORKLOAD=training  from the site's default_workload",
        f"  SLURM_POWER_FLEX=flex1         from {script}, line 4, --flex",
        "  SLURM_POWER_CAP=400            from --power-cap",
        f"sbatch --test-only says: {STARTS.removeprefix('sbatch: ')}",
        "Nothing was submitted.",
    ]
    assert (outcome.status, outcome.stderr) == (0, b"")


def test_as_an_object(recorder: Recorder) -> None:
    outcome = recorder.run(
        "--dry-run",
        "--json",
        "--flex=2",
        b"--comment=\xff",
        "job.sh",
        environ={b"RECORD_SAYS": STARTS.encode()},
    )
    assert json.loads(outcome.stdout) == {
        "submitted": False,
        "command": ["sbatch", r"--comment=\xff", "job.sh"],
        "environment": {"SLURM_POWER_FLEX": "flex2"},
        "values": {"flex": {"value": "flex2", "from": "--flex"}},
        "warnings": [],
        "test_only": {
            "exit_status": 0,
            "text": STARTS.removeprefix("sbatch: "),
            "starts_at": "2026-01-02T03:04:05",
        },
    }


def test_what_slurm_would_refuse_has_its_status(recorder: Recorder) -> None:
    refusal = b"allocation failure: Requested node configuration is not available"
    outcome = recorder.run("--dry-run", "-N99", "job.sh", status=1, environ={b"RECORD_SAYS": refusal})
    assert outcome.status == 1
    assert refusal in outcome.stdout
    assert b"nobody says anything about power" in outcome.stdout


def test_a_script_on_standard_input_is_tried_as_well(recorder: Recorder) -> None:
    outcome = recorder.run("--dry-run", stdin=SCRIPT.encode())
    assert outcome.argv == [b"--test-only"]
    assert outcome.stdin == SCRIPT.encode()
    assert b"SLURM_POWER_FLEX=flex1  from standard input, line 4, --flex" in outcome.stdout


def test_without_sbatch_nothing_is_lost(recorder: Recorder) -> None:
    outcome = recorder.run("--dry-run", "job.sh", path="/nonexistent")
    assert outcome.status == 127
    assert b"sbatch: command not found" in outcome.stdout


def test_the_printed_script_says_it_all_by_itself(recorder: Recorder) -> None:
    script = recorder.script(SCRIPT)
    more = {b"PSBATCH_MAX_HOLD": b"15m"}
    given = recorder.run("--workload=inference", "--flex=3", script, environ=more)
    printed = recorder.run("--print-script", "--workload=inference", "--flex=3", script, environ=more)
    assert printed.argv is None
    assert (printed.status, printed.stderr) == (0, b"")
    lines = printed.stdout.decode().splitlines()
    assert lines[:7] == [
        *SCRIPT.splitlines()[:4],
        "#PSBATCH --workload=inference",
        "#PSBATCH --flex=flex3",
        "#PSBATCH --max-hold=900s",
    ]
    assert lines[7:] == SCRIPT.splitlines()[4:]
    again = recorder.run(recorder.script(printed.stdout.decode(), "printed.sh"))
    carried = {name: value for name, value in again.environ.items() if name.startswith(b"SLURM_POWER_")}
    assert carried == {
        name: value for name, value in given.environ.items() if name.startswith(b"SLURM_POWER_")
    }


def test_lines_of_our_plugin_are_overruled_in_the_printed_script(recorder: Recorder) -> None:
    script = recorder.script("#!/bin/sh\n#SBATCH --flex=1\ntrue\n")
    printed = recorder.run("--print-script", "--flex=2", script).stdout
    assert printed == b"#!/bin/sh\n#SBATCH --flex=1\n#SBATCH --flex=flex2\ntrue\n"
    assert recorder.run("--print-script", script).stdout == Path(script).read_bytes()


def test_lines_of_our_plugin_count_before_all_but_the_command_line(recorder: Recorder) -> None:
    script = recorder.script(
        "#!/bin/sh\n#SBATCH --flex=1 -N1\n#SBATCH --max-hold 1h\n#PSBATCH --flex=2\ntrue\n"
    )
    recorder.user("max_hold=2h\n")
    lines = recorder.run("--dry-run", script).stdout.decode().splitlines()
    assert lines[2:4] == [
        f"  SLURM_POWER_FLEX=flex1      from {script}, line 2, #SBATCH --flex",
        f"  SLURM_POWER_MAX_HOLD=3600s  from {script}, line 3, #SBATCH --max-hold",
    ]
    typed = recorder.run("--dry-run", "--flex=3", script)
    assert typed.argv == [b"--test-only", b"--flex=flex3", script.encode()]
    wrong = recorder.script("#!/bin/sh\n#SBATCH --flex=lots\ntrue\n", "wrong.sh")
    left = recorder.run(wrong)
    assert (left.status, left.argv) == (0, [wrong.encode()]), "our plugin says what is wrong, if it is there"


@pytest.mark.parametrize(
    ("arguments", "stdin", "printed"),
    [
        (
            ["--flex=1", "--wrap", "echo 'a b'"],
            b"",
            WRAPPED,
        ),
        (["--flex=1"], b"#!/bin/sh\n\xff\x00\n", b"#!/bin/sh\n#PSBATCH --flex=flex1\n\xff\x00\n"),
        (["--flex=1"], b"true", b"#PSBATCH --flex=flex1\ntrue"),
        ([], b"", b""),
    ],
)
def test_other_kinds_of_scripts(
    recorder: Recorder, arguments: list[str], stdin: bytes, printed: bytes
) -> None:
    outcome = recorder.run("--print-script", *arguments, stdin=stdin)
    assert (outcome.argv, outcome.status, outcome.stdout) == (None, 0, printed)


def test_a_script_that_is_not_there(recorder: Recorder) -> None:
    outcome = recorder.run("--print-script", "/nonexistent/job.sh")
    assert (outcome.status, outcome.stdout) == (1, b"")
    assert outcome.stderr == b"psbatch: /nonexistent/job.sh: no such file or directory\n"
