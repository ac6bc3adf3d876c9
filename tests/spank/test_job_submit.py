"""job_submit.lua under a stand-in for Slurm's table: what it writes, and that it never stops a job."""

import subprocess
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[2] / "prolog_epilog/job_submit.lua"
# `job` is what the test gives; a field named `trap` makes every reading of the record fail.
STAND_IN = """
slurm = { SUCCESS = 0, ERROR = -1, NO_VAL = 4294967294, log_error = function(...) io.stderr:write(...) end }
local values = %s
local job = setmetatable({}, {
  __index = function(_, key) if values.trap then error("trap") end return values[key] end,
  __newindex = function(_, key, value) values[key] = value end,
})
assert(dofile(arg[1]) == slurm.SUCCESS)
assert(slurm_job_submit(job, {}, 0) == slurm.SUCCESS)
assert(slurm_job_modify(job, {}, {}, 0) == slurm.SUCCESS)
io.write(values.admin_comment or "nil")
"""


def submit(job: str, tmp_path: Path) -> str:
    script = tmp_path / "stand_in.lua"
    script.write_text(STAND_IN % job)
    done = subprocess.run(["lua5.1", str(script), str(FILE)], capture_output=True, text=True, check=True)
    return done.stdout


def test_syntax() -> None:
    subprocess.run(["luac5.1", "-p", str(FILE)], check=True)


@pytest.mark.parametrize(
    ("job", "comment"),
    [
        (
            """{spank_job_env_size=3,
                spank_job_env={[0]="POWER_WORKLOAD=training", "OTHER=1", "POWER_FLEX=flex2"}}""",
            '{"power":{"workload":"training","flex":"flex2"}}',
        ),
        ('{spank_job_env_size=1, spank_job_env={[0]="POWER_FLEX=flex0"}}', '{"power":{"flex":"flex0"}}'),
        ('{spank_job_env_size=1, spank_job_env={[0]="POWER_FLEX=flex9"}}', "nil"),
        ('{spank_job_env_size=1, spank_job_env={[0]="POWER_FLEX=flex1\\"}}"}}', "nil"),
        ('{spank_job_env_size=1, spank_job_env={[0]="XPOWER_FLEX=flex1"}}', "nil"),
        ('{spank_job_env_size=1, admin_comment="site", spank_job_env={[0]="POWER_FLEX=flex1"}}', "site"),
        ('{spank_job_env_size=1, admin_comment="", spank_job_env={[0]="POWER_FLEX=3"}}', ""),
        ("{spank_job_env_size=0, spank_job_env={}}", "nil"),
        ("{spank_job_env_size=4294967294}", "nil"),
        ("{}", "nil"),
        ("{spank_job_env_size=5}", "nil"),
        ('{spank_job_env_size="x", spank_job_env=7}', "nil"),
        ("{trap=true}", "nil"),
    ],
)
def test_admin_comment(job: str, comment: str, tmp_path: Path) -> None:
    assert submit(job, tmp_path) == comment


def test_composes_with_a_sites_own_script(tmp_path: Path) -> None:
    own = tmp_path / "own.lua"
    own.write_text(
        f'dofile("{FILE}")\n'
        "function slurm_job_submit(job, parts, uid) slurm_power_describe(job); job.account = 'own'"
        " return slurm.SUCCESS end\nreturn slurm.SUCCESS\n"
    )
    script = tmp_path / "stand_in.lua"
    job = '{spank_job_env_size=1, spank_job_env={[0]="POWER_FLEX=flex0"}}'
    script.write_text((STAND_IN % job) + "io.write(values.account)")
    done = subprocess.run(["lua5.1", str(script), str(own)], capture_output=True, text=True, check=True)
    assert done.stdout == '{"power":{"flex":"flex0"}}own'
