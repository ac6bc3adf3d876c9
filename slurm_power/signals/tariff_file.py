"""A tariff file into a tariff: our own TOML, JSON schedules as the simulator ACN-Sim reads them, or URDB.

Every problem is told at once, and the hours of a year have to be covered exactly once.
"""

import json
import tomllib
from collections.abc import Iterable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from slurm_power.config.problems import check_keys
from slurm_power.model.billing_rules import ALL_DAYS, DAY_MINUTES, WEEKDAYS, BillingRules, EnergyTier
from slurm_power.model.tariff import Period, Rates, Season, Tariff
from slurm_power.signals.billing_tables import BILLING_KEYS, read_billing_tables
from slurm_power.signals.held_file import SupplyFileError
from slurm_power.signals.tariff_fields import (
    LEAP_YEAR,
    MOST_PRICE,
    is_number,
    read_days,
    read_hours,
    read_month_day,
    read_price,
    read_text,
    read_tiers,
    tables,
)
from slurm_power.signals.tariff_urdb import is_urdb, live_tariff, read_urdb


def read_tariff(file: Path) -> Tariff:
    """Read a tariff by the ending of its name; raises SupplyFileError with all problems."""
    problems: list[str] = []
    document = read_document(file)
    if file.suffix == ".json" and is_urdb(document):
        tariff = live_tariff(read_urdb(document, None, problems))
    elif isinstance(document, dict):
        tariff, _ = tariff_and_rules(document, file, problems)
    else:
        raise SupplyFileError([f"{file}: holds no table"])
    if problems:
        raise SupplyFileError([f"{file}: {problem}" for problem in problems])
    return tariff


def read_document(file: Path) -> object:
    """Parse a file as JSON where its name ends so, else as TOML; raises SupplyFileError."""
    try:
        text = file.read_text(encoding="utf-8-sig")
        document: object = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise SupplyFileError([f"{file}: cannot be read: {error.strerror}"]) from None
    except (ValueError, RecursionError) as error:
        kind = "JSON" if file.suffix == ".json" else "TOML"
        raise SupplyFileError([f"{file}: is not {kind}: {error}"]) from None
    return document


def tariff_and_rules(
    document: dict[str, Any], file: Path, problems: list[str]
) -> tuple[Tariff, BillingRules]:
    """Read either form: what holds at a moment, and what a month is billed by.

    A tariff of our own may do without seasons if it has charges: then it says nothing of energy. Raises
    SupplyFileError where it is neither.
    """
    if file.suffix == ".json":
        if "schedule" not in document:
            raise SupplyFileError([f"{file}: is neither a rate of URDB nor a schedule of ACN-Sim"])
        seasons, charges = _schedules(document, problems), BillingRules(name="")
    else:
        check_keys(document, {"name", "season"} | BILLING_KEYS, "", problems)
        charges = read_billing_tables(document, problems)
        seasons = _seasons(document, problems) if "season" in document or not charges.demand else []
    name = read_text(document, "name", file.stem, problems)
    if not problems and seasons:
        problems += _coverage(seasons)
    tariff = Tariff(name=name, seasons=tuple(seasons), demand=charges.demand)
    names = [rate.name for rate in tariff.demand_rates()]
    problems += [
        f"demand: two charges are called {name}" for name in sorted(set(names)) if names.count(name) > 1
    ]
    problems += [
        f"demand {rate.name}.ratchet_on: no charge is called {name}; there are {', '.join(names)}"
        for rate in charges.demand
        for name in rate.ratchet_on
        if name not in names
    ]
    rules = replace(charges, name=name, energy=tariff.energy_rates(), demand=tariff.demand_rates())
    return tariff, rules


def _seasons(document: dict[str, Any], problems: list[str]) -> list[Season]:
    """Our own form: [[season]] with [[season.period]] inside."""
    seasons = []
    for path, table in tables(document, "season", "", problems):
        check_keys(table, {"name", "from", "to", "demand_price_per_kw", "period"}, f"{path}.", problems)
        name = read_text(table, "name", path, problems, f"{path}.")
        first = read_month_day(table.get("from", "01-01"), f"{path}.from", problems)
        last = read_month_day(table.get("to", "12-31"), f"{path}.to", problems)
        demand = read_price(table, "demand_price_per_kw", path, problems, negative=False)
        periods = [
            _period(inner, period, demand, problems)
            for inner, period in tables(table, "period", f"{path}.", problems)
        ]
        seasons.append(Season(name=name, first_day=first, last_day=last, periods=tuple(periods)))
    return seasons


