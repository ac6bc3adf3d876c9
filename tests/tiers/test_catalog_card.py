"""Model cards: the Hub's own library reads back what was written, whatever stands in the catalog."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings

from slurm_power.model.job import Workload
from slurm_power.model.tier import Family, PowerSource, Quality
from slurm_power.tiers.card import model_card
from slurm_power.tiers.catalog import read_catalog
from tests.tiers.catalogs import EXAMPLE, families, family, quality, tier

hub = pytest.importorskip("huggingface_hub", reason="an extra")


def test_the_results_come_back_with_interval_subgroups_and_more() -> None:
    of = family(
        tier("full", 0.99, model_path="hf://example/base"),
        tier(
            "int8",
            0.98,
            400.0,
            parent="full",
            licence="MIT",
            joules_per_item=0.25,
            quality=quality(
                0.98,
                groups={"8": 0.94, "0": 1.0},
                worst_group=0.94,
                worst_group_name="8",
                more={"macro_f1": 0.97},
            ),
        ),
        data="digits/test",
        subgroup_by="class",
        subgroup_metric="recall",
    )
    text = model_card(of, of.tiers[1])
    data = hub.ModelCard(text).data
    results = [
        (one.metric_type, one.metric_value, one.metric_config, one.dataset_name, one.dataset_split)
        for one in data.eval_results
    ]
    assert sorted(results, key=str) == sorted(
        [
            ("accuracy", 0.98, None, "digits/test", "test"),
            ("recall", 1.0, "class=0", "digits/test", "test"),
            ("recall", 0.94, "class=8", "digits/test", "test"),
            ("macro_f1", 0.97, None, "digits/test", "test"),
        ],
        key=str,
    )
    assert data.eval_results[0].metric_args == {"ci95": 0.01, "samples": 540}
    assert (data.license, data.base_model, data.datasets, data.pipeline_tag) == (
        "mit",
        "example/base",
        ["digits"],
        "image-classification",
    )
    assert data.slurm_power["joules_per_item"] == 0.25
    assert data.slurm_power["power_source"] == "nvml"
    assert "Measured by the GPUs themselves (NVML)." in text
    assert "Worst: 8, 0.94." in text
    assert "2. `full`, none" in text


def test_what_a_class_is_measured_by_comes_first() -> None:
    more = {"bleu": 0.3, "distinct_2": 0.8, "loss": 2.0, "perplexity": 8.0, "accuracy": 0.5}
    one = tier("a", 0.9, quality=quality(0.9, more=more))
    headings = {
        Workload.TRAINING: ("## Training", "loss"),
        Workload.GENERATION: ("## Generation: quality, diversity, consistency", "perplexity"),
        Workload.INFERENCE: ("## Inference", "accuracy"),
    }
    for workload, (heading, first) in headings.items():
        section = model_card(family(one, workload=workload), one).partition(f"{heading}\n\n")[2]
        assert section.splitlines()[2].startswith(f"| {first} |"), section


def test_what_speaks_against_a_tier_is_in_its_card() -> None:
    of = read_catalog(EXAMPLE).families["digits"]
    distilled, full = of.tier("distilled"), of.tier("full")
    assert distilled is not None
    assert full is not None
    assert "**Refused: the worst group loses 0.134 in recall, 0.05 are allowed.**" in model_card(
        of, distilled
    )
    assert "**Not approved by anybody yet.**" in model_card(of, full)
    assert "nobody knows what it draws" in model_card(of, full)
    never = tier("never", None)
    card = model_card(family(never), never)
    assert "Never measured." in card
    assert hub.ModelCard(card).data.eval_results is None


def test_energy_says_how_it_was_found_out() -> None:
    by_proxy = tier("a", 0.9, quality=quality(0.9, more={"cpu_seconds_per_item": 4.7e-4}))
    text = model_card(family(by_proxy), by_proxy)
    assert "| processor seconds per item | 0.00047 |\n\nNo watts or joules are known." in text
    unknown = tier("a", 0.9)
    assert "## Energy\n\nNo watts or joules are known." in model_card(family(unknown), unknown)
    declared = tier("a", 0.9, 300.0, power_source=PowerSource.DECLARED)
    assert "Declared by its maker, not measured here" in model_card(family(declared), declared)


def test_the_folder_of_a_model_says_where_it_comes_from(tmp_path: Path) -> None:
    one = tier("a", 0.9, model_path=str(tmp_path))
    assert "1. `a`, none\n" in model_card(family(one), one)
    (tmp_path / "tier.json").write_text('{"seed": 7, "shape": {"dense": 64, "first": 8}}')
    assert "1. `a`, none, seed 7, dense 64, first 8\n" in model_card(family(one), one)
    for broken in ("[1]", "{", '{"seed": "x", "shape": 3}', "[" * 100_000):
        (tmp_path / "tier.json").write_text(broken)
        assert "1. `a`, none\n" in model_card(family(one), one)


def test_a_licence_that_the_hub_does_not_list_is_named() -> None:
    one = tier("a", 0.9, licence="Our own")
    data = hub.ModelCard(model_card(family(one), one)).data
    assert (data.license, data.license_name) == ("other", "Our own")


def test_words_of_others_are_no_markup() -> None:
    wild = "x | y <b>`# [a](b)"
    one = tier("a", 0.9, quality=quality(0.9, measured_on=wild), approved_by=wild, better_than_parent=wild)
    text = model_card(family(one, task=wild, data=wild), one).partition("\n---\n\n")[2]
    assert "<b>" not in text.replace("\\<b\\>", "")
    rows = [line for line in text.splitlines() if line.startswith("| measured on")]
    assert rows == ["| measured on | x \\| y \\<b\\>\\`\\# \\[a\\](b) |"]


@given(families())
@settings(max_examples=40, deadline=None)
def test_any_tier_has_a_card_that_is_read_back(of: Family) -> None:
    for one in of.tiers:
        data = hub.ModelCard(model_card(of, one)).data
        kept = data.eval_results or []
        if one.quality is None:
            assert not kept
            continue
        assert len(kept) == 1 + _subgroups(one.quality) + len(one.quality.more)
        main = next(result for result in kept if result.metric_config is None)
        assert (main.metric_type, main.metric_value) == ("accuracy", one.quality.value)
        assert dataclasses.asdict(main)["task_type"]


def _subgroups(of: Quality) -> int:
    names = set(of.groups)
    if of.worst_group is not None:
        names.add(of.worst_group_name or "worst")
    return len(names)
