"""``slurm-power tiers``: what is printed, what is refused with which status, which files are written."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from slurm_power.cli.slurm_power import main
from slurm_power.tiers.catalog import file_sha256, read_catalog
from tests.tiers.catalogs import EXAMPLE

NOTHING = {"SLURM_CONF": "/nonexistent", "COLUMNS": "160"}


def run(*words: str, catalog: Path | None = EXAMPLE, home: Path | None = None) -> Result:
    where = [] if catalog is None else ["--catalog", str(catalog)]
    environment = {**NOTHING, "XDG_CONFIG_HOME": str(home or "/nonexistent")}
    return CliRunner().invoke(main, ["tiers", *words, *where], env=environment)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A catalog with two models on disk: one that may be approved, one that misses its floor."""
    for name in ("full", "int8"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights.bin").write_text(f"of {name}")
    (tmp_path / "tiers.toml").write_text(f"""
# Of our group.
[family.digits]
class = "inference"
metric = "accuracy"
floor = 0.95
[[family.digits.tier]]
name = "full"
method = "none"
model = "full"
sha256 = "{file_sha256(tmp_path / "full")}"
watts_per_gpu = 400
power_source = "nvml"
quality = {{ value = 0.98, ci95 = 0.01 }}
[[family.digits.tier]]
name = "int8"
method = "int8"
parent = "full"
model = "int8"
sha256 = "{file_sha256(tmp_path / "int8")}"
watts_per_gpu = 300
power_source = "nvml"
quality = {{ value = 0.90, ci95 = 0.01 }}
""")
    return tmp_path / "tiers.toml"


def test_list() -> None:
    done = run("list")
    assert done.exit_code == 0, done.output
    rows = {line.split()[0]: line.rstrip() for line in done.stdout.splitlines() if line.startswith(" ")}
    assert rows["large"].split()[-1] == "ok"
    assert "0.9833 ±0.011" in rows["full"]
    assert rows["distilled"].split()[-1] == "refused"
    assert rows["full"].endswith("not approved, unknown power, dominated")
    assert "digits: image-classification, inference; accuracy at least 0.95 on digits/test" in done.stdout
    assert "perplexity at most 12" in done.stdout


def test_list_as_json() -> None:
    families = json.loads(run("list", "--json").stdout)["families"]
    tiers = {one["tier"]: one for family in families for one in family["tiers"]}
    assert (tiers["chat/large"]["state"], tiers["chat/large"]["watts"]) == ([], 1920.0)
    assert tiers["digits/distilled"]["refused"] == ["the worst group loses 0.134 in recall, 0.05 are allowed"]
    assert tiers["digits/full"]["state"] == ["not approved", "unknown power", "dominated"]


def test_list_without_any_catalog_says_where_it_looked(tmp_path: Path) -> None:
    done = run("list", catalog=None, home=tmp_path)
    assert done.exit_code == 0
    assert done.stdout.startswith("no tiers yet (looked in ")
    assert str(tmp_path / "slurm-power" / "tiers.toml") in done.stdout


def test_a_users_own_catalog_is_read_without_being_named(mine: Path, tmp_path: Path) -> None:
    (tmp_path / "slurm-power").mkdir()
    mine.rename(tmp_path / "slurm-power" / "tiers.toml")
    family = json.loads(run("show", "digits", "--json", catalog=None, home=tmp_path).stdout)
    assert family["owner"]


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        (
            ("show", "chat/small"),
            ("perplexity             10.9 ±0.3, 4000 samples", "power                  510 W a GPU (nvml)",
             "approved               by the model owners on 2026-11-21", "energy per item        260 mJ"),
        ),
        (
            ("show", "digits/distilled"),
            ("refused: the worst group loses 0.134", "warning: its accuracy of 0.9556 +-0.017 may well miss",
             "method                 distilled of full"),
        ),
        (("show", "digits"), ("subgroups by class: recall, at most 0.05 worse", "digits/nas")),
    ],
)  # fmt: skip
def test_show(words: tuple[str, ...], texts: tuple[str, ...]) -> None:
    done = run(*words)
    assert done.exit_code == 0, done.output
    for text in texts:
        assert text in done.stdout


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("show", "digit"), "Error: there is no family 'digit'; did you mean digits? (looked in "),
        (("show", "digits/int9"), "Error: digits has no tier 'int9'; did you mean int8?\n"),
        (("compare", "x"), "Error: there is no family 'x'; known here: chat, digits (looked in "),
        (("card", "digits"), "Error: 'digits' names no tier; write FAMILY/TIER\n"),
        (
            ("compare", "digits", "--output", "a.pdf"),
            "Error: --output: a.pdf ends in none of .html, .svg, .png\n",
        ),
        (("compare", "digits", "--output", "/no/a.svg"), "Error: --output: there is no folder /no\n"),
        (
            ("approve", "digits/distilled", "--by", "me"),
            "Error: digits/distilled is not approved: the worst group",
        ),
    ],
)
def test_what_is_asked_wrong_ends_with_status_2(words: tuple[str, ...], problem: str) -> None:
    done = run(*words)
    assert done.exit_code == 2
    assert problem in done.stderr


