"""Reading catalogs: what is taken, and that all that is wrong is told at once, each with its place."""

import dataclasses
import os
from pathlib import Path

import pytest

from slurm_power.model.job import Workload
from slurm_power.model.tier import PowerSource, TierMethod, refusals
from slurm_power.tiers.catalog import CatalogError, load_catalogs, read_catalog, user_catalog
from slurm_power.tiers.standing import warnings
from tests.tiers.catalogs import EXAMPLE, tier

FAMILY = """
[family.digits]
class = "inference"
metric = "accuracy"
floor = 0.95
"""
TIER = """
[[family.digits.tier]]
name = "full"
method = "none"
"""
AT = "family.digits.tier[1] (full)"


def problems(tmp_path: Path, text: str) -> list[str]:
    file = tmp_path / "tiers.toml"
    file.write_text(text)
    try:
        read_catalog(file)
    except CatalogError as error:
        return error.problems
    return []


def test_the_shipped_example_is_read_with_every_key() -> None:
    catalog = read_catalog(EXAMPLE)
    assert list(catalog.families) == ["chat", "digits"]
    found = catalog.find("chat/small")
    assert found is not None
    family, tier = found
    assert (family.workload, family.higher_is_better, family.floor) == (Workload.GENERATION, False, 12.0)
    assert (tier.method, tier.gpu_count, tier.watts, tier.power_source) == (
        TierMethod.SMALLER,
        1,
        510.0,
        PowerSource.NVML,
    )
    assert tier.quality is not None
    assert tier.quality.more == {"distinct_2": 0.78, "consistency": 0.90}
    assert str(tier.quality.measured_date) == "2026-11-20"
    assert tier.model_path == "hf://example/chat-small"
    pruned = catalog.families["digits"].tier("pruned50")
    assert pruned is not None
    assert pruned.model_path == str(EXAMPLE.parent / "models/digits/pruned50")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("gpus = -1", f"{AT}.gpus: must be 0 or more, not -1"),
        ("gpus = 2.0", f"{AT}.gpus: must be a whole number, not 2.0"),
        ("gpus = true", f"{AT}.gpus: must be a whole number, not True"),
        ("watts_per_gpu = -1\npower_source = 'nvml'", f"{AT}.watts_per_gpu: must be 0 or more, not -1"),
        (
            "watts_per_gpu = nan\npower_source = 'nvml'",
            f"{AT}.watts_per_gpu: must be a finite number, not nan",
        ),
        (
            "watts_per_gpu = inf\npower_source = 'nvml'",
            f"{AT}.watts_per_gpu: must be a finite number, not inf",
        ),
        (
            "watts_per_gpu = 0\npower_source = 'nvml'",
            f"{AT}.watts_per_gpu: a GPU at work draws more than 0 W; leave it out where nobody knows",
        ),
        (
            "gpus = 0\nwatts_per_gpu = 5\npower_source = 'nvml'",
            f"{AT}.watts_per_gpu: is 5 while gpus is 0; a tier without GPUs has 0 or none",
        ),
        (
            "watts_per_gpu = 5",
            (
                f"{AT}.power_source: missing; say how watts_per_gpu was found: nvml, rapl, pdu, declared,"
                " proxy, unknown"
            ),
        ),
        (
            "power_source = 'guess'",
            f"{AT}.power_source: 'guess' is not one of nvml, rapl, pdu, declared, proxy, unknown",
        ),
        ("watt_per_gpu = 5", f"{AT}.watt_per_gpu: unknown key; did you mean watts_per_gpu?"),
        (
            "parent = 'ful'",
            f"{AT}.parent: there is no tier ful here; there are: no others",
        ),
        ("parent = 'full'", "family.digits.tier: parents in a circle: full from full"),
        (
            "sha256 = 'abc'",
            f"{AT}.sha256: must be 64 digits of 0-9 and a-f, as `sha256sum` prints them",
        ),
        ("items_per_second = 0", f"{AT}.items_per_second: must be more than 0, not 0"),
        (
            "latency_p50_seconds = 2\nlatency_p99_seconds = 1",
            f"{AT}.latency_p50_seconds: 2 is more than latency_p99_seconds, 1",
        ),
        (
            "quality = { ci95 = 0.1 }",
            f"{AT}.quality.value: missing; give the metric as it was measured, or leave all of quality out",
        ),
        (
            "quality = { value = 98.3 }",
            f"{AT}.quality.value: accuracy is a share from 0 to 1, not 98.3; write 0.983 for 98.3 %",
        ),
        ("quality = { value = nan }", f"{AT}.quality.value: must be a finite number, not nan"),
        ("quality = { value = 1, ci95 = -1 }", f"{AT}.quality.ci95: must be 0 or more, not -1"),
        ("quality = { value = 1, samples = 0 }", f"{AT}.quality.samples: must be 1 or more, not 0"),
        (
            "quality = { value = 1, more = { macro_f1 = 2.5 } }",
            f"{AT}.quality.more.macro_f1: macro_f1 is a share from 0 to 1, not 2.5; write 0.025 for 2.5 %",
        ),
        (
            "quality = { value = 1, date = '2026-01-31' }",
            f"{AT}.quality.date: must be a date without quotes, such as 2026-01-31, not 2026-01-31",
        ),
        ("approved = { date = 2026-01-31 }", f"{AT}.approved.by: missing"),
        (
            "sbatch = ['--gpus', '1']",
            f"{AT}.sbatch: '1' is no option of sbatch; write an option and its value as one: --gpus=2",
        ),
        ("sbatch = ['--gpus=4']", f"{AT}.sbatch: --gpus=4 asks for 4 GPUs, gpus is 1"),
        ("gpus = 2\nsbatch = ['-Gh100:3']", f"{AT}.sbatch: -Gh100:3 asks for 3 GPUs, gpus is 2"),
        ("sbatch = ['--wrap=rm']", f"{AT}.sbatch: --wrap is not for a tier to say"),
        ("sbatch = ['--tier=a/b']", f"{AT}.sbatch: --tier is not for a tier to say"),
        ('sbatch = ["--x=a\\u0000"]', None),
        ("sbatch = '--gpus=1'", f"{AT}.sbatch: must be a list of strings"),
        *(
            (
                f"environment = {{ {name} = 'x' }}",
                (
                    f"{AT}.environment.{name}: may not be set by a catalog: it changes what the job loads,"
                    " who it is, or what Slurm told it"
                ),
            )
            for name in (
                "LD_PRELOAD",
                "PATH",
                "PYTHONPATH",
                "SLURM_JOB_ID",
                "BASH_ENV",
                "CUDA_VISIBLE_DEVICES",
            )
        ),
        ("environment = { PSBATCH_FLEX = 'x' }", f"{AT}.environment.PSBATCH_FLEX: is ours to set"),
        ("environment = { 'A B' = 'x' }", f"{AT}.environment.'A B': is no name of a variable"),
        ("environment = { A = 1 }", f"{AT}.environment.A: must be a string, not 1"),
        (
            'environment = { A = "x\\ny" }',
            f"{AT}.environment.A: must be one line, without control characters",
        ),
        ("method = 'int9'", None),
    ],
)
def test_what_is_wrong_with_a_tier_is_told_with_its_place(
    tmp_path: Path, line: str, problem: str | None
) -> None:
    found = problems(tmp_path, FAMILY + TIER + line)
    if problem is None:
        assert len(found) == 1
    else:
        assert found == [problem]


