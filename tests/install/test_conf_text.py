"""Marked blocks go in and come out without a trace, whatever the text around them looks like."""

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power.slurm.compose import lua_block
from slurm_power.slurm.conf_text import (
    BrokenBlockError,
    read_settings,
    with_line,
    with_lua,
    with_settings,
    without_blocks,
)

LINES = st.sampled_from(
    [
        "",
        "# a comment with Prolog=/x",
        "ClusterName=lab",
        "Prolog=/site/prolog  # ours",
        "prolog = /site/other",
        "Epilog=/a \\",
        '  # "',
        "Include more.conf",
        "NodeName=c1 Prolog=/no",
        "\tKey=\udcff",
        "# was: Prolog=/x",
    ]
)
TEXTS = st.tuples(st.lists(LINES), st.booleans()).map(lambda made: "\n".join(made[0]) + "\n" * made[1])
CHANGES = [("Prolog", "/ours", "why"), ("PrologFlags", "Alloc", "why"), ("Epilog", "/ours2", "why")]


@given(TEXTS)
def test_blocks_come_out_as_if_they_had_never_been_there(text: str) -> None:
    try:
        changed = with_settings(text, CHANGES)
    except ValueError as error:
        assert "shares its line" in str(error)  # said, and nothing is written
        changed = text
    assert without_blocks(changed) == text
    assert without_blocks(with_line(text, "optional /x.so", "why")) == text
    assert without_blocks(with_lua(text, ["do end"])) == text


@given(TEXTS)
def test_what_was_set_counts_and_nothing_else_changes(text: str) -> None:
    try:
        changed = with_settings(text, CHANGES)
    except ValueError:
        return
    after = {setting.key.lower(): setting.value for setting in read_settings(changed)}
    before = {setting.key.lower(): setting.value for setting in read_settings(text)}
    assert after == before | {"prolog": "/ours", "prologflags": "Alloc", "epilog": "/ours2"}


def test_settings_are_read_as_slurm_reads_them() -> None:
    text = 'A=1 # B=2\nprolog = "/with space"\nC=\\\n 3\nNodeName=c1 Gres=gpu:8\n  include other.conf\n'
    found = [(setting.key, setting.value, setting.alone) for setting in read_settings(text)]
    assert found == [
        ("A", "1", True),
        ("prolog", "/with space", True),
        ("C", "3", True),
        ("NodeName", "c1", False),
        ("Gres", "gpu:8", False),
        ("Include", "other.conf", True),
    ]


@pytest.mark.parametrize("cut", ["# >>> slurm-power", "# <<< slurm-power"])
def test_a_block_that_lost_its_other_half_is_told_and_left_alone(cut: str) -> None:
    lines = with_settings("A=1\nProlog=/x\n", CHANGES[:1]).splitlines(keepends=True)
    broken = "".join(line for line in lines if not line.startswith(cut))
    with pytest.raises(BrokenBlockError, match=r"line [24]"):
        without_blocks(broken)


SITE = """\
function slurm_job_submit(job_desc, parts, uid)
  said = "site"
  if job_desc.name == "no" then return slurm.ERROR end
  return slurm.SUCCESS
end
function slurm_job_modify(job_desc, rec, parts, uid) return slurm.SUCCESS end
return slurm.SUCCESS
"""
OURS = {
    "good": "function slurm_job_submit(job_desc) job_desc.power = said return slurm.SUCCESS end",
    "raises": 'function slurm_job_submit(job_desc) error("broken") end',
    "no Lua": "this is no Lua",
    "missing": None,
}
DRIVER = """\
log = {}
slurm = { SUCCESS = 0, ERROR = -1, log_error = function(form, ...) log[#log + 1] = form end }
dofile(arg[1])
local job, refused = { name = "yes" }, { name = "no" }
print(slurm_job_submit(job, {}, 0), job.power, slurm_job_submit(refused, {}, 0), refused.power,
  slurm_job_modify(job, {}, {}, 0), #log > 0)
"""


@pytest.mark.parametrize(
    ("ours", "said"),
    [
        ("good", "0 site -1 nil 0 false"),
        ("raises", "0 nil -1 nil 0 true"),
        ("no Lua", "0 nil -1 nil 0 true"),
        ("missing", "0 nil -1 nil 0 true"),
    ],
)
def test_a_sites_job_submit_keeps_its_say_whatever_ours_does(tmp_path: Path, ours: str, said: str) -> None:
    lua = shutil.which("lua5.1") or shutil.which("lua")
    assert lua is not None, "containers/install-packages.sh build brings lua5.1"
    text = OURS[ours]
    if text is not None:
        (tmp_path / "ours.lua").write_text(text)
    (tmp_path / "site.lua").write_text(with_lua(SITE, lua_block(f"{tmp_path}/ours.lua")))
    (tmp_path / "driver.lua").write_text(DRIVER)
    words = [lua, str(tmp_path / "driver.lua"), str(tmp_path / "site.lua")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=10, check=True)
    assert done.stdout.split() == said.split()
