"""job_submit.lua under a stand-in for Slurm's table."""

import json
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from slurm_power.forecast.job_power import LearnedLevel
from slurm_power.slurm.admission_file import file_text

FOLDER = Path(__file__).resolve().parents[2] / "prolog_epilog"
FILES = ("job_submit.lua", "slurm_power_submit.lua")
# `job` is what the test gives; a field named `trap` makes every reading of the record fail.
STAND_IN = """
slurm = { SUCCESS = 0, ERROR = -1, NO_VAL = 4294967294,
  log_error = function(...) io.stderr:write(string.format(...), "\\n") end,
  log_info = function(...) io.stderr:write(string.format(...), "\\n") end }
local values = %s
local job = setmetatable({}, {
  __index = function(_, key) if values.trap then error("trap") end return values[key] end,
  __newindex = function(_, key, value) values[key] = value end,
})
local parts = { main = { total_nodes = 4, total_cpus = 32, flag_default = 1 } }
assert(dofile(arg[1]) == slurm.SUCCESS)
"""
SUBMIT = "assert(slurm_job_submit(job, parts, 0) == slurm.SUCCESS)\n"
SHOW = 'io.write(values.licenses or "nil", " ", values.admin_comment or "nil")\n'
SETTINGS: Mapping[str, str | int | float] = {
    "licence": "watts",
    "total": 52000,
    "factor": 1.25,
    "idle_gpu": 75.0,
    "host_per_gpu": 225.0,
    "per_cpu": 0.0,
    "per_node": 0.0,
    "node_gpus": 8,
    "uid": 990,
}
CLASSES = {"training": 650.0, "inference": 450.0, "generation": 300.0}
# 650 W in place of 75 W with 225 W of the host, and the losses.
GPU_WATTS = 1000


def lua(script: str, tmp_path: Path, program: Path) -> subprocess.CompletedProcess[str]:
    stand_in = tmp_path / "stand_in.lua"
    stand_in.write_text(script)
    return subprocess.run(
        ["lua5.1", str(stand_in), str(program)], capture_output=True, text=True, check=True, timeout=60
    )


def installed(tmp_path: Path, text: str | None) -> Path:
    """Both files as they lie beside slurm.conf; returns the folder."""
    folder = tmp_path / "etc"
    folder.mkdir(exist_ok=True)
    for name in FILES:
        shutil.copyfile(FOLDER / name, folder / name)
    (folder / "slurm-power.conf").write_text(f"controller=c:1\nadmission_file = {tmp_path}/expected_watts\n")
    if text is not None:
        (tmp_path / "expected_watts").write_text(text)
    return folder


def figures(learned: Iterable[LearnedLevel] = (), **changed: str | int | float) -> str:
    return file_text({**SETTINGS, **changed}, CLASSES, learned)


def submitted(job: str, tmp_path: Path, text: str | None) -> tuple[str | None, dict[str, object], str]:
    """The licences, what stands under "power", and what was logged."""
    done = lua(STAND_IN % job + SUBMIT + SHOW, tmp_path, installed(tmp_path, text) / "job_submit.lua")
    licences, _, comment = done.stdout.partition(" ")
    power = {} if comment == "nil" else json.loads(comment)["power"]
    return None if licences == "nil" else licences, power, done.stderr
