"""By what a site is billed, from its files, and what its month has come to so far."""

import sqlite3
from datetime import datetime
from pathlib import Path

from slurm_power.config import SiteConfig
from slurm_power.forecast.supply import Supply
from slurm_power.ports import StoreError
from slurm_power.report.month.month import month_account, savings
from slurm_power.report.month.month_bill import Terms
from slurm_power.signals.billing_file import read_billing_rules
from slurm_power.signals.held_file import SupplyFileError
from slurm_power.signals.supply_files import SupplyFiles
from slurm_power.store.places import LEDGER_NAME, open_series_reader
from slurm_power.store.sqlite import SqliteStore


def site_terms(config: SiteConfig | None, tariff_file: Path | None = None, currency: str = "") -> Terms:
    """Read tariff, prices and carbon intensity; ``tariff_file`` comes before that of the site.

    ``currency`` comes before that of the site, too. Raises SupplyFileError with all problems.
    """
    if config is None:
        return Terms(
            rules=None if tariff_file is None else read_billing_rules(tariff_file), currency=currency
        )
    files = SupplyFiles(config.supply, config.zone)
    supply = files.read()
    tariff_file = tariff_file or config.supply.tariff_file
    problems = list(files.problems)
    rules = None
    if tariff_file is not None:
        try:
            rules = read_billing_rules(tariff_file)
        except SupplyFileError as error:
            problems += [problem for problem in error.problems if problem not in problems]
    if problems:
        raise SupplyFileError(problems)
    return Terms(
        rules=rules,
        supply=Supply(
            price_per_kwh=supply.price_per_kwh, carbon_g_per_kwh=supply.carbon_g_per_kwh, zone=config.zone
        ),
        billed_peaks_kw=config.supply.billed_peaks_kw,
        wear_per_kwh=config.policy.ess_wear_per_kwh,
        currency=currency or config.supply.currency or "",
        site=config.site,
    )


def month_savings(config: SiteConfig, at: datetime) -> dict[str, object]:
    """What the running month has come to, in the words of `slurm_power.report.month.month.savings`.

    Opens the stores for reading and takes up to some seconds: not for the control loop. Raises StoreError,
    also where nothing of the month is known yet or a file of the supply cannot be used.
    """
    directory = config.controller.state_directory
    try:
        terms = site_terms(config)
        store = SqliteStore(directory / LEDGER_NAME, read_only=True)
        try:
            recorded = open_series_reader(directory)
            try:
                label = f"{at.astimezone(config.zone):%Y-%m}"
                return savings(month_account(store, recorded, label, terms, until=at))
            finally:
                recorded.close()
        finally:
            store.close()
    except (sqlite3.Error, ValueError) as error:
        raise StoreError(str(error)) from error
    except SupplyFileError as error:
        raise StoreError("; ".join(error.problems)) from error
