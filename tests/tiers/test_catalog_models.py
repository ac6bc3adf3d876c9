"""The sum by which a model is known: what changes it, and what cannot be summed."""

import dataclasses
import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from slurm_power.model.tier import Catalog
from slurm_power.tiers.catalog import file_sha256
from slurm_power.tiers.model_check import check_models
from tests.tiers.catalogs import family, tier


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "parts").mkdir(parents=True)
    (folder / "weights.bin").write_bytes(b"w" * 3_000_000)
    (folder / "parts" / "a b.json").write_text("{}")
    return folder


def test_of_a_file_it_is_that_of_sha256sum(model: Path) -> None:
    file = model / "weights.bin"
    assert file_sha256(file) == hashlib.sha256(file.read_bytes()).hexdigest()


def test_of_a_folder_it_is_that_of_the_list_which_sha256sum_prints(model: Path) -> None:
    listed = subprocess.run(
        "find . -type f -printf '%P\\n' | LC_ALL=C sort | tr '\\n' '\\0' | xargs -0 sha256sum -- | sha256sum",
        shell=True,
        cwd=model,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert file_sha256(model) == listed.split()[0]


def test_whatever_changes_the_files_changes_it(model: Path) -> None:
    sums = {file_sha256(model)}
    (model / "weights.bin").write_bytes(b"w" * 2_999_999 + b"x")
    sums.add(file_sha256(model))
    (model / "parts" / "a b.json").rename(model / "parts" / "b.json")
    sums.add(file_sha256(model))
    (model / "more").write_text("")
    sums.add(file_sha256(model))
    (model / "more").unlink()
    (model / "parts" / "b.json").unlink()
    sums.add(file_sha256(model))
    assert len(sums) == 5


def test_a_link_to_a_file_counts_as_the_file(model: Path, tmp_path: Path) -> None:
    before = file_sha256(model)
    (model / "weights.bin").rename(tmp_path / "blob")
    (model / "weights.bin").symlink_to(tmp_path / "blob")
    assert file_sha256(model) == before


def test_what_cannot_be_summed(model: Path, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        file_sha256(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(OSError, match="holds no file"):
        file_sha256(tmp_path / "empty")
    (model / "elsewhere").symlink_to(tmp_path / "empty")
    with pytest.raises(OSError, match="is a link to a folder"):
        file_sha256(model)
    (model / "elsewhere").unlink()
    os.mkfifo(model / "pipe")
    with pytest.raises(OSError, match="is no file"):
        file_sha256(model)


def test_each_thing_that_may_be_wrong_with_a_model_is_named(model: Path, tmp_path: Path) -> None:
    other, torn = tmp_path / "other.bin", tmp_path / "torn.bin"
    other.write_text("other")
    torn.write_text("torn")
    good = tier("good", 0.98, model_path=str(model), sha256=file_sha256(model))
    tiers = (
        good,
        tier("small", 0.98, model_path=str(other), sha256=file_sha256(other)),
        dataclasses.replace(good, name="swapped", model_path=str(other)),
        dataclasses.replace(good, name="corrupt", model_path=str(torn)),
        dataclasses.replace(good, name="gone", model_path=str(tmp_path / "gone")),
        dataclasses.replace(good, name="elsewhere", model_path="hf://a/b"),
        dataclasses.replace(good, name="unsummed", sha256=""),
        tier("none", 0.98),
    )
    found = check_models(Catalog(families={"digits": family(*tiers)}))
    assert {name: finding.refused or finding.unseen for name, finding in found.items()} == {
        "digits/swapped": f"its model was swapped: what lies at {other} is that of digits/small",
        "digits/corrupt": f"its model is corrupt or was changed: {torn} has the sha256 {file_sha256(torn)},"
        f" not {good.sha256}",
        "digits/gone": f"its model is not there: {tmp_path / 'gone'}",
        "digits/elsewhere": "its model at hf://a/b lies elsewhere and was not checked",
    }
    assert not found["digits/elsewhere"].refused