def test_a_wrong_file_is_refused_with_all_problems(tmp_path: Path) -> None:
    (tmp_path / "tiers.toml").write_text('[family.a]\nclass = "chat"\nmetrc = "x"\n')
    for command in (["list"], ["show", "a"], ["check"], ["compare", "a"], ["card", "a/b"]):
        done = run(*command, catalog=tmp_path / "tiers.toml")
        assert done.exit_code == 2
        assert len(done.stderr.splitlines()) == 3, done.stderr
        assert (
            f"Error: {tmp_path}/tiers.toml: family.a.metrc: unknown key; did you mean metric?" in done.stderr
        )


def test_check_names_what_is_refused(mine: Path) -> None:
    done = run("check", "--no-slurm", catalog=mine)
    assert done.exit_code == 1
    assert "digits/int8: refused: its accuracy of 0.9 is below the floor of 0.95\n" in done.stderr
    assert done.stdout == "tiers: 2, families: 1, refused: 1\n"
    mine.write_text(mine.read_text().replace("0.90", "0.96"))
    assert run("check", "--no-slurm", catalog=mine).exit_code == 0


def test_check_says_where_everybody_may_approve(mine: Path) -> None:
    mine.chmod(0o664)
    assert "everybody" not in run("check", "--no-slurm", catalog=mine).stderr
    mine.chmod(0o666)
    said = run("check", "--no-slurm", catalog=mine).stderr
    assert f"{mine}: warning: everybody may write it, and so approve: chmod o-w\n" in said


def test_check_finds_corrupt_and_swapped_weights(mine: Path, tmp_path: Path) -> None:
    mine.write_text(mine.read_text().replace("0.90", "0.96"))
    (tmp_path / "full" / "weights.bin").write_text("of int8")
    (tmp_path / "int8" / "weights.bin").write_text("torn")
    done = run("check", "--no-slurm", catalog=mine)
    assert done.exit_code == 1
    assert (
        f"digits/full: refused: its model was swapped: what lies at {tmp_path}/full is that of digits/int8"
        in (done.stderr)
    )
    assert "digits/int8: refused: its model is corrupt or was changed: " in done.stderr
    assert run("check", "--no-models", "--no-slurm", catalog=mine).exit_code == 0
    found = json.loads(run("check", "digits", "--json", "--no-slurm", catalog=mine).stdout)
    assert found["ok"] is False
    assert [one["of"] for one in found["refused"]] == ["digits/full", "digits/int8"]


def test_compare_marks_front_dominated_and_refused() -> None:
    done = run("compare", "digits", "--by", "macs")
    ends = {line.split()[0]: line for line in done.stdout.splitlines()[2:]}
    assert ends["nas"].rstrip().endswith("front")
    assert "dominated by pruned50, nas" in ends["full"]
    assert "refused: the worst group" in ends["distilled"]
    found = json.loads(run("compare", "chat", "--json").stdout)
    assert found["by"] == "watts"
    assert [one["on_front"] for one in found["tiers"]] == [True, True]


