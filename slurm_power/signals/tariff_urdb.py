"""A rate of the OpenEI Utility Rate Database (URDB, JSON of its versions 3 to 8) into billing rules.

Fields: https://openei.org/services/doc/rest/util_rates/. A field that carries money and is not billed here is
refused by its name; null and empty ones are nothing.
"""

import re
from calendar import monthrange
from typing import Any

from slurm_power.model.billing_rules import (
    BillingRules,
    DemandRate,
    DemandTier,
    EnergyRate,
    EnergyTier,
    Window,
)
from slurm_power.model.tariff import Period, Rates, Season, Tariff
from slurm_power.signals.tariff_fields import LEAP_YEAR, MOST_PRICE, is_number
from slurm_power.signals.urdb_fields import (
    MONTHS,
    UrdbTier,
    given,
    read_charge,
    read_number,
    read_schedules,
    read_structure,
)

_STRUCTURES = ("energyratestructure", "flatdemandstructure", "demandratestructure", "coincidentratestructure")
_READ = {
    *_STRUCTURES,
    "energyweekdayschedule",
    "energyweekendschedule",
    "flatdemandmonths",
    "flatdemandunit",
    "demandweekdayschedule",
    "demandweekendschedule",
    "demandrateunit",
    "demandratchetpercentage",
    "demandwindow",
    "coincidentrateschedule",
    "coincidentrateunit",
    "demandunits",
    "fixedchargefirstmeter",
    "fixedchargeunits",
    "fixedmonthlycharge",
    "mincharge",
    "minchargeunits",
    "minmonthlycharge",
    "fueladjustmentsmonthly",
    "dgrules",
    "usenetmetering",
}
# Numbers that are no money. A second meter is not billed: a site has one.
_NO_MONEY = {
    "eiaid",
    "startdate",
    "enddate",
    "latest_update",
    "revisions",
    "peakkwcapacitymin",
    "peakkwcapacitymax",
    "peakkwcapacityhistory",
    "peakkwhusagemin",
    "peakkwhusagemax",
    "peakkwhusagehistory",
    "voltageminimum",
    "voltagemaximum",
    "fixedchargeeaaddl",
}
_REFUSED = {
    "demandreactivepowercharge": "reactive power is not known here",
    "annualmincharge": "a minimum of a year cannot be billed by months",
    "lookbackPercent": "only demandratchetpercentage is read",
}
_WITH_REFUSED = {"lookbackMonths", "lookbackRange"}
_NOTES = ("energyattrs", "demandattrs", "fixedattrs")
_MONEY = re.compile(r"[$¢€£]|\d")
_RATCHET_MONTHS = 11
_DEFAULT_WINDOW_MINUTES = 15
_DAY_MINUTES = 1440
_MOST_NAMED = 20


def is_urdb(document: object) -> bool:
    """Whether a JSON document looks like rates of this kind."""
    if isinstance(document, list):
        return True
    return isinstance(document, dict) and (
        "items" in document or any(key in document for key in (*_STRUCTURES, "label"))
    )


def read_urdb(document: object, choice: str | None, problems: list[str]) -> BillingRules:
    """Read one rate of a document; ``choice`` is its label, or its name or a part of it."""
    rate = _chosen(document, choice, problems)
    if rate is None:
        return BillingRules(name="")
    _refuse(rate, problems)
    net_metering = rate.get("usenetmetering") is True or rate.get("dgrules") == "Net Metering"
    fixed = read_charge(rate, "fixedchargefirstmeter", "fixedchargeunits", problems)
    minimum = read_charge(rate, "mincharge", "minchargeunits", problems)
    rules = BillingRules(
        name=str(rate.get("name") or rate.get("label") or "URDB rate"),
        energy=_energy(rate, problems),
        demand=_demand(rate, problems),
        energy_adder_per_kwh=_fuel(rate, problems),
        fixed_per_month=_either(rate, "fixedmonthlycharge", "fixedchargefirstmeter", fixed[0], problems),
        fixed_per_day=fixed[1],
        minimum_per_month=_either(rate, "minmonthlycharge", "mincharge", minimum[0], problems),
        minimum_per_day=minimum[1],
        demand_interval_seconds=60.0 * _window_minutes(rate, problems),
        net_metering=net_metering,
    )
    if not rules.energy and not rules.demand and not problems:
        problems.append("energyratestructure: missing, and there is no demand charge either")
    return rules


def live_tariff(rules: BillingRules) -> Tariff:
    """The same rate as what holds at a moment: a season for each month, tiers at their last price."""
    seasons = []
    for month in range(1, MONTHS + 1):
        periods = tuple(
            Period(
                days=window.days,
                from_minute=window.from_minute,
                to_minute=window.to_minute,
                rates=Rates(
                    price_per_kwh=rate.tiers[-1].price_per_kwh + rules.energy_adder_per_kwh[month - 1]
                ),
            )
            for rate in rules.energy
            for window in rate.windows
            if month in window.months
        )
        last_day = (month, monthrange(LEAP_YEAR, month)[1])
        seasons.append(Season(name=f"{month:02}", first_day=(month, 1), last_day=last_day, periods=periods))
    return Tariff(name=rules.name, seasons=tuple(seasons), demand=rules.demand)


