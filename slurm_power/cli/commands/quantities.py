"""Durations, watts and energy as people type and read them."""

import math
import re
from collections.abc import Mapping

import click

_UNIT_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_UNIT_WATTS = {"W": 1.0, "kW": 1e3, "MW": 1e6}
_DASH = "\N{EN DASH}"
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
# What a battery's own converter draws or leaks is neither charging nor discharging.
_RESTING_WATTS = 50.0
# No site has so much; a sum of such numbers is one still.
MOST_WATTS = 1e12


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


class Watts(click.ParamType[float]):
    """``9000``, ``9000W``, ``9kW`` or ``1.2MW``; becomes watts."""

    name = "watts"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return watts; fails with a sentence for the user."""
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(W|kW|MW)?", str(value).strip())
        watts = math.inf if match is None else float(match[1]) * _UNIT_WATTS[match[2] or "W"]
        if watts > MOST_WATTS:
            raise click.BadParameter(f"{value!r} is no amount of power; write 9000, 9kW or 1.2MW", ctx, param)
        return watts


def range_problems(bounds: Mapping[str, tuple[float | None, float, float]]) -> list[str]:
    """Which of the numbers, each with the least and the most it may be, are outside; None is not given.

    Options are checked here and not by click, which stops at the first and lets NaN pass.
    """
    return [
        f"{name}: {value:g} is not between {low:g} and {high:g}"
        for name, (value, low, high) in bounds.items()
        if value is not None and not low <= value <= high
    ]


def watts_text(watts: float | None) -> str:
    """``23.4 kW``, ``450 W``, or a dash for unknown."""
    if watts is None:
        return _DASH
    return f"{watts:.0f} W" if abs(watts) < 1000 else f"{watts / 1000:.1f} kW"


def battery_text(discharge_watts: float | None) -> str:
    """``discharging 9.2 kW``, ``charging 1.5 kW`` or ``resting``: the dashboard's words."""
    if discharge_watts is None or abs(discharge_watts) < _RESTING_WATTS:
        return "resting"
    return f"{'discharging' if discharge_watts > 0 else 'charging'} {watts_text(abs(discharge_watts))}"


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