def _period(path: str, table: dict[str, Any], demand: float | None, problems: list[str]) -> Period:
    known = {"days", "from", "to", "price_per_kwh", "tiers", "sell_price_per_kwh", "demand_price_per_kw"}
    check_keys(table, known, f"{path}.", problems)
    price = read_price(table, "price_per_kwh", path, problems, negative=True)
    tiers = _tiers(path, table, problems) if "tiers" in table else ()
    if ("price_per_kwh" in table) == ("tiers" in table):
        problems.append(f"{path}.price_per_kwh: " + ("tiers are given too" if tiers else "missing"))
    own_demand = read_price(table, "demand_price_per_kw", path, problems, negative=False)
    from_minute, to_minute = read_hours(table, path, problems)
    return Period(
        days=read_days(table.get("days", "all"), f"{path}.days", problems),
        from_minute=from_minute,
        to_minute=to_minute,
        rates=Rates(
            price_per_kwh=tiers[-1].price_per_kwh if tiers else price,
            demand_price_per_kw=demand if own_demand is None else own_demand,
            energy_tiers=tiers,
            sell_price_per_kwh=read_price(table, "sell_price_per_kwh", path, problems, negative=True),
        ),
    )


def _tiers(path: str, table: dict[str, Any], problems: list[str]) -> tuple[EnergyTier, ...]:
    rows = read_tiers(table, "up_to_kwh", "price_per_kwh", path, problems, negative=True)
    return tuple(EnergyTier(price_per_kwh=price, up_to_kwh=bound) for bound, price in rows)


def _schedules(document: dict[str, Any], problems: list[str]) -> list[Season]:
    """The JSON form: each schedule has days of the year, a mask of weekdays, and prices from hours on."""
    seasons = []
    for path, table in tables(document, "schedule", "", problems):
        first = read_month_day(table.get("effective_start"), f"{path}.effective_start", problems)
        last = read_month_day(table.get("effective_end"), f"{path}.effective_end", problems)
        days = read_days(str(table.get("dow_mask", "ALL")).lower(), f"{path}.dow_mask", problems)
        demand = read_price(table, "demand_charge", path, problems, negative=False)
        hours, prices = table.get("times"), table.get("tariffs")
        if not isinstance(hours, list) or not isinstance(prices, list) or len(hours) != len(prices):
            problems.append(f"{path}: times and tariffs have to be two lists of one length")
            continue
        if not all(is_number(hour) and 0 <= hour < 24 for hour in hours) or hours != sorted(set(hours)):
            problems.append(f"{path}.times: have to be rising hours from 0 to 24")
            continue
        if not all(is_number(price) and abs(price) <= MOST_PRICE for price in prices):
            problems.append(f"{path}.tariffs: have to be prices per kWh")
            continue
        edges = [round(60 * hour) for hour in hours] + [DAY_MINUTES]
        periods = tuple(
            Period(
                days=days,
                from_minute=edges[index],
                to_minute=edges[index + 1],
                # A demand charge of 0 is none at all.
                rates=Rates(price_per_kwh=float(price), demand_price_per_kw=demand or None),
            )
            for index, price in enumerate(prices)
        )
        name = str(table.get("id", path))
        seasons.append(Season(name=name, first_day=first, last_day=last, periods=periods))
    return seasons


def _coverage(seasons: list[Season]) -> list[str]:
    """Which hours of which days are covered twice or never, each kind of day told once."""
    if not seasons:
        return ["it has no season"]
    problems: dict[str, None] = {}
    told: set[tuple[str, ...]] = set()
    for number in range(366):
        day = date(LEAP_YEAR, 1, 1) + timedelta(days=number)
        on = [season for season in seasons if season.holds((day.month, day.day))]
        names = tuple(season.name for season in on)
        if names in told:
            continue
        told.add(names)
        where = " and ".join(names) or f"{day:%m-%d}, in no season"
        for weekday in sorted(ALL_DAYS):
            periods = [period for season in on for period in season.periods if weekday in period.days]
            for problem in _day_problems(periods):
                problems[f"{where}, {WEEKDAYS[weekday]}: {problem}"] = None
    return list(problems)


def _day_problems(periods: Iterable[Period]) -> list[str]:
    found, covered = [], 0
    for period in sorted(periods, key=lambda period: period.from_minute):
        if period.from_minute > covered:
            found.append(f"nothing holds from {_clock(covered)} to {_clock(period.from_minute)}")
        elif period.from_minute < covered:
            found.append(f"two periods hold from {_clock(period.from_minute)} on")
        covered = max(covered, period.to_minute)
    if covered < DAY_MINUTES:
        found.append(f"nothing holds from {_clock(covered)} to 24:00")
    return found


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
