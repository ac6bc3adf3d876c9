"""How large a battery is, as people type it: ``15%/2h``, ``120kW/2h``, and ``1h`` where there is a cut."""

import re
from dataclasses import dataclass

import click

from slurm_power.cli.commands.quantities import MOST_WATTS

_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*%")
_POWER = re.compile(r"(\d+(?:\.\d+)?)\s*(W|kW|MW)")
_HOURS = re.compile(r"(\d+(?:\.\d+)?)\s*(h|m|min)?")
_WATTS = {"W": 1.0, "kW": 1e3, "MW": 1e6}
_MOST_HOURS = 1000.0
_MOST_RATIO = 10.0


@dataclass(frozen=True, slots=True)
class EssSize:
    """Power, as watts or as a share of what the command says it is a share of, and hours at that power.

    Both None: as much power as the cut asks for.
    """

    hours: float
    watts: float | None = None
    power_ratio: float | None = None

    def power_watts(self, reference_watts: float, cut_watts: float | None = None) -> float:
        """The power in watts; raises ValueError where it is given by a cut and there is none."""
        if self.watts is not None:
            return self.watts
        if self.power_ratio is not None:
            return self.power_ratio * reference_watts
        if cut_watts is None:
            raise ValueError("hours alone say nothing where there is no cut; write 15%/2h or 120kW/2h")
        return cut_watts


class EssSizeType(click.ParamType[EssSize]):
    """``15%/2h``, ``120kW/2h``, ``1h``, ``none``."""

    name = "ess"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> EssSize:
        """Return the size; fails with a sentence for the user."""
        if isinstance(value, EssSize):
            return value
        text = str(value).strip()
        if text.lower() in ("none", "0"):
            return EssSize(hours=0.0, watts=0.0)
        power, slash, hours = text.rpartition("/")
        size = _hours(hours)
        if size is not None and not slash:
            return EssSize(hours=size)
        share, watts = _SHARE.fullmatch(power.strip()), _POWER.fullmatch(power.strip())
        if size is not None and share is not None and float(share[1]) <= 100.0 * _MOST_RATIO:
            return EssSize(hours=size, power_ratio=float(share[1]) / 100.0)
        if size is not None and watts is not None and float(watts[1]) * _WATTS[watts[2]] <= MOST_WATTS:
            return EssSize(hours=size, watts=float(watts[1]) * _WATTS[watts[2]])
        raise click.BadParameter(
            f"{value!r} is no battery; write 15%/2h, 120kW/2h, or 1h where there is a cut"
            f" (up to {_MOST_RATIO:.0%} and {_MOST_HOURS:g} h)",
            ctx,
            param,
        )


def _hours(text: str) -> float | None:
    match = _HOURS.fullmatch(text.strip())
    if match is None:
        return None
    hours = float(match[1]) if match[2] in (None, "h") else float(match[1]) / 60.0
    return hours if hours <= _MOST_HOURS else None
