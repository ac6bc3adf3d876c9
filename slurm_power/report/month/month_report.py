"""A month's report from the stores: its account, that of the month before, the ledger's proof."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from slurm_power.model.ledger import LedgerEntry
from slurm_power.ports import LocalStore, SeriesReader
from slurm_power.report.audit.proof import chain_proof
from slurm_power.report.frame.document import Document
from slurm_power.report.month.month import MonthAccount, month_account
from slurm_power.report.month.month_bill import Terms
from slurm_power.report.month.month_bound import battery_bound
from slurm_power.report.month.month_columns import month_before
from slurm_power.report.month.month_document import month_document
from slurm_power.report.month.month_events import lever_uses
from slurm_power.report.month.month_money import Alternative


def month_report(
    store: LocalStore,
    recorded: SeriesReader,
    label: str,
    terms: Terms,
    *,
    now: datetime,
    circuit: str | None = None,
    site: str = "",
    figures: bool = True,
    bound: bool = False,
    replay: Callable[[MonthAccount], Alternative] | None = None,
) -> Document:
    """Reckon and put together; the month is cut at ``now``. Raises as ``month_account`` does.

    ``bound``: with the bill of perfect foresight, which takes some seconds more. ``replay`` gives the load
    without us by another method.
    """
    account = month_account(store, recorded, label, terms, circuit=circuit, until=now)
    try:
        before = month_account(store, recorded, month_before(label), terms, circuit=account.columns.circuit)
    except ValueError:
        before = None
    proof = chain_proof(store.rows())
    start, end = account.moment(0), account.end
    return month_document(
        account,
        before=before,
        levers=lever_uses(_readable(store, start), start, end),
        bound=battery_bound(account) if bound else None,
        alternative=None if replay is None else replay(account),
        proof=proof,
        site=site,
        made_at=now.astimezone(UTC),
        figures=figures,
    )


def _readable(store: LocalStore, since: datetime) -> Iterator[LedgerEntry]:
    """The entries from ``since`` on, up to one that can no longer be read: the proof names it."""
    try:
        for _, entry, _ in store.rows(since=since):
            yield entry
    except ValueError:
        return
