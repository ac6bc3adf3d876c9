"""Amounts of money in words: the one place that knows how they are written and what stands behind them."""

import re

# What a tariff or a price file counts is known to nobody until site.toml says it.
UNNAMED = "money units of the tariff"
_ISO_4217 = re.compile("[A-Z]{3}")


def is_currency(code: str) -> bool:
    """Whether a text has the form of an ISO 4217 code, such as EUR."""
    return _ISO_4217.fullmatch(code) is not None


def money_unit(currency: str | None) -> str:
    """What stands behind amounts, or above a column of them."""
    return currency or UNNAMED


def money_text(amount: float, currency: str | None, *, signed: bool = False) -> str:
    """An amount with its unit: hundredths, or the first digit that says something where it is smaller."""
    if 0.0 < abs(amount) < 0.095:
        number = f"{amount:{'+' if signed else ''}.1g}"
    else:
        number = f"{amount:{'+' if signed else ''},.2f}"
    return f"{number} {money_unit(currency)}"


def price_text(amount: float, currency: str | None, per: str = "kWh") -> str:
    """A price, which has more digits than an amount."""
    return f"{amount:.3f} {money_unit(currency)} per {per}"
