"""The controller's catalog follows its file; a broken one is named, and the last good one counts."""

import asyncio
from pathlib import Path

from slurm_power.controller.catalog_source import CatalogSource

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
