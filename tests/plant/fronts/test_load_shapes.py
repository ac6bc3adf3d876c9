"""The load program's ways to find its GPUs, as Slurm's environment names them."""

from pathlib import Path

import pytest

from containers.plant.load import PLANT_FILE, LoadError, find_constants, find_slots, find_state
from containers.plant.nvml_control import NodeGpus
from tests.plant.nvml_bench import Bench


def test_the_state_is_told_or_follows_from_slurm() -> None:
    assert find_state({"PLANT_NVML_STATE": "/x/c1.state", "SLURMD_NODENAME": "c2"}) == Path("/x/c1.state")
    found = find_state({"SLURMD_NODENAME": "c2", "SLURM_CONF": "/tmp/lab/etc/slurm.conf"})
    assert found == Path("/tmp/lab/nvml/c2.state")
    with pytest.raises(LoadError, match="PLANT_NVML_STATE"):
        find_state({"SLURMD_NODENAME": "c2"})


def test_the_constants_are_those_of_the_lab(tmp_path: Path) -> None:
    assert find_constants(tmp_path / "c1.state") == PLANT_FILE
    (tmp_path / "plant.toml").write_text("")
    assert find_constants(tmp_path / "c1.state") == tmp_path / "plant.toml"


def test_slots_by_number_by_uuid_and_by_precedence(bench: Bench) -> None:
    gpus: NodeGpus = bench.gpus
    uuid = gpus.uuid(1)
    assert find_slots({"CUDA_VISIBLE_DEVICES": "1,0"}, gpus) == [1, 0]
    assert find_slots({"CUDA_VISIBLE_DEVICES": uuid}, gpus) == [1]
    assert find_slots({"SLURM_JOB_GPUS": "0,1", "SLURM_STEP_GPUS": "1"}, gpus) == [1]
    assert find_slots({"CUDA_VISIBLE_DEVICES": "", "SLURM_JOB_GPUS": "0"}, gpus) == [0]
    with pytest.raises(LoadError, match="names no GPUs"):
        find_slots({"CUDA_VISIBLE_DEVICES": "GPU-other"}, gpus)
