"""A large and a small generator trained here, streamed through a gateway that is switched; their cards."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from containers.bench.text_switch import switched
from containers.cluster.layout import CHECKOUT

pytest.importorskip("torch", reason="needs the extras tiers and evaluation")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        shutil.which("haproxy", path="/usr/sbin:/usr/bin:/sbin:/bin") is None,
        reason="needs haproxy: containers/install-packages.sh gateway",
    ),
]


def card(catalog: Path, tier: str) -> str:
    words = [sys.executable, "-m", "slurm_power.cli.slurm_power", "tiers", "card", tier]
    done = subprocess.run(
        [*words, f"--catalog={catalog}"], capture_output=True, text=True, check=True, cwd=CHECKOUT
    )
    return done.stdout


def test_two_generators_are_streamed_through_a_switch_there_and_back(tmp_path: Path) -> None:
    from containers.bench.text_tiers import TEXT_TASK, build_generators
    from slurm_power.tiers.catalog import read_catalog

    spent = build_generators(tmp_path, 4.0, only=("large", "small"))
    assert spent["large"] + spent["small"] <= 60.0
    tiers = read_catalog(tmp_path / "tiers.toml").families["manual-text"].tiers
    found = switched(tmp_path, TEXT_TASK, tiers)
    assert found.failed == []
    assert {one.tier for one in found.streams} == {"manual-text/large", "manual-text/small"}
    assert found.open_at_shift > 0, "some were under way at the shifts"
    assert all(len(texts) == 1 for texts in found.texts.values()), "a stream is of one tier to its end"
    for tier in tiers:
        assert tier.quality is not None
        text = card(tmp_path / "tiers.toml", f"manual-text/{tier.name}")
        assert f"- type: perplexity\n      value: {tier.quality.value!r}" in text
        for name in ("distinct_1", "distinct_2", "consistency_same_seed", "consistency_across_seeds"):
            assert f"- type: {name}\n      value: {tier.quality.more[name]!r}" in text, name
        assert tier.quality.more["consistency_same_seed"] == 1.0
