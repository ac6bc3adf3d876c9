"""What caps could take off a circuit within all promises, and what that would cost: the yardstick of a lever.

The cheapest watts come first, so the cost of x watts is convex in x. What caps cannot give costs more than
anything else.
"""

from collections.abc import Set as AbstractSet

import numpy as np

from slurm_power.plan.cap_columns import CapColumns
from slurm_power.plan.policy import Policy

# What a kWh costs that no cap can save, as so many hours of a GPU: dearer than any lever within a promise.
_UNMET_GPU_HOURS = 100.0
# So dear is it where the limit was promised to nobody: no more than the dearest watt of a cap of flex2.
_UNPROMISED_GPU_HOURS = 2.0


class CapSupply:
    """The watts that caps could take from the natural draw of the jobs behind one circuit."""

    def __init__(self, columns: CapColumns, circuit: str, policy: Policy, *, urgent: bool) -> None:
        rows, weights = columns.members(circuit)
        uncapped, floors = columns.uncapped_watts[rows], columns.floor_watts[rows]
        tops = np.minimum(uncapped[:, None], columns.high_watts[rows])
        widths = np.maximum(tops - np.maximum(columns.low_watts[rows], floors[:, None]), 0.0)
        able = columns.reachable & ~columns.yielded & ~columns.flex0 & ~columns.paused
        watts = widths * (weights * able[rows])[:, None]
        money = columns.money[rows] * (columns.gpus[rows] / np.maximum(weights, 1e-9))[:, None]
        cells = np.flatnonzero(watts.ravel() > 0.0)
        order = cells[np.argsort(money.ravel()[cells], kind="stable")]
        self._watts, self._money = watts.ravel()[order], money.ravel()[order]
        self._rows = np.repeat(rows, watts.shape[1])[order] if len(rows) else np.empty(0, dtype=np.int64)
        self._reached = np.concatenate(([0.0], np.cumsum(self._watts)))
        self._spent = np.concatenate(([0.0], np.cumsum(self._watts * self._money)))
        by_row = np.argsort(self._rows, kind="stable")
        begins = np.searchsorted(self._rows[by_row], np.arange(len(columns.gpus) + 1))
        self._by_row, self._begins = by_row, begins
        hours = _UNMET_GPU_HOURS if urgent else _UNPROMISED_GPU_HOURS
        self._unmet_price = hours * policy.value_per_gpu_hour

    def cost_per_hour(self, watts: float, without: AbstractSet[int] = frozenset()) -> float:
        """The least that taking ``watts`` costs in an hour, none of them from the jobs ``without``."""
        if watts <= 0.0:
            return 0.0
        gone = [self._by_row[self._begins[row] : self._begins[row + 1]] for row in without]
        cells = np.sort(np.concatenate(gone)) if gone else np.empty(0, dtype=np.int64)
        left_out = np.concatenate(([0.0], np.cumsum(self._watts[cells])))
        spared = np.concatenate(([0.0], np.cumsum(self._watts[cells] * self._money[cells])))
        unmet = max(0.0, watts - float(self._reached[-1] - left_out[-1]))
        # What is left out before the last watt moves that watt on, past more that is left out: a few steps.
        wanted, skipped = watts - unmet, -1
        while True:
            last = int(np.searchsorted(self._reached, wanted + left_out[max(0, skipped)], side="left"))
            before = int(np.searchsorted(cells, last, side="left"))
            if before == skipped:
                break
            skipped = before
        whole = min(max(0, last - 1), len(self._watts))
        there = int(np.searchsorted(cells, whole, side="left"))
        rest = max(0.0, wanted - float(self._reached[whole] - left_out[there]))
        price = float(self._money[whole]) if whole < len(self._money) else 0.0
        taken = float(self._spent[whole] - spared[there]) + rest * price
        return (taken + unmet * self._unmet_price) / 1000.0
