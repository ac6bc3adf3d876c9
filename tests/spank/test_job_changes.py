"""job_submit.lua: what users change by scontrol, and with a site's own script beside it."""

from pathlib import Path

import pytest

from tests.spank.stand_in import (
    FILES,
    SHOW,
    STAND_IN,
    SUBMIT,
    figures,
    installed,
    lua,
)

# --- changes by scontrol ----------------------------------------------------------------------------------

RECORD = """{licenses="matlab:1,watts:2000", tres_per_node="gres:gpu:2", min_nodes=1, max_nodes=0,
  job_state=0, user_id=20001, user_name="alice", admin_comment='{"power":{"watts":2000}}', %s}"""


def modified(change: str, tmp_path: Path, *, uid: int = 20001, record: str = "") -> str:
    script = STAND_IN % change + f"slurm_job_modify(job, {RECORD % record}, parts, {uid})\n" + SHOW
    done = lua(script, tmp_path, installed(tmp_path, figures()) / "job_submit.lua")
    return done.stdout.partition(" ")[0]


@pytest.mark.parametrize(
    ("change", "licences"),
    [
        ('licenses="matlab:2"', "matlab:2,watts:2000"),
        ('licenses=""', "watts:2000"),
        ('licenses="watts:1"', "watts:2000"),
        ('licenses="watts:9000"', "watts:9000"),
        ('tres_per_node="gres:gpu:4"', "matlab:1,watts:4000"),
        ('tres_per_node="gres:gpu:1"', "matlab:1,watts:1000"),
        ("min_nodes=2, max_nodes=2", "matlab:1,watts:4000"),
        ('tres_per_node="gres:gpu:4", licenses="matlab:3"', "matlab:3,watts:4000"),
        ("time_limit=5", "nil"),
        ("min_nodes=4294967294", "nil"),
    ],
)
def test_a_user_keeps_the_watts(change: str, licences: str, tmp_path: Path) -> None:
    assert modified(f"{{{change}}}", tmp_path) == licences


def test_what_root_and_powerctld_write_stands(tmp_path: Path) -> None:
    for uid in (0, 990):
        assert modified('{licenses="watts:1"}', tmp_path, uid=uid) == "watts:1"


def test_running_jobs_and_those_before_us_are_left_alone(tmp_path: Path) -> None:
    assert modified('{licenses="watts:1"}', tmp_path, record="job_state=1") == "watts:1"
    assert modified('{licenses="matlab:4"}', tmp_path, record='admin_comment="site"') == "matlab:4"


def test_a_cap_of_their_own_counts_again(tmp_path: Path) -> None:
    comment = """admin_comment='{"power":{"cap_watts":400,"watts":1375}}'"""
    assert modified('{tres_per_node="gres:gpu:4"}', tmp_path, record=comment) == "matlab:1,watts:2750"


# --- with a site's own script -----------------------------------------------------------------------------

OWN = """
dofile("{library}")
function slurm_job_submit(job, parts, uid)
  {before}
  slurm_power_submit(job, parts)
  {after}
  return slurm.SUCCESS
end
function slurm_job_modify(job, record, parts, uid)
  slurm_power_modify(job, record, parts, uid)
  return slurm.SUCCESS
end
return slurm.SUCCESS
"""


def own_script(tmp_path: Path, before: str = "", after: str = "") -> Path:
    folder = installed(tmp_path, figures())
    own = folder / "own.lua"
    own.write_text(OWN.format(library=folder / FILES[1], before=before, after=after))
    return own


def test_a_sites_licences_before_and_after(tmp_path: Path) -> None:
    own = own_script(
        tmp_path, "job.licenses = 'fs:1'; job.account = 'own'", "job.licenses = job.licenses .. ',late:2'"
    )
    done = lua(
        STAND_IN % '{tres_per_node="gres:gpu:2"}' + SUBMIT + SHOW + "io.write(values.account)", tmp_path, own
    )
    assert done.stdout == 'fs:1,watts:2000,late:2 {"power":{"watts":2000}}own'


def test_a_site_that_rejects(tmp_path: Path) -> None:
    own = own_script(tmp_path, "if job.account == nil then return slurm.ERROR end")
    script = (
        STAND_IN % '{tres_per_node="gres:gpu:2"}' + "io.write(slurm_job_submit(job, parts, 0), ' ')\n" + SHOW
    )
    assert lua(script, tmp_path, own).stdout == "-1 nil nil"


def test_without_the_library_jobs_are_submitted_as_they_are(tmp_path: Path) -> None:
    folder = installed(tmp_path, figures())
    (folder / FILES[1]).unlink()
    done = lua(STAND_IN % '{licenses="x:1"}' + SUBMIT + SHOW, tmp_path, folder / FILES[0])
    assert done.stdout == "x:1 nil"
    assert "slurm_power" in done.stderr