@pytest.mark.parametrize(
    ("family", "problem"),
    [
        (
            "class = 'inference'\nmetric = 'accuracy'\ntier = 'full'\n",
            "family.digits.tier: must be a list of tables, write [[family.digits.tier]]",
        ),
        (
            "metric = 'accuracy'\n" + TIER,
            "family.digits.class: missing; one of training, inference, generation",
        ),
        ("class = 'inference'\n" + TIER, "family.digits.metric: missing"),
        (
            "class = 'chat'\nmetric = 'accuracy'\n" + TIER,
            "family.digits.class: 'chat' is not one of training, inference, generation",
        ),
        (
            "class = 'inference'\nmetric = 'accuracy'\nflor = 1\n" + TIER,
            "family.digits.flor: unknown key; did you mean floor?",
        ),
        (
            "class = 'generation'\nmetric = 'perplexity'\n" + TIER,
            "family.digits.higher_is_better: lower perplexity is better; write higher_is_better = false",
        ),
        (
            "class = 'inference'\nmetric = 'accuracy'\nfloor = 95\n" + TIER,
            "family.digits.floor: accuracy is a share from 0 to 1, not 95; write 0.95 for 95 %",
        ),
        (
            "class = 'inference'\nmetric = 'accuracy'\nsubgroup = { metric = 'recall' }\n" + TIER,
            "family.digits.subgroup.by: missing",
        ),
        (
            "class = 'inference'\nmetric = 'accuracy'\n"
            "subgroup = { by = 'c', metric = 'recall', higher_is_better = false }\n" + TIER,
            "family.digits.subgroup.higher_is_better: is wrong for recall; leave it out",
        ),
        (
            "class = 'inference'\nmetric = 'accuracy'\n" + TIER + TIER,
            "family.digits.tier: the name full is given to 2 tiers",
        ),
        (
            "class = 'inference'\nmetric = 'accuracy'\n"
            + "".join(
                f"[[family.digits.tier]]\nname = '{name}'\nmethod = 'int8'\nparent = '{parent}'\n"
                for name, parent in (("a", "b"), ("b", "c"), ("c", "a"))
            ),
            "family.digits.tier: parents in a circle: a from b from c from a",
        ),
    ],
)
def test_what_is_wrong_with_a_family_is_told_with_its_place(
    tmp_path: Path, family: str, problem: str
) -> None:
    assert problem in problems(tmp_path, f"[family.digits]\n{family}")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("famly = 1\n", "famly: unknown key; did you mean family?"),
        ("family = 1\n", "family: must be a table, not 1"),
        ("[family]\ndigits = 1\n", "family.digits: must be a table, not 1"),
        (FAMILY.replace("digits", "Digits"), None),
        (
            FAMILY.replace("digits", "qwen2.5") + TIER.replace("digits", "qwen2.5"),
            'family.qwen2.5: a name with a dot needs quotes: write [family."qwen2.5"]',
        ),
        ("[family.digits\n", None),
    ],
)
def test_what_is_wrong_with_the_file_is_told(tmp_path: Path, text: str, problem: str | None) -> None:
    found = problems(tmp_path, text)
    assert problem in found if problem else found


