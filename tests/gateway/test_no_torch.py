"""A gateway or test server that loaded torch would fail here; all of this folder shows that none does."""

import importlib.util
import subprocess
import sys

import pytest


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="nothing here could load it")
@pytest.mark.parametrize("module", ["torch", "safetensors.torch"])
def test_children_of_these_tests_cannot_load_what_learns(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import slurm_power.gateway.daemon; import {module}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert f"{module.partition('.')[0]} must not be loaded by a gateway or its tests" in done.stderr
