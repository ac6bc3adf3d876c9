"""The Pareto front: what is on it, what is dominated and by whom, and what is neither."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_power.model.tier import Family, refusals
from slurm_power.tiers.catalog import read_catalog
from slurm_power.tiers.pareto import COSTS, dominated_by, first_known, place
from tests.tiers.catalogs import EXAMPLE, families, family, tier


def test_the_ladder_that_was_measured() -> None:
    digits = read_catalog(EXAMPLE).families["digits"]
    assert first_known(digits) is COSTS["cpu"]
    placed = place(digits, COSTS["macs"])
    assert [one.tier.name for one in placed if one.on_front] == ["pruned75", "nas"]
    assert {one.tier.name: one.dominated_by for one in placed if one.dominated_by} == {
        "full": ("pruned50", "nas"),
        "int8": ("pruned50", "nas"),
        "pruned50": ("nas",),
    }
    # Refused: on no front, and it dominates nobody, cheap as it is.
    refused = next(one for one in placed if one.tier.name == "distilled")
    assert (refused.on_front, bool(refused.refused)) == (False, True)


def test_of_a_metric_where_less_is_better() -> None:
    chat = read_catalog(EXAMPLE).families["chat"]
    assert first_known(chat) is COSTS["watts"]
    assert [one.on_front for one in place(chat, COSTS["watts"])] == [True, True]
    worse = family(tier("a", 8.0, 100.0), tier("b", 9.0, 200.0), metric="perplexity", higher_is_better=False)
    assert [one.dominated_by for one in place(worse, COSTS["watts"])] == [(), ("a",)]


def test_equal_ones_do_not_dominate_each_other() -> None:
    twins = family(tier("a", 0.9, 100.0), tier("b", 0.9, 100.0))
    assert all(one.on_front for one in place(twins, COSTS["watts"]))
    assert dominated_by(twins, twins.tiers[0]) == ()


@pytest.mark.parametrize(
    ("other", "dominated"),
    [
        ({"value": 0.9, "watts": 90.0, "model_bytes": 10}, True),
        ({"value": 0.9, "watts": 100.0, "model_bytes": 10}, False),  # the same in all
        ({"value": 0.91, "watts": 100.0, "model_bytes": 10}, True),
        ({"value": 0.9, "watts": 90.0, "model_bytes": 11}, False),  # larger
        ({"value": 0.9, "watts": 90.0}, False),  # nobody knows how large
        ({"value": 0.89, "watts": 90.0, "model_bytes": 1}, False),
        ({"value": 0.9, "watts": 90.0, "model_bytes": 10, "parent": "gone"}, False),  # refused
    ],
)
def test_dominated_in_all_that_is_known(other: dict[str, float], dominated: bool) -> None:
    one = tier("one", 0.9, 100.0, model_bytes=10)
    of = family(one, tier("other", other.pop("value"), other.pop("watts"), **other))
    assert dominated_by(of, one) == (("other",) if dominated else ())


def test_a_cost_that_one_tier_alone_has_compares_nothing() -> None:
    assert first_known(family(tier("a", 0.9, 100.0), tier("b", 0.8))) is None
    assert first_known(family(tier("a", 0.9), tier("b", 0.8))) is None
    assert first_known(family(tier("a", None, 1.0), tier("b", None, 2.0))) is None


@given(families(), st.sampled_from(list(COSTS.values())))
@settings(max_examples=50, deadline=None)
def test_each_measured_tier_is_on_the_front_or_below_one_that_is(of: Family, cost: object) -> None:
    placed = {one.tier.name: one for one in place(of, cost)}  # type: ignore[arg-type]  # of a strategy
    for one in placed.values():
        known = one.cost is not None and one.tier.quality is not None
        if one.on_front:
            assert known
            assert not refusals(of, one.tier)
        elif known and not one.refused:
            assert any(placed[name].on_front for name in one.dominated_by)
        for name in one.dominated_by:
            better = placed[name]
            assert better.tier.quality is not None
            assert one.tier.quality is not None
            assert better.cost is not None
            assert one.cost is not None
            assert better.cost <= one.cost
            assert of.at_least(better.tier.quality.value, one.tier.quality.value)