def _chosen(document: object, choice: str | None, problems: list[str]) -> dict[str, Any] | None:
    rates = document.get("items", [document]) if isinstance(document, dict) else document
    if not isinstance(rates, list) or not rates or not all(isinstance(rate, dict) for rate in rates):
        problems.append("items: has to be a list of rates")
        return None
    found = rates if choice is None else _named(rates, choice)
    if len(found) == 1:
        return found[0]
    candidates = found or rates
    listed = ", ".join(f"{rate.get('label')} ({rate.get('name')})" for rate in candidates[:_MOST_NAMED])
    more = len(candidates) - _MOST_NAMED
    listed += f" and {more} more" if more > 0 else ""
    asked = "several rates" if choice is None else f"{len(found) or 'no'} rates of the name {choice!r}"
    problems.append(f"has {asked}; for a bill write FILE#LABEL, else keep only one of them: {listed}")
    return None


def _named(rates: list[dict[str, Any]], choice: str) -> list[dict[str, Any]]:
    """The rates of a label, else of a name, else with it in their name."""
    word = choice.casefold()
    labels = [str(rate.get("label", "")).casefold() for rate in rates]
    names = [str(rate.get("name", "")).casefold() for rate in rates]
    for holds in (
        [label == word for label in labels],
        [name == word for name in names],
        [word in name for name in names],
    ):
        if any(holds):
            return [rate for rate, held in zip(rates, holds, strict=True) if held]
    return []


def _refuse(rate: dict[str, Any], problems: list[str]) -> None:
    """Name all that carries money and is not billed."""
    for key in sorted(rate):
        value = rate[key]
        if not given(rate, key) or key in _READ or key in _NO_MONEY or key in _WITH_REFUSED:
            continue
        if key in _REFUSED:
            if value != 0:
                problems.append(f"{key}: is not billed, {_REFUSED[key]}; delete the field to bill without it")
        elif key in _NOTES:
            if _MONEY.search(repr(value)):
                problems.append(f"{key}: {value!r} is not read; delete the field to bill without it")
        elif _has_number(value):
            problems.append(f"{key}: unknown, and it may be money; delete the field to bill without it")


def _has_number(value: object) -> bool:
    if isinstance(value, dict):
        return any(_has_number(inner) for inner in value.values())
    if isinstance(value, list):
        return any(_has_number(inner) for inner in value)
    return is_number(value) and value != 0


def _energy(rate: dict[str, Any], problems: list[str]) -> tuple[EnergyRate, ...]:
    periods = read_structure(rate, "energyratestructure", problems)
    if not periods:
        return ()
    windows = read_schedules(rate, "energyweekdayschedule", "energyweekendschedule", len(periods), problems)
    rates = []
    for period, found in windows.items():
        tiers, path = periods[period], f"energyratestructure[{period}]"
        if not tiers:
            problems.append(f"{path}: has no tiers, and hours are in it")
            continue
        units = {tier.unit for tier in tiers if tier.unit} if len(tiers) > 1 else set()
        if units - {"kWh", "kWh daily"} or len(units) > 1:
            problems.append(f"{path}: tiers by {' and '.join(sorted(units))} are not billed, only by kWh")
        if len({tier.sell for tier in tiers}) > 1:
            problems.append(f"{path}: sell differs between tiers, which is not billed")
        bill_tiers = tuple(
            EnergyTier(price_per_kwh=tier.price, up_to_kwh=tier.up_to, daily="kWh daily" in units)
            for tier in tiers
        )
        sell = tiers[0].sell or None
        rates.append(
            EnergyRate(
                name=f"energy period {period}", windows=found, tiers=bill_tiers, sell_price_per_kwh=sell
            )
        )
    return tuple(rates)


def _demand(rate: dict[str, Any], problems: list[str]) -> tuple[DemandRate, ...]:
    ratchet = _ratchet(rate, problems)
    flat = _flat(rate, problems)
    structure = read_structure(rate, "demandratestructure", problems)
    keys = ("demandweekdayschedule", "demandweekendschedule")
    windows = read_schedules(rate, *keys, len(structure), problems) if structure else {}
    by_hours = _charges("demand period", structure, windows, problems)
    coincident = read_structure(rate, "coincidentratestructure", problems)
    key = "coincidentrateschedule"
    windows = read_schedules(rate, key, key, len(coincident), problems) if coincident else {}
    at_system_peak = _charges("coincident period", coincident, windows, problems)
    for charges, unit_key in (
        (flat, "flatdemandunit"),
        (by_hours, "demandrateunit"),
        (at_system_peak, "coincidentrateunit"),
        (flat + by_hours + at_system_peak, "demandunits"),
    ):
        if charges and given(rate, unit_key) and rate[unit_key] != "kW":
            problems.append(f"{unit_key}: {rate[unit_key]!r} is not billed, only kW")
    names = tuple(charge.name for charge in flat)
    if ratchet and flat:
        # The floor is of the highest demand of any season, not only of those with the same price.
        flat = tuple(_with_ratchet(charge, ratchet, names) for charge in flat)
    elif ratchet:
        by_hours = tuple(_with_ratchet(charge, ratchet, ()) for charge in by_hours)
    return flat + by_hours + at_system_peak


