"""What needs torch is loaded by nothing but the commands that build and measure tiers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.recorder import PROJECT

PROGRAMS = Path(sys.executable).parent
LEARNING = {
    "torch", "torchao", "torch_pruning", "optuna", "sklearn", "fairlearn", "transformers", "accelerate",
    "pytorch_lightning", "lightning", "huggingface_hub", "safetensors", "pandas",
}  # fmt: skip
NUMERIC = {"numpy", "scipy", "matplotlib", "statsmodels"}
TERMINAL = {"click", "rich"}
# Runs in each program before it, as Python's own sitecustomize does, and writes at its end what was loaded.
WATCH = """
import atexit
import json
import os
import sys


def tell():
    with open(os.environ["LOADED"], "w") as file:
        json.dump(sorted({name.partition(".")[0] for name in sys.modules}), file)


atexit.register(tell)
"""
CATALOG = PROJECT / "docs" / "examples" / "tiers.toml"


def loaded(tmp_path: Path, *words: str, path: str = "/usr/bin:/bin") -> set[str]:
    """Run a program to its end and return the packages that it has loaded."""
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    out = tmp_path / "loaded.json"
    done = subprocess.run(
        words,
        env={
            "PATH": path,
            "PYTHONPATH": f"{tmp_path}:{PROJECT}",
            "HOME": str(tmp_path),
            "LOADED": str(out),
            "SLURM_CONF": str(tmp_path / "slurm.conf"),
        },
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode in {0, 1}, done.stderr
    return set(json.loads(out.read_text()))


def test_the_watch_sees_what_is_loaded(tmp_path: Path) -> None:
    code = "import numpy, click"
    assert {"numpy", "click"} <= loaded(tmp_path, sys.executable, "-c", code)


@pytest.mark.parametrize(
    "command",
    [
        "--help",
        "status --help",
        "tiers --help",
        "tiers list",
        "tiers show digits",
        "tiers show chat/small --json",
        "tiers check --no-slurm",
        "tiers compare digits",
        "tiers compare chat --json",
        "tiers approve --help",
        "tiers power --help",
        "tiers publish --help",
    ],
)
def test_the_terminal(tmp_path: Path, command: str) -> None:
    words = command.split()
    if words[0] == "tiers" and "--help" not in words:
        words += ["--catalog", str(CATALOG)]
    found = loaded(tmp_path, str(PROGRAMS / "slurm-power"), *words)
    assert "click" in found
    assert not found & (LEARNING | NUMERIC)


@pytest.mark.parametrize("words", ["--wrap=true", "--workload=training --flex=flex1 --wrap=true"])
def test_psbatch_until_it_becomes_sbatch(tmp_path: Path, words: str) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "sbatch").write_text("#!/bin/sh\necho given\n")
    (programs / "sbatch").chmod(0o755)
    # What was loaded is told at the end of the process, which sbatch's end would be.
    code = (
        "import os, sys; os.execv = os.execve = os.execvp = lambda *_: sys.exit(1);"
        "from slurm_power.cli.psbatch import main; sys.argv[0] = 'psbatch'; sys.exit(main())"
    )
    path = f"{programs}:/usr/bin:/bin"
    found = loaded(tmp_path, sys.executable, "-c", code, *words.split(), path=path)
    assert not found & (LEARNING | NUMERIC | TERMINAL)


def test_powerctld(tmp_path: Path) -> None:
    assert not loaded(tmp_path, str(PROGRAMS / "powerctld"), "--help") & LEARNING


def test_powerd_reads_its_configuration(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text(f'socket = "{tmp_path}/powerd.sock"\nstate_directory = "{tmp_path}/state"\n')
    found = loaded(tmp_path, str(PROGRAMS / "powerd"), "--config", str(file), "--node", "c1", "--check")
    assert not found & (LEARNING | NUMERIC | TERMINAL)


def test_no_module_but_those_that_learn_loads_what_learning_needs(tmp_path: Path) -> None:
    """Every module of ours in one process: daemons, gateway, advice, all commands."""
    learning = (
        "slurm_power.tiers.building",
        "slurm_power.tiers.evaluating",
        "slurm_power.tiers.examples",
        "slurm_power.advice.lightning",  # what a user's own training imports: it subclasses the framework's
        "slurm_power.advice.transformers",
        "slurm_power.cli.commands.tiers.tiers_build",
        "slurm_power.cli.commands.tiers.tiers_evaluat",  # tiers_evaluate, and its words
    )
    code = f"""
import importlib, pkgutil, slurm_power
for module in pkgutil.walk_packages(slurm_power.__path__, "slurm_power."):
    if not module.name.startswith({learning!r}) and not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""
    found = loaded(tmp_path, sys.executable, "-c", code)
    assert "numpy" in found
    assert not found & (LEARNING - {"pandas"})  # statsmodels, which learns to forecast, loads pandas


@pytest.mark.parametrize("hook", ["prolog", "epilog", "task_prolog", "prolog_slurmctld", "epilog_slurmctld"])
def test_hooks_load_the_standard_library_alone(tmp_path: Path, hook: str) -> None:
    done = subprocess.run(
        ["/usr/bin/python3", "-IS", "-X", "importtime", str(PROJECT / "prolog_epilog" / hook)],
        env={"PATH": os.defpath, "SLURM_CONF": str(tmp_path / "slurm.conf"), "SLURMD_NODENAME": "c1"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0
    names = {
        line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines() if "|" in line
    }
    assert "os" in names or "posix" in names
    foreign = {name for name in names - sys.stdlib_module_names if not name.startswith("_")}
    assert foreign <= {"imported package", "slurm_power_hook"}, foreign


@pytest.mark.parametrize(
    ("command", "package", "extra"),
    [
        ("card chat/small", "huggingface_hub", "tiers"),
        ("compare chat --output plot.png", "matplotlib", "report"),
    ],
)
def test_what_needs_an_extra_says_which(tmp_path: Path, command: str, package: str, extra: str) -> None:
    """With the extra ``cli`` alone; nothing is written."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {LEARNING | NUMERIC!r}:\n"
        "            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
    )
    done = subprocess.run(
        [str(PROGRAMS / "slurm-power"), "tiers", *command.split(), "--catalog", str(CATALOG)],
        env={"PATH": os.defpath, "PYTHONPATH": f"{tmp_path}:{PROJECT}", "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == f"Error: this needs {package}: pip install 'slurm-power[{extra}]'\n"
    assert not (tmp_path / "plot.png").exists()
