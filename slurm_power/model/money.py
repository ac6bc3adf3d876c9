"""Amounts of money in words: the one place that knows how they are written and what stands behind them."""

import re
from decimal import Decimal

# What a tariff or a price file counts is known to nobody until site.toml says it.
UNNAMED = "money units of the tariff"
_ISO_4217 = re.compile("[A-Z]{3}")
# Millionths: what is smaller comes of the arithmetic, or is nobody's business.
_DIGITS = 6


def is_currency(code: str) -> bool:
    """Whether a text has the form of an ISO 4217 code, such as EUR."""
    return _ISO_4217.fullmatch(code) is not None


def money_unit(currency: str | None) -> str:
    """What stands behind amounts, or above a column of them."""
    return currency or UNNAMED


def money_text(amount: float, currency: str | None, *, signed: bool = False) -> str:
    """An amount with its unit: hundredths, or the first digit that says something where it is smaller."""
    sign = "+" if signed else ""
    told = round(amount, _DIGITS) or 0.0  # no minus before a zero
    small = 0.0 < abs(told) < 0.095
    number = f"{Decimal(f'{told:.0e}'):{sign}f}" if small else f"{told:{sign},.2f}"
    return f"{number} {money_unit(currency)}"


def price_text(amount: float, currency: str | None, per: str = "kWh") -> str:
    """A price, which has more digits than an amount."""
    return f"{amount:.3f} {money_unit(currency)} per {per}"
