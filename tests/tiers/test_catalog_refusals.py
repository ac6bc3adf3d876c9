"""Each reason for which a tier is refused or not chosen, and that nothing ever chooses such a one."""

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_power.model.quality_metric import is_ratio, known_direction
from slurm_power.model.tier import (
    Catalog,
    Family,
    PowerSource,
    Quality,
    Tier,
    TierMethod,
    better_than_parent,
    lighter_choices,
    refusals,
)
from slurm_power.tiers.standing import Standing, standing, warnings
from tests.tiers.catalogs import NAMES, families, family, quality, tier

FULL = tier("full", 0.98, 400.0)
BY_CLASS = {"subgroup_by": "class", "subgroup_metric": "recall", "max_drop": 0.05}


def grouped(**groups: float) -> Quality:
    return quality(0.98, groups=groups)


@pytest.mark.parametrize(
    ("of", "judged", "why"),
    [
        (family(FULL, tier("a", None)), "a", "its accuracy was never measured"),
        (family(FULL, tier("a", math.nan)), "a", "its accuracy is nan, which is no number to judge by"),
        (
            family(FULL, tier("a", 0.94), floor=0.95),
            "a",
            "its accuracy of 0.94 is below the floor of 0.95",
        ),
        (
            family(tier("a", 30.0), metric="perplexity", higher_is_better=False, floor=25.0),
            "a",
            "its perplexity of 30 is above the floor of 25",
        ),
        (
            family(
                tier("full", 0.98, quality=grouped(cats=0.97, dogs=0.96)),
                tier("a", 0.98, quality=grouped(cats=0.97, dogs=0.90)),
                **BY_CLASS,
            ),
            "a",
            "dogs loses 0.06 in recall, 0.05 are allowed",
        ),
        (
            family(
                tier("full", 0.98, quality=grouped(cats=0.97, dogs=0.96)),
                tier("a", 0.98, quality=grouped(cats=0.97)),
                **BY_CLASS,
            ),
            "a",
            "dogs was not measured",
        ),
        (
            family(
                tier("full", 0.98, quality=grouped(cats=0.97)),
                tier("a", 0.98, quality=grouped(cats=math.nan)),
                **BY_CLASS,
            ),
            "a",
            "cats loses nan in recall, 0.05 are allowed",
        ),
        (
            family(
                tier("full", 0.98, quality=quality(0.98, worst_group=0.9)),
                tier("a", 0.98, quality=quality(0.98, worst_group=0.8)),
                **BY_CLASS,
            ),
            "a",
            "the worst group loses 0.1 in recall, 0.05 are allowed",
        ),
        (
            family(tier("full", 0.98, quality=quality(0.98, worst_group=0.9)), tier("a", 0.98), **BY_CLASS),
            "a",
            "the recall by class of a was never measured",
        ),
        (
            family(tier("full", None), tier("a", 0.98), **BY_CLASS),
            "a",
            "its recall by class cannot be judged, full was never measured",
        ),
        (
            # Of a loss, more is worse.
            family(
                tier("full", 0.98, quality=grouped(cats=0.5)),
                tier("a", 0.98, quality=grouped(cats=0.6)),
                subgroup_by="class",
                subgroup_metric="loss",
                max_drop=0.05,
            ),
            "a",
            "cats loses 0.1 in loss, 0.05 are allowed",
        ),
        (
            family(FULL, tier("a", 0.98, parent="gone")),
            "a",
            "there is no tier gone that a could have been made from",
        ),
        (
            family(FULL, tier("a", 0.98, parent="b"), tier("b", 0.98, parent="a")),
            "a",
            "its parents go in a circle: a from b from a",
        ),
        (
            family(
                FULL, tier("c", 0.98, parent="a"), tier("a", 0.98, parent="b"), tier("b", 0.98, parent="a")
            ),
            "c",
            "its parents go in a circle: c from a from b from a",
        ),
        (
            family(tier("full", 0.90), tier("a", 0.95, parent="full")),
            "a",
            (
                "it is better than its parent full by more than both intervals: look for a weak full or for"
                " test rows that it was trained on; if there is a reason, write it as better_than_parent"
            ),
        ),
    ],
)
def test_a_refused_tier_says_why(of: Family, judged: str, why: str) -> None:
    one = of.tier(judged)
    assert one is not None
    assert refusals(of, one) == (why,)
    assert standing(of, one)[0] is Standing.REFUSED


