"""Writing one tier into a catalog: the rest of the file stays, at once or not at all, for many writers."""

import dataclasses
import math
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slurm_power.model.job import Workload
from slurm_power.model.tier import Family, Tier, refusals
from slurm_power.tiers.catalog import CatalogError, read_catalog, write_tier
from slurm_power.tiers.catalog_file import parse_catalog
from slurm_power.tiers.standing import standing, warnings
from slurm_power.tiers.toml_text import toml_document
from tests.tiers.catalogs import EXAMPLE, families, family, tier

BEFORE = """\
# Ours since June.
[family.digits]
class = "inference"   # answers one image at a time
metric = "accuracy"
floor = 0.95

# The one that was there first.
[[family.digits.tier]]
name = "full"
method = "none"
gpus = 2  # both of them
sbatch = [
    "--gpus=2",
]

# Of another group.
[family.other]
class = "generation"
metric = "perplexity"
higher_is_better = false
[[family.other.tier]]
name = "a"
method = "none"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "tiers.toml").write_text(BEFORE)
    return tmp_path / "tiers.toml"


def of(file: Path, name: str = "digits") -> Family:
    return read_catalog(file).families[name]


def test_a_new_tier_stands_behind_the_others_and_every_other_line_as_it_was(file: Path) -> None:
    write_tier(file, of(file), tier("int8", 0.98, 400.0, parent="full"))
    text = file.read_text()
    lines = iter(text.splitlines())
    assert all(line in lines for line in BEFORE.splitlines()), text
    assert [one.name for one in of(file).tiers] == ["full", "int8"]
    assert of(file).tiers[1].watts == 400.0
    assert text.index('"int8"') < text.index("# Of another group.")


def test_a_tier_of_the_same_name_is_replaced_whole(file: Path) -> None:
    write_tier(file, of(file), tier("full", 0.98, approved_by="", gpu_count=3))
    text = file.read_text()
    assert "both of them" not in text
    assert "# The one that was there first." in text
    assert "# Of another group." in text
    full = of(file).tier("full")
    assert full is not None
    assert (full.gpu_count, full.sbatch, full.approved_by) == (3, (), "")
    write_tier(file, of(file), full)
    assert file.read_text() == text


def test_what_the_family_lacks_is_added_and_what_it_has_stays(file: Path) -> None:
    told = family(floor=0.5, data="digits/test", fingerprint="sha256:" + "a" * 64)
    write_tier(file, told, tier("int8", 0.98))
    found = of(file)
    assert (found.floor, found.data, found.fingerprint) == (0.95, told.data, told.fingerprint)


def test_a_family_of_another_metric_is_not_written_into(file: Path) -> None:
    other = family(metric="loss", higher_is_better=False, workload=Workload.TRAINING)
    with pytest.raises(CatalogError) as caught:
        write_tier(file, other, tier("int8", 0.98))
    assert caught.value.problems == [
        'family.digits.class: is "inference" in the file, not "training"',
        'family.digits.metric: is "accuracy" in the file, not "loss"',
    ]
    assert file.read_text() == BEFORE


@pytest.mark.parametrize(
    "wrong",
    [
        tier("int8", 0.98, parent="missing"),
        tier("int8", float("nan")),
        tier("int8", 98.0),
        tier("Int 8", 0.98),
        tier("int8", 0.98, environment={"LD_PRELOAD": "x"}),
        tier("int8", 0.98, licence="a\nb"),
    ],
)
def test_a_tier_that_would_break_the_catalog_is_not_written(file: Path, wrong: Tier) -> None:
    with pytest.raises(CatalogError):
        write_tier(file, of(file), wrong)
    assert file.read_text() == BEFORE
    assert [left.name for left in file.parent.iterdir() if left.name != ".tiers.toml.lock"] == ["tiers.toml"]


def test_a_new_file_and_folder_are_made(tmp_path: Path) -> None:
    file = tmp_path / "new" / "tiers.toml"
    write_tier(file, family(), tier("full", 0.98))
    assert of(file).tiers[0].name == "full"


@pytest.mark.parametrize(
    "text",
    [
        (
            'family.digits.class = "inference"\nfamily.digits.metric = "accuracy"\n'
            'family.digits.tier = [ { name = "full", method = "none" } ]\n'
        ),
        (
            '[family]\ndigits = { class = "inference", metric = "accuracy", '
            'tier = [{ name = "full", method = "none" }] }'
        ),
        (
            '[family.digits]\nclass = "inference"\nmetric = "accuracy"\n'
            'task = """\n[[family.digits.tier]] # \\\n"""\n'
            '[[family.digits.tier]]\nname = "full"\nmethod = "none"'
        ),
    ],
    ids=["dotted", "inline", "header in a string"],
)
def test_any_form_of_toml_keeps_its_meaning(tmp_path: Path, text: str) -> None:
    file = tmp_path / "tiers.toml"
    file.write_text(text)
    before = of(file)
    write_tier(file, before, tier("int8", 0.98))
    assert [one.name for one in of(file).tiers] == ["full", "int8"]
    assert of(file).task == before.task