def test_the_rules_of_a_family_may_stand_before_its_first_tier(tmp_path: Path) -> None:
    (tmp_path / "tiers.toml").write_text(FAMILY)
    family = read_catalog(tmp_path / "tiers.toml").families["digits"]
    assert (family.tiers, family.floor) == ((), 0.95)
    assert warnings(family)[""][0] == "it has no tiers yet"
    assert refusals(dataclasses.replace(family, max_drop=0.1), tier("a", 0.98)) == ()


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    text = FAMILY.replace("inference", "chat") + TIER + "gpus = -1\nparent = 'x'\n[family.b]\nmetric = 1\n"
    assert len(problems(tmp_path, text)) == 5


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="cannot be read: No such file"):
        read_catalog(tmp_path / "tiers.toml")
    (tmp_path / "tiers.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(CatalogError, match="is not TOML"):
        read_catalog(tmp_path / "tiers.toml")
    (tmp_path / "tiers.toml").write_bytes(b"#" * (5 << 20))
    with pytest.raises(CatalogError, match="is larger than 4 MiB"):
        read_catalog(tmp_path / "tiers.toml")


@pytest.mark.parametrize("number", ["1" * 5000, "0x" + "f" * 5000, str(1 << 64), "-" + str(1 << 64)])
def test_a_number_that_no_arithmetic_bears_is_told(tmp_path: Path, number: str) -> None:
    """Python reads any hexadecimal number, and cannot say one of more than 4300 digits."""
    told = problems(tmp_path, FAMILY + TIER + f"memory_bytes = {number}\n")
    assert told and ("memory_bytes" in told[0] or "is not TOML" in told[0])


def test_site_and_user_together(tmp_path: Path) -> None:
    site, user = tmp_path / "site.toml", tmp_path / "user.toml"
    site.write_text(FAMILY + TIER)
    user.write_text((FAMILY + TIER).replace("digits", "mine"))
    families = load_catalogs(site, user, owner="ann").families
    assert {name: family.owner for name, family in families.items()} == {"digits": "", "mine": "ann"}
    assert list(load_catalogs(tmp_path / "none", user).families) == ["mine"]
    assert not load_catalogs(tmp_path / "none", None).families


def test_a_user_may_not_take_a_name_of_the_sites(tmp_path: Path) -> None:
    site, user = tmp_path / "site.toml", tmp_path / "user.toml"
    site.write_text(FAMILY + TIER)
    user.write_text(FAMILY + TIER)
    with pytest.raises(CatalogError) as caught:
        load_catalogs(site, user)
    assert caught.value.problems == [
        f"{user}: family.digits: the site has a family of this name; rename yours or take it out of this file"
    ]
    user.write_text("x = 1")
    site.write_text("y = 1")
    with pytest.raises(CatalogError) as caught:
        load_catalogs(site, user)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [str(site), str(user)]


def test_where_a_users_catalog_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    assert user_catalog() == Path("/home/ann/.config/slurm-power/tiers.toml")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/c")
    assert user_catalog() == Path("/c/slurm-power/tiers.toml")
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.delenv("HOME")
    assert os.environ.get("HOME") is None
    assert user_catalog() is None
