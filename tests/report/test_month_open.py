"""Charges on the grid's own peak that nobody has named yet: said, in a range, and in no sum."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from slurm_power.forecast.supply import Supply
from slurm_power.model.billing_rules import CoincidentRate, Window
from slurm_power.report.audit.proof import chain_proof
from slurm_power.report.frame.document import Document, Table
from slurm_power.report.month.month_bill import Terms
from slurm_power.report.month.month_document import month_document
from tests.report.conftest import BERLIN
from tests.report.simulated_month import SimulatedWeeks
from tests.report.test_month import account_of, month_of, rules, stores


def report(state: Path, folder: Path, rate: CoincidentRate) -> tuple[Document, float]:
    terms = Terms(rules=replace(rules(folder), coincident=(rate,)), supply=Supply(zone=BERLIN))
    account = account_of(state, "2025-11", terms)
    assert account.bill is not None
    with stores(state) as (store, _):
        proof = chain_proof(store.rows())
    return month_document(account, before=None, levers=(), proof=proof, figures=False), account.bill.total


def table_of(document: Document) -> Table | None:
    blocks = [block for section in document.sections for block in section.blocks]
    return next((one for one in blocks if isinstance(one, Table) and one.name == "not-yet-known"), None)


def test_a_range_before_the_hours_are_known_and_a_line_after(
    weeks: SimulatedWeeks, whole_state: Path, tmp_path: Path
) -> None:
    evenings = (Window(days=frozenset(range(5)), from_minute=17 * 60, to_minute=20 * 60),)
    rate = CoincidentRate(name="system peak", price_per_kw=12.0, hours=(), windows=evenings)
    document, total = report(whole_state, tmp_path, rate)
    found = table_of(document)
    assert found is not None
    ((name, price, least, most),) = found.rows
    assert (name, price) == ("system peak", 12.0)
    # By other means: the mean of each evening hour of a weekday.
    start, _, span = month_of(weeks, "2025-11")
    hours = weeks.import_watts[span].reshape(-1, 60).mean(axis=1) / 1000.0
    moments = [datetime.fromtimestamp(start + 3600.0 * number, BERLIN) for number in range(len(hours))]
    within = [kw for at, kw in zip(moments, hours, strict=True) if at.weekday() < 5 and 17 <= at.hour < 20]
    assert (least, most) == pytest.approx((12.0 * min(within), 12.0 * max(within)), rel=1e-5)
    bill = next(tile for tile in document.tiles if tile.name == "Bill")
    assert bill.remark.endswith("without system peak, not yet known")
    known, with_it = report(
        whole_state, tmp_path, replace(rate, hours=(datetime.fromisoformat("2025-11-12T18:00"),))
    )
    assert table_of(known) is None
    assert 12.0 * min(within) <= with_it - total <= 12.0 * max(within)
