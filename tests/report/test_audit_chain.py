"""The chain of a year, whatever the ledger has: nothing is lost, and what was altered is found."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power.model.ledger import GENESIS_HASH, LedgerEntry, chained_hash
from slurm_power.report.audit.audit import Findings, Row, Year, entry_of, year_chain
from tests.report.test_audit import NEW_YEAR, entry


def chained(made: list[LedgerEntry]) -> list[Row]:
    rows: list[Row] = []
    last = GENESIS_HASH
    for number, one in enumerate(made, 1):
        last = chained_hash(last, one)
        rows.append((number, one, last))
    return rows


DAYS = st.lists(st.integers(-400, 800), max_size=30)


@given(DAYS)
def test_the_parts_of_the_chain_are_the_whole_chain(days: list[int]) -> None:
    rows = chained([entry(NEW_YEAR + timedelta(days=day)) for day in days])
    found = year_chain(rows, Year(number=2026))
    assert found.broken_at is None
    assert found.before.entries + found.within.entries + found.after.entries == len(rows)
    inside = [number for number, one, _ in rows if found.year.has(one.at)]
    if inside:
        assert (found.within.first_sequence, found.within.last_sequence) == (inside[0], inside[-1])
        assert found.within.entries == inside[-1] - inside[0] + 1
        before = inside[0] - 1
        assert found.hash_before == (rows[before - 1][2] if before else GENESIS_HASH)
    else:
        assert (found.within.entries, found.after.entries) == (0, 0)


@given(DAYS.filter(bool), st.data())
def test_an_altered_entry_is_found_wherever_it_is(days: list[int], data: Any) -> None:
    rows = chained([entry(NEW_YEAR + timedelta(days=day)) for day in days])
    place = data.draw(st.integers(0, len(rows) - 1))
    number, one, stored = rows[place]
    rows[place] = (number, entry(one.at, reason="another"), stored)
    assert year_chain(rows, Year(number=2026)).broken_at == number


TEXT = st.text(max_size=20)
DETAILS = st.dictionaries(TEXT, st.one_of(TEXT, st.integers(), st.booleans(), st.none()), max_size=3)


@given(TEXT, TEXT, TEXT, st.one_of(st.none(), st.floats(allow_nan=False)), DETAILS)
def test_an_entry_comes_back_from_its_canonical_text(
    actor: str, kind: str, reason: str, saved: float | None, details: dict[str, Any]
) -> None:
    one = entry(NEW_YEAR, kind, actor=actor, reason=reason, saved_watts=saved, details=details)
    assert entry_of(one.canonical()).canonical() == one.canonical()
    # Whatever an entry holds, the tables are made of it.
    findings = Findings()
    findings.add((1, one, "h"))
    findings.add((2, entry(NEW_YEAR, "policy changed", details={"changes": details}), "h"))
    findings.add((3, entry(NEW_YEAR, "appeal answered", details=details), "h"))
    assert len(findings.tables()) == 4


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"at":5}', "[" * 100_000])
def test_what_is_no_entry_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        entry_of(text)