def test_a_tier_that_needs_more_gpus_than_there_are_is_refused() -> None:
    big = tier("big", 0.98, 400.0, gpu_count=8)
    assert refusals(family(big), big) == ()
    assert refusals(family(big), big, gpus_there=8) == ()
    assert refusals(family(big), big, gpus_there=4) == ("it needs 8 GPUs and there are 4",)
    assert standing(family(big), big, gpus_there=4) == (Standing.REFUSED,)


def test_all_reasons_are_told() -> None:
    bad = tier("bad", 0.5, parent="gone", gpu_count=9)
    assert len(refusals(family(FULL, bad, floor=0.9), bad, gpus_there=1)) == 3


@pytest.mark.parametrize(
    ("teacher", "student", "known_reason", "refused"),
    [
        (quality(0.90), quality(0.919), "", False),  # the intervals meet
        (quality(0.90), quality(0.921), "", True),
        (quality(0.90), quality(0.921), "the teacher saw a tenth of the data", False),
        (quality(0.90), quality(0.5), "", False),
        (quality(0.90, ci95=None), quality(0.99), "", False),  # nobody can tell
    ],
)
def test_a_student_better_than_its_teacher(
    teacher: Quality, student: Quality, known_reason: str, refused: bool
) -> None:
    made = tier(
        "student", None, quality=student, parent="full", method=TierMethod.DISTILLED,
        better_than_parent=known_reason,
    )  # fmt: skip
    of = family(tier("full", None, quality=teacher), made)
    assert bool(refusals(of, made)) is refused
    assert bool(better_than_parent(of, made)) is (refused or bool(known_reason))
    said = " ".join(warnings(of).get("student", []))
    if known_reason:
        assert known_reason in said
    if teacher.ci95 is None:
        assert "better than its parent full, by chance or not" in said


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"watts_per_gpu": None}, Standing.UNKNOWN_POWER),
        ({"power_source": PowerSource.UNKNOWN}, Standing.UNKNOWN_POWER),
        ({"power_source": PowerSource.PROXY}, Standing.UNKNOWN_POWER),
        ({"watts_per_gpu": math.nan}, Standing.UNKNOWN_POWER),
        ({"watts_per_gpu": -100.0}, Standing.UNKNOWN_POWER),
        ({"approved_by": ""}, Standing.NOT_APPROVED),
        ({"quality": None}, Standing.REFUSED),
        ({}, None),
    ],
)
def test_what_keeps_a_tier_from_being_chosen(changed: dict[str, object], said: Standing | None) -> None:
    light = dataclasses.replace(tier("light", 0.97, 100.0), **changed)  # type: ignore[arg-type]  # by the table above
    of = family(FULL, light)
    assert (said in standing(of, light)) if said else standing(of, light) == ()
    chosen = lighter_choices(of, current="full", allowed=["any"])
    assert chosen == (() if said else (light,))


def test_choices_need_consent_and_quality_and_less_power() -> None:
    light, heavy = tier("light", 0.96, 100.0), tier("heavy", 0.99, 500.0)
    of = family(FULL, light, heavy)
    assert lighter_choices(of, current="full", allowed=["light"]) == (light,)
    assert lighter_choices(of, current="full", allowed=["heavy"]) == ()
    assert lighter_choices(of, current="full", allowed=[]) == ()
    assert lighter_choices(of, current="full", allowed=["any"], min_quality=0.97) == ()
    assert lighter_choices(of, current="gone", allowed=["any"]) == ()
    users = dataclasses.replace(of, owner="ann")
    assert lighter_choices(users, current="full", allowed=["any"]) == ()


@pytest.mark.parametrize(
    ("other", "kept"),
    [
        ({"value": 0.97, "watts": 90.0}, False),
        ({"value": 0.96, "watts": 100.0}, True),  # equal: neither beats the other
        ({"value": 0.95, "watts": 90.0}, True),
        ({"value": 0.97, "watts": 90.0, "items_per_second": 5.0}, True),  # nobody knows which is faster
    ],
)
def test_a_tier_that_another_choice_beats_is_left_out(other: dict[str, float], kept: bool) -> None:
    first = tier("first", 0.96, 100.0)
    more = {"items_per_second": other["items_per_second"]} if "items_per_second" in other else {}
    second = tier("second", other["value"], other["watts"], **more)
    chosen = lighter_choices(family(FULL, first, second), current="full", allowed=["any"])
    assert (first in chosen) is kept
    assert second in chosen
    # One that may not be chosen beats nobody.
    chosen = lighter_choices(family(FULL, first, second), current="full", allowed=["first"])
    assert chosen == (first,)


