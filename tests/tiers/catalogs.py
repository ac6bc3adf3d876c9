"""Families and tiers for tests, and hypothesis strategies for any of them."""

from datetime import date
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from slurm_power.model.job import Workload
from slurm_power.model.tier import Family, PowerSource, Quality, Tier, TierMethod

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "tiers.toml"
NAMES = ("full", "int8", "pruned", "small")


def quality(value: float, **more: Any) -> Quality:
    return Quality(**{"value": value, "ci95": 0.01, "sample_count": 540, **more})


def tier(name: str, value: float | None, watts: float | None = None, **more: Any) -> Tier:
    """A tier with one GPU that draws ``watts``, approved."""
    return Tier(**{
        "name": name,
        "quality": None if value is None else quality(value),
        "watts_per_gpu": watts,
        "power_source": PowerSource.UNKNOWN if watts is None else PowerSource.NVML,
        "approved_by": "someone",
        **more,
    })  # fmt: skip


def family(*tiers: Tier, **more: Any) -> Family:
    return Family(**{
        "name": "digits",
        "task": "image-classification",
        "workload": Workload.INFERENCE,
        "metric": "accuracy",
        "tiers": tiers,
        **more,
    })  # fmt: skip


_SHARES = st.floats(0.0, 1.0, allow_nan=False)
_AMOUNTS = st.none() | st.floats(1e-9, 1e12)
_COUNTS = st.none() | st.integers(0, 10**15)
# What may stand on one line of a catalog: control characters and half a pair of surrogates may not.
_TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters=[*map(chr, range(32)), "\x7f"]), max_size=20
)
_DATES = st.none() | st.dates(date(1970, 1, 1), date(2999, 12, 31))


@st.composite
def qualities(draw: st.DrawFn) -> Quality:
    return Quality(
        value=draw(_SHARES),
        ci95=draw(st.none() | _SHARES),
        sample_count=draw(st.none() | st.integers(1, 10**9)),
        worst_group=draw(st.none() | _SHARES),
        worst_group_name=draw(_TEXT),
        groups=draw(st.dictionaries(_TEXT, _SHARES, max_size=3)),
        more=draw(st.dictionaries(_TEXT, st.floats(-1e6, 1e6), max_size=3)),
        measured_on=draw(_TEXT),
        measured_date=draw(_DATES),
    )


@st.composite
def tiers(draw: st.DrawFn, name: str, parents: tuple[str, ...]) -> Tier:
    gpus = draw(st.integers(0, 16))
    watts = draw(st.none() | (st.just(0.0) if gpus == 0 else st.floats(0.1, 2000.0)))
    approved = draw(st.booleans())
    return Tier(
        name=name,
        method=draw(st.sampled_from(TierMethod)),
        parent=draw(st.sampled_from(("", *parents))),
        sha256=draw(st.just("") | st.text("0123456789abcdef", min_size=64, max_size=64)),
        licence=draw(_TEXT),
        quality=draw(st.none() | qualities()),
        gpu_count=gpus,
        watts_per_gpu=watts,
        power_source=draw(st.sampled_from(PowerSource)),
        items_per_second=draw(_AMOUNTS),
        joules_per_item=draw(_AMOUNTS),
        memory_bytes=draw(_COUNTS),
        model_bytes=draw(_COUNTS),
        multiply_adds=draw(_COUNTS),
        sbatch=tuple(draw(st.lists(st.sampled_from(["--mem=8G", "-c4", "--exclusive"]), unique=True))),
        environment=draw(st.dictionaries(st.sampled_from(["MODEL", "BATCH", "_X1"]), _TEXT)),
        approved_by="mlops" if approved else "",
        approved_date=draw(_DATES) if approved else None,
        better_than_parent=draw(_TEXT),
    )


@st.composite
def families(draw: st.DrawFn) -> Family:
    """Any family that a catalog may hold; parents come before their children."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    by = draw(st.booleans())
    return Family(
        name=draw(st.sampled_from(["digits", "qwen2.5", "a_b-c", "0"])),
        task=draw(_TEXT),
        workload=draw(st.sampled_from(Workload)),
        metric="accuracy",
        tiers=tuple(draw(tiers(name, tuple(names[:at]))) for at, name in enumerate(names)),
        floor=draw(st.none() | _SHARES),
        data=draw(_TEXT),
        subgroup_by="class" if by else "",
        subgroup_metric="recall" if by else "",
        max_drop=draw(st.none() | _SHARES) if by else None,
    )
