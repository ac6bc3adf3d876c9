"""docs/configuration.md lists each key of the configuration files, its kind and default, and no other."""

import re

import pytest

from slurm_power.cli import choices
from tests.docs.reference import DOCUMENT, TABLES, rewritten, rows


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
    assert [row[:3] for row in listed] == rows(heading, record, more), (
        "run: python -m tests.docs.reference --write"
    )
    assert all(meaning for *_, meaning in listed)


def test_the_page_is_what_the_code_makes_of_it() -> None:
    page = DOCUMENT.read_text()
    assert rewritten(page) == page, "run: python -m tests.docs.reference --write"
    # And what was changed by hand, or is missing, comes back.
    spoiled = page.replace("| `listen` | string | 127.0.0.1:6820 |", "| `listen` | path | none |", 1)
    lost = re.sub(r"^\| `socket` \|.*\n", "", spoiled, count=1, flags=re.MULTILINE)
    assert lost != page and "| `socket` | path | /run/slurm-power/powerctld.sock | |" in rewritten(lost)
    assert rewritten(spoiled) == page


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
