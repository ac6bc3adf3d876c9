"""`slurm-power tiers build`: its refusals, each with the fix and nothing left behind, and its catalog."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from slurm_power.cli.commands.tiers.tiers_build import build
from slurm_power.tiers.building.build import Built
from slurm_power.tiers.building.ending import Stopped, StopWish
from slurm_power.tiers.building.fit import Recipe
from slurm_power.tiers.building.full import full
from slurm_power.tiers.building.work_folder import WorkFolder
from slurm_power.tiers.catalog import read_catalog
from slurm_power.tiers.model_sum import file_sha256
from tests.tiers.building.conftest import BLOBS, HERE, order_in


def run(
    folder: Path, method: str, *more: str, spec: str = BLOBS, tier: str = "t", family: str = "blobs"
) -> Result:
    words = [method, spec, f"--family={family}", f"--tier={tier}", f"--output={folder / tier}", *more]
    return CliRunner().invoke(build, words, catch_exceptions=False)


def blobs(name: str) -> str:
    return f"{HERE}/blobs.py:{name}"


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("full", ["--shape", "height=3"], "shape has no height; it has depth, width"),
        ("full", ["--shape", "width=2.5", "--shape", "depth=-1"], "depth is -1; it must be a number above 0"),
        ("full", ["--shape", "width"], "--shape 'width': write NAME=NUMBER"),
        (
            "full",
            ["--epochs", "0", "--learning-rate", "-1"],
            "epochs is 0; it must be 1 or more; learning rate is -1",
        ),
        ("full", ["--floor", "nan"], "--floor nan: it must be a finite number"),
        ("full", ["--device", "abacus"], "device is 'abacus'; it is cpu, or cuda"),
        ("quantize", ["--parent", "full"], "no such tier and no folder"),
        ("prune", ["--parent", "t"], "cannot be made from itself"),
        ("prune", ["--parent", "./t"], "cannot be made from itself"),
        ("search", [], "a search needs a floor"),
    ],
)
def test_refused(tmp_path: Path, method: str, options: list[str], words: str) -> None:
    (tmp_path / "models").mkdir()
    done = run(tmp_path / "models", method, *options)
    assert done.exit_code == 2, done.output
    assert words in done.output
    assert done.output.startswith("Error: ")
    assert not list((tmp_path / "models").iterdir())


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (f"{HERE}/blobs.py", "write it as module:object"),
        (f"{HERE}/nothing.py:blobs", "is not there"),
        (blobs("clouds"), "has no task named clouds; it has blobs, broken, leaking"),
        (blobs("number"), "has no task named number"),
        (blobs("Blobs"), "Blobs is a class; name an instance"),
        ("no.such.module:task", "task module 'no.such.module' is not there"),
        (
            blobs("leaking"),
            "1 of 96 validation rows are in the train split, too, the first of them row 7 (validation/7)",
        ),
        (blobs("broken"), "the train split has inputs that are no finite numbers"),
    ],
)
def test_a_task_that_cannot_be_used(tmp_path: Path, spec: str, words: str) -> None:
    done = run(tmp_path, "full", spec=spec)
    assert done.exit_code == 2, done.output
    assert words in done.output
    assert not list(tmp_path.iterdir())


def test_a_loss_that_is_no_number_ends_the_build_at_once(tmp_path: Path) -> None:
    done = run(tmp_path, "full", "--learning-rate=0.01", spec=blobs("wild"))
    assert done.exit_code == 1
    assert "the loss is nan at step " in done.output
    assert "with a learning rate of 0.0" in done.output
    assert not list(tmp_path.iterdir())


def test_names_are_checked_all_at_once(tmp_path: Path) -> None:
    done = run(tmp_path, "full", tier="T", family="a/b")
    assert done.exit_code == 2
    assert "--family 'a/b' is no name" in done.output
    assert "--tier 'T' is no name" in done.output


def test_what_is_there_stays(tmp_path: Path, blobs_full: Built) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "thesis.tex").write_text("years of work")
    done = run(tmp_path, "full")
    assert (done.exit_code, "say --replace" in done.output) == (2, True)
    done = run(tmp_path, "full", "--replace")
    assert done.exit_code == 2
    assert "holds other things than a tier: they are not replaced" in done.output
    assert (tmp_path / "t" / "thesis.tex").read_text() == "years of work"


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run(tmp_path / "file", "full")
    assert done.exit_code == 2
    assert f"{tmp_path / 'file'} is a file: name a folder that is not there yet" in done.output


def test_a_full_disk(tmp_path: Path) -> None:
    """/dev/full is a disk without room; a link leads the training log there."""
    work = tmp_path / ".t.building"
    work.mkdir()
    (work / ".training.jsonl.new").symlink_to("/dev/full")
    done = run(tmp_path, "full", "--epochs=2")
    assert done.exit_code == 1
    assert "No space left on device" in done.output
    assert not list(tmp_path.iterdir())
    assert run(tmp_path, "full", "--epochs=2").exit_code == 0


class StopInTheSecondEpoch(StopWish):
    """As a signal would at that moment: an epoch has 4 steps with batches of 64 rows, and an end."""

    calls = 0

    def check(self) -> None:
        self.calls += 1
        if self.calls == 6:
            raise Stopped(signal.SIGINT)


def test_unfinished_work_of_other_options_is_not_gone_on_with(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        full(order_in(tmp_path, "t", stop=StopInTheSecondEpoch()), recipe=Recipe(epochs=3))
    kept = tmp_path / ".t.building"
    assert (kept / "checkpoint.pt").is_file()
    done = run(tmp_path, "full", "--epochs=3", "--seed=4")
    assert done.exit_code == 2
    assert f"{kept} has unfinished work with another seed and recipe: build with the same" in done.output
    (kept / "checkpoint.pt").write_bytes(b"torn")
    done = run(tmp_path, "full", "--epochs=3")
    assert done.exit_code == 2
    assert f"remove {kept} to begin again" in done.output
    assert run(tmp_path, "full", "--epochs=3", "--seed=4", "--replace").exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["t"]


def test_two_builds_of_one_tier(tmp_path: Path) -> None:
    with WorkFolder(tmp_path / "t", {}):
        done = run(tmp_path, "full")
    assert done.exit_code == 2
    assert f"another build works on {tmp_path / 't'}: wait for it" in done.output


def test_a_tier_comes_into_the_catalog(tmp_path: Path) -> None:
    catalog = tmp_path / "tiers.toml"
    catalog.write_text("# ours\n")
    to_catalog = f"--catalog={catalog}"
    done = run(tmp_path, "full", to_catalog, "--epochs=3", "--floor=0.5", "--licence=MIT", tier="full")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(f"blobs/full (none) in {tmp_path / 'full'}: validation accuracy 0.")
    family = read_catalog(catalog).families["blobs"]
    (tier,) = family.tiers
    assert (family.metric, family.floor, family.workload.value) == ("accuracy", 0.5, "inference")
    assert tier.sha256 == file_sha256(Path(tier.model_path))
    assert (tier.licence, tier.quality, tier.watts, tier.multiply_adds) == ("MIT", None, None, 1376)

    catalog.write_text(catalog.read_text().replace("gpus = 1", 'gpus = 4\nenvironment = { B = "8" }'))
    assert run(tmp_path, "full", to_catalog, "--epochs=2", "--replace", tier="full").exit_code == 0
    done = run(tmp_path, "quantize", to_catalog, "--parent=full", tier="int8")
    assert done.exit_code == 0, done.output
    text = catalog.read_text()
    assert text.startswith("# ours\n")
    full, int8 = read_catalog(catalog).families["blobs"].tiers
    assert (full.gpu_count, full.environment, full.licence) == (4, {"B": "8"}, "MIT")
    assert full.sha256 != tier.sha256
    assert (int8.method.value, int8.parent) == ("int8", "full")

    (tmp_path / "full" / "training.jsonl").write_text("")
    done = run(tmp_path, "quantize", to_catalog, "--parent=full", tier="other")
    assert (done.exit_code, "the catalog has" in done.output) == (2, True)
    done = run(tmp_path, "full", to_catalog, "--epochs=1", spec=blobs("other"), tier="x")
    assert done.exit_code == 0, done.output
    catalog.write_text(text.replace('metric = "accuracy"', 'metric = "loss"').replace("= true", "= false"))
    done = run(tmp_path, "full", to_catalog, tier="y")
    assert done.exit_code == 2
    assert "family blobs has metric = loss, the task says accuracy" in done.output
    assert not (tmp_path / "y").exists()


def test_a_parent_that_the_catalog_does_not_have(tmp_path: Path, blobs_full: Built) -> None:
    done = run(
        tmp_path, "quantize", f"--parent={blobs_full.directory}", f"--catalog={tmp_path / 'tiers.toml'}"
    )
    assert done.exit_code == 2
    assert "has no tier blobs/full: add it first" in done.output
    done = run(tmp_path, "quantize", f"--parent={blobs_full.directory}")
    assert done.exit_code == 0, done.output


def without(package: str, *words: str) -> subprocess.CompletedProcess[str]:
    """The command on a Python where a package is not to be had."""
    program = (
        f"import sys; sys.modules[{package!r}] = None;"
        "from slurm_power.cli.commands.tiers.tiers_build import build; build()"
    )
    return subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("package", "method"), [("torch", "full"), ("torch_pruning", "prune"), ("optuna", "search")]
)
def test_what_is_not_installed_is_named(tmp_path: Path, package: str, method: str) -> None:
    parent = ["--parent=full"] if method == "prune" else []
    done = without(package, method, BLOBS, "--family=a", "--tier=b", f"--output={tmp_path}/b", *parent)
    assert done.returncode == 1
    assert done.stderr == f"Error: this needs {package}: pip install 'slurm-power[tiers]'\n"


def test_the_command_itself_loads_no_torch() -> None:
    program = (
        "import sys; from slurm_power.cli.commands.tiers.tiers_build import build;"
        "build(['prune', '--help'], standalone_mode=False);"
        "sys.exit(bool({'torch', 'numpy', 'optuna', 'sklearn'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).returncode == 0
