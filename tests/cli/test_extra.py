"""Daemons without the libraries of their extra say which one to install."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("program", "missing", "extra"),
    [
        ("powerctld", "numpy", "controller"),
        ("powerctld", "cryptography", "controller"),
        ("powerbridge", "httpx", "bridge"),
        ("powerbridge", "openleadr", "bridge"),
        ("powerweb", "starlette", "web"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(program: str, missing: str, extra: str) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None; sys.argv = [{program!r}]\n"
        f"from slurm_power.cli.{program} import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 1
    assert f"{program} needs {missing}" in done.stderr
    assert f"pip install 'slurm-power[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_module_of_ours_that_is_missing_is_a_fault_and_no_extra() -> None:
    code = (
        "import sys; sys.modules['slurm_power.controller.daemon'] = None\n"
        "from slurm_power.cli.powerctld import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30
    )
    assert "Traceback" in done.stderr and "pip install" not in done.stderr
