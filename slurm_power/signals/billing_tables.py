"""What our own tariff form says beside its seasons: demand charges, ratchets and fixed charges."""

from datetime import datetime
from typing import Any

from slurm_power.config.problems import check_keys
from slurm_power.model.billing_rules import (
    ALL_MONTHS,
    BillingRules,
    CoincidentRate,
    DemandRate,
    DemandTier,
    Window,
)
from slurm_power.signals.tariff_fields import (
    is_number,
    read_days,
    read_hours,
    read_month_day,
    read_price,
    read_text,
    read_tiers,
    tables,
)

_MONEY_KEYS = (
    "fixed_price_per_month",
    "fixed_price_per_day",
    "minimum_price_per_month",
    "minimum_price_per_day",
)
BILLING_KEYS = {"demand", "coincident", "demand_interval_minutes", "net_metering", *_MONEY_KEYS}

_DEFAULT_INTERVAL_MINUTES = 15
_WINDOW_KEYS = {"months", "from_day", "to_day", "days", "from", "to"}
_DEMAND_KEYS = {"name", "price_per_kw", "tiers", "windows", "ratchet_ratio", "ratchet_months", "ratchet_on"}
_DEFAULT_RATCHET_MONTHS = 11
_MOST_RATCHET_MONTHS = 60
_DAY_MINUTES = 1440


def read_billing_tables(document: dict[str, Any], problems: list[str]) -> BillingRules:
    """Read all but the seasons and the name, which are left empty."""
    money = {key: read_price(document, key, "tariff", problems, negative=False) or 0.0 for key in _MONEY_KEYS}
    net_metering = document.get("net_metering", False)
    if not isinstance(net_metering, bool):
        problems.append("net_metering: must be true or false")
    return BillingRules(
        name="",
        demand=tuple(_demand(*table, problems) for table in _list(document, "demand", problems)),
        coincident=tuple(_coincident(*table, problems) for table in _list(document, "coincident", problems)),
        fixed_per_month=money["fixed_price_per_month"],
        fixed_per_day=money["fixed_price_per_day"],
        minimum_per_month=money["minimum_price_per_month"],
        minimum_per_day=money["minimum_price_per_day"],
        demand_interval_seconds=60.0 * _interval_minutes(document, problems),
        net_metering=net_metering is True,
    )


def _list(document: dict[str, Any], key: str, problems: list[str]) -> list[tuple[str, dict[str, Any]]]:
    return tables(document, key, "", problems) if key in document else []


def _demand(path: str, table: dict[str, Any], problems: list[str]) -> DemandRate:
    check_keys(table, _DEMAND_KEYS | _WINDOW_KEYS, f"{path}.", problems)
    price = read_price(table, "price_per_kw", path, problems, negative=False)
    tiers: list[tuple[float | None, float]] = [(None, price or 0.0)]
    if "tiers" in table:
        tiers = read_tiers(table, "up_to_kw", "price_per_kw", path, problems, negative=False)
    if ("price_per_kw" in table) == ("tiers" in table):
        problems.append(f"{path}.price_per_kw: " + ("tiers are given too" if "tiers" in table else "missing"))
    ratio, months, on = _ratchet(path, table, problems)
    return DemandRate(
        name=read_text(table, "name", path, problems, f"{path}."),
        windows=_windows(path, table, problems),
        tiers=tuple(DemandTier(price_per_kw=price, up_to_kw=bound) for bound, price in tiers),
        ratchet_ratio=ratio,
        ratchet_months=months,
        ratchet_on=on,
    )


