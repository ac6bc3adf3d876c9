"""Durations, watts and energy as people type and read them."""

import math
import re
from typing import cast

import click

_UNIT_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DASH = "\N{EN DASH}"
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


class Duration(click.ParamType[float]):
    """``90`` or ``90s``, ``10m``, ``1h30m``, ``2d``; becomes seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds; fails with a sentence for the user."""
        if isinstance(value, float):
            return value
        text = str(value).strip().lower()
        seconds = math.inf
        if text.isascii() and text.replace(".", "", 1).isdigit():
            seconds = float(text)
        elif text and _PART.sub("", text) == "":
            seconds = sum(float(number) * _UNIT_SECONDS[unit] for number, unit in _PART.findall(text))
        if math.isfinite(seconds):
            return seconds
        raise click.BadParameter(f"{value!r} is no duration; write 90s, 10m, 2h or 1h30m", ctx, param)


class FiniteRange(click.FloatRange):
    """A number within bounds; click lets ``nan`` through any of them."""

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number; fails with a sentence for the user."""
        number = float(super().convert(cast("float", value), param, ctx))  # or text, which click takes too
        if not math.isfinite(number):
            self.fail(f"{value!r} is no finite number", param, ctx)
        return number


class Watts(click.ParamType[float]):
    """``9000``, ``9000W``, ``9kW`` or ``1.2MW``; becomes watts."""

    name = "watts"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return watts; fails with a sentence for the user."""
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(W|kW|MW)?", str(value).strip())
        if match is None or not math.isfinite(float(match[1]) * 1e6):
            raise click.BadParameter(f"{value!r} is no amount of power; write 9000, 9kW or 1.2MW", ctx, param)
        return float(match[1]) * {"W": 1.0, "kW": 1e3, "MW": 1e6}[match[2] or "W"]


def watts_text(watts: float | None) -> str:
    """``23.4 kW``, ``450 W``, or a dash for unknown."""
    if watts is None:
        return _DASH
    return f"{watts:.0f} W" if abs(watts) < 1000 else f"{watts / 1000:.1f} kW"


def duration_text(seconds: float | None) -> str:
    """``45 s``, ``12 min``, ``3.5 h``, or a dash for unknown."""
    if seconds is None:
        return _DASH
    if abs(seconds) < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if abs(seconds) < 7200 else f"{seconds / 3600:.1f} h"


def energy_text(joules: float | None) -> str:
    """``0.123 kWh``, or a dash for unknown."""
    return _DASH if joules is None else f"{joules / 3.6e6:.3f} kWh"


def plain_text(text: object) -> str:
    """Text of somebody else, without what moves a terminal's cursor or colours, or starts a new line."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(text))


def percent_text(ratio: float | None) -> str:
    """``71 %``, or a dash for unknown."""
    return _DASH if ratio is None else f"{100 * ratio:.0f} %"
