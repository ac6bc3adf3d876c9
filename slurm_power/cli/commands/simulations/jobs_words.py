"""Events, mixes of flex classes and levers of ``simulate jobs``, as people type them."""

import re

import click

from slurm_power.cli.commands.quantities import Duration, Watts
from slurm_power.simulate.flex_mix import Mix, parse_mix
from slurm_power.simulate.jobs_case import LEVERS

_CUT_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*(%?)")


class EventType(click.ParamType[tuple[str, float, float, float]]):
    """``start,duration,cut``: start as ISO 8601 or an offset such as 2d; cut 0.25, 25% or 50kW."""

    name = "start,duration,cut"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float, float, float]:
        """Return start (as typed), duration in seconds, cut as a ratio and as watts."""
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",")]
        if len(parts) != 3:
            self.fail(f"{value!r} is no event; write 2d,3h,0.25 or 2026-01-31T18:00,3h,50kW", param, ctx)
        duration = Duration().convert(parts[1], param, ctx)
        if duration <= 0.0:
            self.fail(f"{value!r} lasts no time", param, ctx)
        share = _CUT_SHARE.fullmatch(parts[2])
        if share is None:
            return parts[0], duration, 0.0, Watts().convert(parts[2], param, ctx)
        ratio = float(share[1]) / (100.0 if share[2] else 1.0)
        if not 0.0 < ratio <= 1.0:
            why = "nothing" if ratio <= 0.0 else "more than there is; for watts or percent write the unit"
            self.fail(f"{value!r} cuts {why}", param, ctx)
        return parts[0], duration, ratio, 0.0


class MixType(click.ParamType[Mix]):
    """``flex0:0.7,flex2:0.3``: shares of the GPU-hours."""

    name = "flex0:share,..."

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Mix:
        """Return the shares; fails with a sentence for the user."""
        if isinstance(value, dict):
            return value
        try:
            return parse_mix(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class LeversType(click.ParamType[frozenset[str]]):
    """``ess,cap,hold,gate``, or ``none``."""

    name = "ess,cap,hold,gate"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> frozenset[str]:
        """Return the levers; fails with a sentence for the user."""
        if isinstance(value, frozenset):
            return value
        words = frozenset(word.strip() for word in str(value).split(",") if word.strip())
        unknown = sorted(words - LEVERS - {"none"})
        if unknown or not words:
            self.fail(
                f"{', '.join(unknown) or 'nothing'} is no lever; there are ess, cap, hold, gate", param, ctx
            )
        return words & LEVERS
