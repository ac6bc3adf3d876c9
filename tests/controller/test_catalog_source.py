"""The controller's catalog follows its file; a broken one is named, and the last good one counts."""

import asyncio
import errno
from pathlib import Path

import pytest

from slurm_power.controller.tiers.catalog_source import CatalogSource

GOOD = """
[family.digits]
task = "image-classification"
class = "inference"
metric = "accuracy"
higher_is_better = true

[[family.digits.tier]]
name = "%s"
method = "none"
model = "/models/digits"
gpus = 2
"""


def test_it_follows_its_file(tmp_path: Path) -> None:
    faults: list[str] = []
    file = tmp_path / "tiers.toml"
    source = CatalogSource(file, lambda _subject, problem: faults.append(problem))

    def names() -> list[str]:
        asyncio.run(source.look())
        return [tier.name for family in source.catalog.families.values() for tier in family.tiers]

    assert names() == [], "no file: no tiers, and no fault"
    file.write_text(GOOD % "full")
    assert names() == ["full"]
    file.write_text(GOOD % "fuller")
    assert names() == ["fuller"]
    assert faults == []
    file.write_text("[family.digits\n")
    assert names() == ["fuller"]
    assert names() == ["fuller"]
    assert len(faults) == 1, "said once"
    assert faults[0].endswith("the catalog of before counts")
    file.write_text(GOOD % "full")
    assert names() == ["full"]
    assert faults[1:] == [""], "well again"
    file.unlink()
    assert names() == []


def test_whatever_is_wrong_with_its_file_it_goes_on(tmp_path: Path) -> None:
    """Its task is one of those without which powerctld ends."""
    faults: list[str] = []
    file = tmp_path / "tiers.toml"
    source = CatalogSource(file, lambda _subject, problem: faults.append(problem))
    for wrong in (
        "gpus = " + "1" * 5000,
        "[family.digits]\nmetric = 0x" + "f" * 5000,
        "\0",
        "a = " + "[" * 9999,
    ):
        file.write_text(GOOD % "full")
        asyncio.run(source.look())
        file.write_text(wrong)
        asyncio.run(source.look())
        assert list(source.catalog.families) == ["digits"]
        assert faults[-1].endswith("the catalog of before counts")


def test_a_file_that_could_not_be_read_for_a_moment_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing about the file itself changes meanwhile."""
    faults: list[str] = []
    file = tmp_path / "tiers.toml"
    file.write_text(GOOD % "full")
    source = CatalogSource(file, lambda _subject, problem: faults.append(problem))
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", _failing)
        asyncio.run(source.look())
    assert (list(source.catalog.families), len(faults)) == ([], 1)
    asyncio.run(source.look())
    assert (list(source.catalog.families), faults[1:]) == (["digits"], [""])


def _failing(*_words: object, **_more: object) -> None:
    raise OSError(errno.EIO, "Input/output error")