@given(
    families(),
    st.sampled_from(NAMES),
    st.lists(st.sampled_from([*NAMES, "any"]), unique=True),
    st.none() | st.floats(0.0, 1.0),
)
@settings(max_examples=80, deadline=None)
def test_nothing_is_ever_chosen_that_may_not_be(
    of: Family, current: str, allowed: list[str], least: float | None
) -> None:
    now = of.tier(current)
    chosen = lighter_choices(of, current=current, allowed=allowed, min_quality=least)
    for one in chosen:
        assert now is not None
        assert now.watts is not None
        assert one.watts is not None
        assert one.watts < now.watts
        assert not refusals(of, one)
        assert one.approved_by
        assert one.power_source not in (PowerSource.UNKNOWN, PowerSource.PROXY)
        assert one.name in allowed or "any" in allowed
        assert one.quality is not None
        assert least is None or one.quality.value >= least
    assert list(chosen) == sorted(chosen, key=lambda one: one.watts or 0.0)
    # Nothing is lost by leaving out what another one beats: something as light is there for each.
    for one in of.tiers:
        alone = lighter_choices(of, current=current, allowed=[one.name], min_quality=least)
        if alone and (one.name in allowed or "any" in allowed):
            assert min(other.watts or 0.0 for other in chosen) <= (one.watts or 0.0)


@pytest.mark.parametrize(
    ("changed", "of", "words"),
    [
        ({"floor": None}, "", "it has no floor"),
        ({"floor": 0.999}, "", "no tier meets the floor of 0.999 in accuracy: is it too high"),
        ({"fingerprint": ""}, "", "it has no fingerprint"),
        ({"max_drop": None}, "", "it has no subgroup.max_drop"),
        ({"floor": 0.975}, "full", "its accuracy of 0.98 +-0.01 may well miss the floor of 0.975"),
    ],
)
def test_what_is_to_be_looked_at_in_a_family(changed: dict[str, object], of: str, words: str) -> None:
    whole = family(FULL, floor=0.9, fingerprint="sha256:0", max_drop=0.5)
    assert words not in " ".join(warnings(whole).get(of, []))
    made = dataclasses.replace(whole, **changed)  # type: ignore[arg-type]  # by the table above
    assert words in " ".join(warnings(made)[of])


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (tier("a", 0.98, quality=quality(0.98, ci95=None)), "its accuracy has no interval (ci95)"),
        (tier("a", 0.98, method=TierMethod.INT8), "it is int8 and does not say of which parent"),
        (tier("a", 0.98), "nobody knows what it draws"),
        (tier("a", 0.98, 100.0, power_source=PowerSource.PROXY), "its power is guessed by a proxy"),
        (tier("a", 0.98, model_path="/m"), "its model has no sha256"),
        (tier("a", 0.98, model_path="/m" * 200), "longer than 256 characters"),
        (tier("a", 0.98), "it does not say its licence"),
    ],
)
def test_what_is_to_be_looked_at_in_a_tier(one: Tier, words: str) -> None:
    assert words in " ".join(warnings(family(FULL, one))["a"])


@pytest.mark.parametrize(
    ("metric", "ratio", "higher"),
    [
        ("accuracy", True, True), ("macro_f1", True, True), ("Recall", True, True),
        ("distinct_2", True, True),
        ("perplexity", False, False), ("val_loss", False, False), ("wer", False, False),
        ("bleu", False, None), ("reward", False, None), ("glossary", False, None), ("f10", False, None),
    ],
)  # fmt: skip
def test_what_a_metrics_name_tells(metric: str, ratio: bool, higher: bool | None) -> None:
    assert is_ratio(metric) is ratio
    assert known_direction(metric) is higher


def test_full_names() -> None:
    catalog = Catalog(families={"digits": family(FULL)})
    assert catalog.find("digits/full") == (catalog.families["digits"], FULL)
    assert [catalog.find(name) for name in ("digits", "digits/x", "x/full", "", "digits/full/x")] == [
        None
    ] * 5