def _flat(rate: dict[str, Any], problems: list[str]) -> tuple[DemandRate, ...]:
    structure = read_structure(rate, "flatdemandstructure", problems)
    if not structure:
        return ()
    months = rate.get("flatdemandmonths")
    if not given(rate, "flatdemandmonths") and len(structure) == 1:
        months = [0] * MONTHS
    if (
        not isinstance(months, list)
        or len(months) != MONTHS
        or not all(type(period) is int and 0 <= period < len(structure) for period in months)
    ):
        problems.append(f"flatdemandmonths: has to be 12 periods from 0 to {len(structure) - 1}")
        return ()
    windows: dict[int, tuple[Window, ...]] = {
        period: (Window(months=frozenset(month for month, at in enumerate(months, 1) if at == period)),)
        for period in sorted(set(months))
    }
    return _charges("flat demand period", structure, windows, problems)


def _charges(
    name: str,
    structure: list[list[UrdbTier]],
    windows: dict[int, tuple[Window, ...]],
    problems: list[str],
) -> tuple[DemandRate, ...]:
    """One charge for each period that costs something."""
    charges = []
    for period, found in windows.items():
        tiers = tuple(DemandTier(price_per_kw=tier.price, up_to_kw=tier.up_to) for tier in structure[period])
        if any(tier.price_per_kw < 0.0 for tier in tiers):
            problems.append(f"{name} {period}: a negative demand charge is not billed")
        elif any(tier.price_per_kw for tier in tiers):
            charges.append(DemandRate(name=f"{name} {period}", windows=found, tiers=tiers))
    return tuple(charges)


def _with_ratchet(charge: DemandRate, ratio: tuple[float, ...], names: tuple[str, ...]) -> DemandRate:
    return DemandRate(
        name=charge.name,
        windows=charge.windows,
        tiers=charge.tiers,
        ratchet_ratio=ratio,
        ratchet_months=_RATCHET_MONTHS,
        ratchet_on=names,
    )


def _ratchet(rate: dict[str, Any], problems: list[str]) -> tuple[float, ...]:
    """Shares of the earlier peak by month; numbers above 1 are percent."""
    key = "demandratchetpercentage"
    if not given(rate, key):
        return ()
    values = rate[key] if isinstance(rate[key], list) else [rate[key]] * MONTHS
    if len(values) != MONTHS or not all(is_number(value) and 0 <= value <= 100 for value in values):
        problems.append(f"{key}: has to be 12 shares from 0 to 1, or percent")
        return ()
    scale = 100.0 if max(values) > 1 else 1.0
    return tuple(float(value) / scale for value in values) if any(values) else ()


def _fuel(rate: dict[str, Any], problems: list[str]) -> tuple[float, ...]:
    key = "fueladjustmentsmonthly"
    if not given(rate, key):
        return (0.0,) * MONTHS
    values = rate[key]
    if not isinstance(values, list) or len(values) != MONTHS or not all(map(_is_price, values)):
        problems.append(f"{key}: has to be 12 prices per kWh")
        return (0.0,) * MONTHS
    return tuple(float(value) for value in values)


def _is_price(value: object) -> bool:
    return is_number(value) and abs(value) <= MOST_PRICE


def _either(rate: dict[str, Any], old_key: str, new_key: str, new_value: float, problems: list[str]) -> float:
    """A charge per month under its old name or its new one."""
    old_value = read_number(rate, old_key, problems)
    if old_value < 0.0:
        problems.append(f"{old_key}: {old_value:g} is negative")
    if old_value and given(rate, new_key) and rate[new_key] not in (0, old_value):
        problems.append(f"{old_key}: {new_key} says something else; delete one of them")
    return new_value or (0.0 if rate.get(new_key) else old_value)


def _window_minutes(rate: dict[str, Any], problems: list[str]) -> float:
    minutes = read_number(rate, "demandwindow", problems) or _DEFAULT_WINDOW_MINUTES
    if 0 < minutes <= _DAY_MINUTES and _DAY_MINUTES % minutes == 0:
        return minutes
    problems.append(f"demandwindow: {minutes:g} minutes do not divide a day")
    return _DEFAULT_WINDOW_MINUTES