def test_compare_needs_a_cost(mine: Path) -> None:
    mine.write_text(re.sub(r"(watts_per_gpu|power_source) = .*\n", "", mine.read_text()))
    done = run("compare", "digits", catalog=mine)
    assert done.exit_code == 2
    assert "digits: no cost is known of two measured tiers" in done.stderr


@pytest.mark.parametrize("name", ["plot.svg", "plot.png", "plot.html"])
def test_compare_draws_the_plot(tmp_path: Path, name: str) -> None:
    pytest.importorskip("matplotlib", reason="an extra")
    done = run("compare", "digits", "--output", str(tmp_path / name))
    assert done.exit_code == 0, done.output
    written = (tmp_path / name).read_bytes()
    assert [left.name for left in tmp_path.iterdir()] == [name]
    if name == "plot.png":
        assert written.startswith(b"\x89PNG")
        return
    text = written.decode()
    for word in (
        "pruned75",
        "nas",
        "distilled",
        "floor 0.95",
        "Pareto front",
        "refused",
        "processor time per item",
    ):
        assert word in text, word
    assert "On the Pareto front: pruned75, nas. Refused: distilled." in text
    if name == "plot.svg":  # a picture by itself: whole, and with colours of its own
        assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
        assert "currentColor" not in text


def test_card_is_printed_or_written(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub", reason="an extra")
    printed = run("card", "chat/small")
    assert printed.exit_code == 0, printed.output
    assert printed.stdout.startswith("---\n")
    assert "model-index:" in printed.stdout
    done = run("card", "chat/small", "--output", str(tmp_path / "README.md"))
    assert done.exit_code == 0
    assert (tmp_path / "README.md").read_text() == printed.stdout
    assert run("card", "chat/small", "--output", str(EXAMPLE)).exit_code == 2


def test_approve_is_written_and_ends_the_mark(mine: Path) -> None:
    before = mine.read_text()
    assert "not approved" in run("list", catalog=mine).stdout
    done = run("approve", "digits/full", "--by", "Ann", catalog=mine)
    assert done.exit_code == 0, done.output
    tier = read_catalog(mine).families["digits"].tier("full")
    assert tier is not None
    assert tier.approved_by == "Ann"
    assert tier.approved_date is not None
    assert mine.read_text().startswith("\n# Of our group.")
    assert json.loads(run("show", "digits/full", "--json", catalog=mine).stdout)["state"] == []
    # The other one misses its floor; nothing of the file changes.
    now = mine.read_text()
    refused = run("approve", "digits/int8", "--by", "Ann", catalog=mine)
    assert refused.exit_code == 2
    assert "is not approved: its accuracy of 0.9 is below the floor of 0.95" in refused.stderr
    assert mine.read_text() == now != before


def test_approve_looks_at_the_model(mine: Path, tmp_path: Path) -> None:
    (tmp_path / "full" / "weights.bin").write_text("torn")
    done = run("approve", "digits/full", "--by", "Ann", catalog=mine)
    assert done.exit_code == 2
    assert "is not approved: its model is corrupt" in done.stderr
    mine.write_text(re.sub(r"sha256 = .*\n", "", mine.read_text()))
    done = run("approve", "digits/full", "--by", "Ann", catalog=mine)
    assert "is not approved: its model has no sha256" in done.stderr


def test_names_of_others_do_not_move_the_terminal(mine: Path) -> None:
    mine.write_text(
        mine.read_text().replace('metric = "accuracy"', 'metric = "accuracy"\ntask = "[red]x\u202e"')
    )
    done = run("list", catalog=mine)
    assert "[red]x?" in done.stdout


def test_help_names_all_commands() -> None:
    done = run("--help", catalog=None)
    assert done.exit_code == 0
    for name in ("approve", "build", "card", "check", "compare", "evaluate", "list", "show"):
        assert f"\n  {name} " in done.stdout
