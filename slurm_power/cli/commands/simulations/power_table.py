"""A table of power by charge as people type it: ``0.8:1,1:0.2``."""

import math
import re
from itertools import pairwise

import click

from slurm_power.model.power_table import PowerTable

_PAIR = re.compile(r"(\d+(?:\.\d+)?)\s*:\s*(\d+(?:\.\d+)?)")


class PowerTableType(click.ParamType[PowerTable]):
    """``CHARGE:SHARE,CHARGE:SHARE``: charges rise from 0 to 1, shares of the power lie between 0 and 1."""

    name = "table"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> PowerTable:
        """Return the table; fails with a sentence for the user."""
        if isinstance(value, PowerTable):
            return value
        matches = [_PAIR.fullmatch(part.strip()) for part in str(value).split(",")]
        points = [(float(match[1]), float(match[2])) for match in matches if match is not None]
        rises = all(before[0] < after[0] for before, after in pairwise(points))
        inside = all(0.0 <= part <= 1.0 and math.isfinite(part) for point in points for part in point)
        if len(points) < len(matches) or not rises or not inside:
            raise click.BadParameter(
                f"{value!r} is no table of power by charge; write 0.8:1,1:0.2 (all power up to a charge of"
                " 0.8, a fifth of it when full)",
                ctx,
                param,
            )
        return PowerTable(tuple(points))