def test_rights_and_links_stay(file: Path) -> None:
    file.chmod(0o640)
    link = file.parent / "link.toml"
    link.symlink_to(file)
    write_tier(link, of(file), tier("int8", 0.98))
    assert link.is_symlink()
    assert file.stat().st_mode & 0o777 == 0o640
    assert of(file).tier("int8") is not None


def test_models_below_the_file_are_written_relative_to_it(file: Path) -> None:
    below, beside = file.parent / "models" / "x", Path("/models/y")
    write_tier(file, of(file), tier("x", 0.98, model_path=str(below)))
    write_tier(file, of(file), tier("y", 0.98, model_path=str(beside)))
    write_tier(file, of(file), tier("z", 0.98, model_path="hf://a/b"))
    written = {
        one["name"]: one.get("model") for one in tomllib.loads(file.read_text())["family"]["digits"]["tier"]
    }
    assert written == {"full": None, "x": "models/x", "y": "/models/y", "z": "hf://a/b"}
    read = {one.name: one.model_path for one in of(file).tiers}
    assert read == {"full": "", "x": str(below), "y": "/models/y", "z": "hf://a/b"}


def test_writers_at_the_same_time_lose_nothing(file: Path) -> None:
    """As the jobs of an array do that all end together."""
    code = (
        "import sys; from pathlib import Path; from slurm_power.tiers.catalog import *;"
        "from tests.tiers.catalogs import tier;"
        "file = Path(sys.argv[1]); family = read_catalog(file).families['digits'];"
        "[write_tier(file, family, tier(f't{sys.argv[2]}-{i}', 0.98)) for i in range(10)]"
    )
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(file), str(number)],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        for number in range(3)
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert len(of(file).tiers) == 31


@given(families())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read_back(tmp_path: Path, wanted: Family) -> None:
    file = tmp_path / "tiers.toml"
    file.unlink(missing_ok=True)
    for one in wanted.tiers:
        write_tier(file, wanted, one)
    assert read_catalog(file).families == {wanted.name: wanted}
    # Into a file of others, and with the tiers in another order of writing.
    file.write_text(EXAMPLE.read_text())
    if wanted.name != "digits":
        for one in wanted.tiers:
            write_tier(file, wanted, dataclasses.replace(one, approved_by=""))
            write_tier(file, wanted, one)
        assert read_catalog(file).families[wanted.name] == wanted
        assert read_catalog(file).families["chat"] == read_catalog(EXAMPLE).families["chat"]


_PLAIN = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.dates()
    | st.datetimes()
    | st.text(st.characters(exclude_categories=["Cs"]))
)
_KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_VALUES = st.recursive(
    _PLAIN, lambda inside: st.lists(inside) | st.dictionaries(_KEYS, inside), max_leaves=20
)


@given(st.dictionaries(_KEYS, _VALUES, max_size=5))
@settings(max_examples=50, deadline=None)
def test_any_document_is_written_as_toml(document: dict[str, object]) -> None:
    assert tomllib.loads(toml_document(document)) == document


_TIER_KEYS = [
    "name", "method", "parent", "model", "sha256", "licence", "gpus", "watts_per_gpu", "power_source",
    "items_per_second", "latency_p50_seconds", "latency_p99_seconds", "quality", "sbatch", "environment",
    "approved", "better_than_parent", "memory_bytes", "wrong",
]  # fmt: skip
_FAMILY_KEYS = ["class", "metric", "floor", "subgroup", "higher_is_better", "task", "fingerprint", "wrong"]
_ANY = _VALUES | st.sampled_from(
    [math.nan, math.inf, "full", "int8", "nvml", "inference", ["--gpus=2"], -1, 10**400]
)
_TIER = st.dictionaries(st.sampled_from(_TIER_KEYS), _ANY, max_size=8)
_QUALITY = st.dictionaries(st.sampled_from(["value", "ci95", "groups", "more", "date", "samples"]), _ANY)
_FAMILY = st.builds(
    lambda family, tiers, quality: {
        **family,
        "tier": [{"name": "full", "method": "none", **tier, "quality": quality} for tier in tiers],
    },
    st.dictionaries(st.sampled_from(_FAMILY_KEYS), _ANY),
    st.lists(_TIER, max_size=3),
    _QUALITY,
)


@given(
    st.dictionaries(
        st.sampled_from(["family", "x"]), st.dictionaries(_KEYS, _FAMILY | _ANY, max_size=2) | _ANY
    )
)
@settings(max_examples=60, deadline=None)
def test_any_document_is_read_or_refused_with_lines_of_text(document: dict[str, object]) -> None:
    try:
        catalog = parse_catalog(document, Path("/x/tiers.toml"))
    except CatalogError as error:
        assert error.problems
        assert all(problem.isprintable() for problem in error.problems), error.problems
        return
    for found in catalog.families.values():
        for one in found.tiers:
            refusals(found, one)
            standing(found, one)
        warnings(found)
