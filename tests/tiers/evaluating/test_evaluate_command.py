"""`slurm-power tiers evaluate`: the folder, the catalog, the JSON beside the tier, refusals and statuses."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from slurm_power.cli.commands.tiers.tiers_evaluate import evaluate
from slurm_power.model.tier import PowerSource, better_than_parent, refusals
from slurm_power.tiers.catalog import file_sha256, read_catalog
from tests.tiers.evaluating import tasks
from tests.tiers.evaluating.tasks import SPEC, signs, tier_of


def run(*words: object, task: str = SPEC) -> Result:
    return CliRunner().invoke(evaluate, [task, "--seconds", "0.2", *map(str, words)])


@pytest.fixture
def full(tmp_path: Path) -> Path:
    return tier_of(signs, tmp_path / "full", noise=0.4)


def test_what_it_prints_and_writes(full: Path) -> None:
    before = file_sha256(full)
    done = run("--tier", full)
    assert done.exit_code == 0, done.output
    assert file_sha256(full) == before
    written = json.loads((full.parent / "full.evaluation.json").read_text())
    quality = written["quality"]
    assert quality["samples"] == 200
    assert 0.5 < quality["low95"] < quality["value"] < quality["high95"] < 1.0
    assert f"accuracy               {quality['value']:.4g} (95 %: " in done.output
    assert "recall by" not in done.output
    assert "accuracy by side" in done.output
    assert "proxy: " in done.output or "rapl: " in done.output
    assert written["multiply_adds"] == 12
    assert written["model_bytes"] == (full / "model.safetensors").stat().st_size
    assert {group["name"] for group in written["subgroups"]["groups"]} == {"left", "right"}
    assert [batch["size"] for batch in written["speed"]["batches"]] == [1, 8, 64]


def test_json_is_the_same_as_in_the_file(full: Path) -> None:
    done = run("--tier", full, "--json", "--output", full.parent / "out.json")
    assert json.loads(done.stdout) == json.loads((full.parent / "out.json").read_text())


def test_into_a_new_catalog_and_again(full: Path, tmp_path: Path) -> None:
    catalog = tmp_path / "tiers.toml"
    assert run("--tier", full, "--catalog", catalog, "--record-as", "signs/full").exit_code == 0
    family = read_catalog(catalog).families["signs"]
    (tier,) = family.tiers
    assert (family.metric, family.data, family.subgroup_by) == ("accuracy", "signs/test", "side")
    assert family.fingerprint.startswith("sha256:")
    assert tier.quality is not None and tier.quality.ci95 is not None
    assert tier.sha256 == file_sha256(full)
    assert tier.quality.groups.keys() == {"left", "right"}
    assert tier.quality.worst_group == min(tier.quality.groups.values())
    assert tier.power_source in (PowerSource.PROXY, PowerSource.RAPL)
    assert tier.watts is None or tier.gpu_count == 0
    assert refusals(family, tier) == ()
    text = catalog.read_text().replace('licence = ""', "") + "\n# a remark\n"
    catalog.write_text(
        text.replace('name = "full"', 'name = "full"\nlicence = "MIT"\nenvironment = { A = "1" }')
    )
    done = run("--tier", "signs/full", "--catalog", catalog, "--record-as", "signs/full", "--gpus", "2")
    assert done.exit_code == 0, done.output
    (again,) = read_catalog(catalog).families["signs"].tiers
    assert (again.licence, again.environment, again.gpu_count) == ("MIT", {"A": "1"}, 2)
    assert "# a remark" in catalog.read_text()


def test_an_approval_and_a_declared_power_are_of_that_very_model(full: Path, tmp_path: Path) -> None:
    catalog = tmp_path / "tiers.toml"
    run("--tier", full, "--catalog", catalog, "--record-as", "signs/full", "--gpus", "1")
    source = read_catalog(catalog).families["signs"].tiers[0].power_source
    catalog.write_text(
        catalog.read_text().replace(
            f'power_source = "{source}"',
            'watts_per_gpu = 300.0\npower_source = "declared"\napproved = { by = "ops" }',
        )
    )
    run("--tier", "signs/full", "--catalog", catalog, "--record-as", "signs/full")
    kept = read_catalog(catalog).families["signs"].tiers[0]
    assert (kept.watts, kept.power_source, kept.approved_by) == (300.0, PowerSource.DECLARED, "ops")
    tier_of(signs, full, noise=0.3)
    run("--tier", full, "--catalog", catalog, "--record-as", "signs/full")
    other = read_catalog(catalog).families["signs"].tiers[0]
    assert (other.watts, other.approved_by) == (None, "")


def test_a_tier_below_the_floor_is_measured_and_refused(full: Path, tmp_path: Path) -> None:
    catalog = tmp_path / "tiers.toml"
    run("--tier", full, "--catalog", catalog, "--record-as", "signs/full")
    catalog.write_text(
        catalog.read_text().replace('metric = "accuracy"', 'metric = "accuracy"\nfloor = 0.97', 1)
    )
    done = run("--tier", "signs/full", "--catalog", catalog)
    assert done.exit_code == 1
    assert "refused: its accuracy of" in done.output
    assert "is below the floor of 0.97" in done.output
    assert json.loads((tmp_path / "full.evaluation.json").read_text())["refused"]


def test_a_student_better_than_its_teacher_is_said(tmp_path: Path) -> None:
    catalog = tmp_path / "tiers.toml"
    tier_of(signs, tmp_path / "weak", noise=1.5)
    tier_of(signs, tmp_path / "student", method="distilled", parent="weak")
    run("--tier", tmp_path / "weak", "--catalog", catalog, "--record-as", "signs/weak")
    done = run("--tier", tmp_path / "student")  # by the evaluation beside its parent's folder
    assert done.exit_code == 0
    assert "note: it is better than weak, which it was made from: accuracy 1 +-" in done.output
    done = run("--tier", tmp_path / "student", "--catalog", catalog, "--record-as", "signs/student")
    assert done.exit_code == 1
    family = read_catalog(catalog).families["signs"]
    assert better_than_parent(family, family.tiers[1]) == "weak"
    assert "refused: it is better than its parent weak" in done.output


def test_a_rare_group_comes_into_the_catalog_as_a_bound(tmp_path: Path) -> None:
    folder = tier_of(tasks.rare_group, tmp_path / "full", noise=0.4, spec=f"{tasks.__name__}:rare_group")
    catalog = tmp_path / "tiers.toml"
    words = ("--tier", folder, "--catalog", catalog, "--record-as", "signs/full")
    done = run(*words, task=f"{tasks.__name__}:rare_group")
    assert done.exit_code == 0, done.output
    assert "too few to say, counts as" in done.output
    quality = read_catalog(catalog).families["signs"].tiers[0].quality
    assert quality is not None
    assert "rare (at best, of 12 rows)" in quality.groups


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--tier", "nowhere"), "is no folder of a tier, and no FAMILY/TIER"),
        (("--tier", "signs/none", "--catalog", "tiers.toml"), "signs has no tier 'none'"),
        (("--tier", "others/full", "--catalog", "tiers.toml"), "there is no family 'others'"),
        (("--tier", "full", "--record-as", "Big Name", "--catalog", "tiers.toml"), "write FAMILY/TIER"),
        (("--tier", "full", "--gpus", "2"), "--gpus: is for the catalog"),
        (("--tier", "full", "--seconds", "nan"), "--seconds nan: from 0.1 to 3600"),
        (("--tier", "full", "--split", "train"), "evaluate on test or validation"),
        (("--tier", "full", "--device", "moon"), "torch cannot use it here"),
        (("--tier", "full", "--output", "no/such/place.json"), "name another place with --output"),
        (
            (
                "--tier",
                ".",
            ),
            "cannot be read",
        ),
    ],
)
def test_bad_words_change_nothing(
    words: tuple[str, ...], said: str, full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("--tier", full, "--catalog", tmp_path / "tiers.toml", "--record-as", "signs/full")
    (tmp_path / "full.evaluation.json").unlink()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.chdir(tmp_path)
    done = run(*words)
    assert done.exit_code == 2, done.output
    assert said in done.stderr
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_another_familys_catalog_is_refused_with_all_reasons(full: Path, tmp_path: Path) -> None:
    catalog = tmp_path / "tiers.toml"
    catalog.write_text(
        '[family.chat]\ntask = "x"\nclass = "generation"\nmetric = "perplexity"\nhigher_is_better = false\n'
        f'fingerprint = "sha256:{"1" * 64}"\n'
        '[[family.chat.tier]]\nname = "full"\nmethod = "none"\nmodel = "full"\n'
    )
    done = run("--tier", full, "--catalog", catalog, "--record-as", "chat/full")
    assert done.exit_code == 2
    for said in ("class = generation", "metric = perplexity", "fingerprint 111111111111"):
        assert said in done.stderr
    assert "quality" not in catalog.read_text()
