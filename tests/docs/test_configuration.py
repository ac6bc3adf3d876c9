"""docs/configuration.md lists each key of the configuration files, its kind and default, and no other."""

import re
from pathlib import Path

import pytest

from slurm_power.cli import choices
from tests.docs.reference import TABLES, rows

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"


def documented(heading: str) -> list[tuple[str, str, str, str]]:
    """The rows of the table under a heading: key, kind, default, meaning."""
    _, found, rest = DOCUMENT.read_text().partition(f"\n## {heading}\n")
    assert found, f"docs/configuration.md has no heading '## {heading}'"
    section = rest.partition("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \| ([^|]+?) \| ([^|]+?) \| ([^|]*?) ?\|$", section, re.MULTILINE)


@pytest.mark.parametrize(("heading", "record", "more"), TABLES, ids=[heading for heading, *_ in TABLES])
def test_table_matches_its_dataclass(
    heading: str, record: type, more: tuple[tuple[str, str, str], ...]
) -> None:
    listed = documented(heading)
    assert [row[:3] for row in listed] == rows(heading, record, more), "see: python -m tests.docs.reference"
    assert all(meaning for *_, meaning in listed)


def test_keys_of_slurm_power_conf_are_those_that_are_read() -> None:
    root = DOCUMENT.parents[1]
    programs = ("submission.py", "explain.py", "tier_choice.py", "commands/connection.py")
    sources = [root / "slurm_power/cli" / name for name in programs]
    read = set(choices.site_keys().values())
    for source in sources:
        read |= set(re.findall(r'(?:conf|\))\.get\("(\w+)"', source.read_text()))
    hooks = (root / "prolog_epilog/slurm_power_hook").read_text()
    read |= set(re.findall(r'^    "(\w+_socket)": "/', hooks, re.MULTILINE))
    submit = (root / "prolog_epilog/slurm_power_submit.lua").read_text()
    read |= set(re.findall(r"%s\*(\w+)%s\*=%s\*\(%S", submit))
    assert {key for key, *_ in documented("slurm-power.conf")} == read
