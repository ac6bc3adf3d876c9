"""The [governance] table: who answers for the policy, all problems at once."""

from datetime import date
from pathlib import Path

import pytest

from slurm_power.config import ConfigError, load_site

SITE = """
[site]
name = "lab"
[circuit.grid]
rating_watts = 60_000
limit_kind = "economic"
nodes = ["c1"]
"""


def site(folder: Path, table: str) -> Path:
    file = folder / "site.toml"
    file.write_text(f"{SITE}[governance]\n{table}")
    return file


def test_without_a_table_nobody_is_named(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text(SITE)
    table = load_site(tmp_path / "site.toml").governance
    assert (table.owner, table.text(), table.review_by, table.most_open_appeals) == ("", "", None, 5)


def test_a_whole_table(tmp_path: Path) -> None:
    (tmp_path / "policy.txt").write_text("Be kind.\n")
    keys = 'owner = "the board"\ntext_file = "policy.txt"\nreview_by = 2027-06-30\nanswer_days = 7\n'
    table = load_site(site(tmp_path, keys)).governance
    assert (table.owner, table.text(), table.review_by) == ("the board", "Be kind.\n", date(2027, 6, 30))
    assert table.text_file == tmp_path / "policy.txt"


def test_all_problems_are_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_bytes(b"x" * 70_000)
    keys = (
        'owner = "a\\nb"\ncontact = "{}"\nanswer_days = 0\nmost_open_appeals = 5000\ntext_file = "long.txt"\n'
    )
    with pytest.raises(ConfigError) as found:
        load_site(site(tmp_path, keys.format("x" * 501)))
    problems = "\n".join(found.value.problems)
    for words in (
        "governance.owner: must be one line",
        "governance.contact: 501 letters are too many",
        "governance.answer_days: 0 is not between 1 and 366",
        "governance.most_open_appeals: 5000 is not between",
        "governance.text_file: ",
        "is longer than 65536 bytes",
    ):
        assert words in problems


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("ownr = 'x'\n", "governance.ownr: unknown key; did you mean owner?"),
        ('review_by = "2027-06-30"\n', "governance.review_by: must be a date such as 2027-01-31"),
        ("review_by = 2027-06-30T10:00:00\n", "governance.review_by: must be a date such as 2027-01-31"),
        ('text_file = "none.txt"\n', "none.txt: No such file or directory"),
        ('text_file = "odd.txt"\n', "odd.txt: is no UTF-8 text"),
        ('text_file = "."\n', "Is a directory"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, keys: str, words: str) -> None:
    (tmp_path / "odd.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError) as found:
        load_site(site(tmp_path, keys))
    assert words in str(found.value)