def _ratchet(
    path: str, table: dict[str, Any], problems: list[str]
) -> tuple[tuple[float, ...], int, tuple[str, ...]]:
    """The shares by month, the number of months, and the charges whose peaks count."""
    ratio, months = table.get("ratchet_ratio"), table.get("ratchet_months", _DEFAULT_RATCHET_MONTHS)
    on = table.get("ratchet_on", [])
    if ratio is None:
        problems += [
            f"{path}.ratchet_ratio: missing; {key} alone does nothing"
            for key in ("ratchet_months", "ratchet_on")
            if key in table
        ]
        return (), 0, ()
    if not is_number(ratio) or not 0.0 <= ratio <= 1.0:
        problems.append(f"{path}.ratchet_ratio: {ratio!r} is no share from 0 to 1")
        return (), 0, ()
    if type(months) is not int or not 1 <= months <= _MOST_RATCHET_MONTHS:
        problems.append(
            f"{path}.ratchet_months: {months!r} is no number of earlier months, 1 to {_MOST_RATCHET_MONTHS}"
        )
        return (), 0, ()
    if not isinstance(on, list) or not all(isinstance(name, str) for name in on):
        problems.append(f"{path}.ratchet_on: {on!r} is no list of names of demand charges")
        return (), 0, ()
    return (float(ratio),) * 12, months, tuple(on)


def _windows(path: str, table: dict[str, Any], problems: list[str]) -> tuple[Window, ...]:
    if "windows" not in table:
        return (_window(path, table, problems),)
    problems += [
        f"{path}.{key}: stands beside windows; write it into each of them"
        for key in sorted(_WINDOW_KEYS & set(table))
    ]
    found = []
    for inner, row in tables(table, "windows", f"{path}.", problems):
        check_keys(row, _WINDOW_KEYS, f"{inner}.", problems)
        found.append(_window(inner, row, problems))
    return tuple(found)


def _window(path: str, table: dict[str, Any], problems: list[str]) -> Window:
    months = table.get("months")
    if months is None:
        numbers = ALL_MONTHS
    elif (
        isinstance(months, list)
        and months
        and all(type(month) is int and month in ALL_MONTHS for month in months)
    ):
        numbers = frozenset(months)
    else:
        problems.append(f"{path}.months: {months!r} is no list of months from 1 to 12")
        numbers = ALL_MONTHS
    from_minute, to_minute = read_hours(table, path, problems)
    return Window(
        months=numbers,
        first_day=read_month_day(table.get("from_day", "01-01"), f"{path}.from_day", problems),
        last_day=read_month_day(table.get("to_day", "12-31"), f"{path}.to_day", problems),
        days=read_days(table.get("days", "all"), f"{path}.days", problems),
        from_minute=from_minute,
        to_minute=to_minute,
    )


def _coincident(path: str, table: dict[str, Any], problems: list[str]) -> CoincidentRate:
    check_keys(table, {"name", "price_per_kw", "hours", *_WINDOW_KEYS, "windows"}, f"{path}.", problems)
    price = read_price(table, "price_per_kw", path, problems, negative=False)
    if "price_per_kw" not in table:
        problems.append(f"{path}.price_per_kw: missing")
    hours = table.get("hours", [])
    starts: list[datetime] = []
    for value in hours if isinstance(hours, list) else [hours]:
        try:
            at = datetime.fromisoformat(value) if isinstance(value, str) else value
        except ValueError:
            at = None
        if isinstance(at, datetime) and at.tzinfo is None:
            starts.append(at)
        else:
            problems.append(f"{path}.hours: {value!r} is no local hour; write 2026-07-15T17:00")
    return CoincidentRate(
        name=read_text(table, "name", path, problems, f"{path}."),
        price_per_kw=price or 0.0,
        hours=tuple(starts),
        # What is not said of them is no rule.
        windows=_windows(path, table, problems) if (_WINDOW_KEYS | {"windows"}) & set(table) else (),
    )


def _interval_minutes(document: dict[str, Any], problems: list[str]) -> float:
    minutes = document.get("demand_interval_minutes", _DEFAULT_INTERVAL_MINUTES)
    if is_number(minutes) and 0 < minutes <= _DAY_MINUTES and _DAY_MINUTES % minutes == 0:
        return float(minutes)
    problems.append(f"demand_interval_minutes: {minutes!r} minutes do not divide a day")
    return _DEFAULT_INTERVAL_MINUTES
