"""What energy costs in the next day's quarters of an hour, for whoever trades with batteries."""

import math

import numpy as np

from slurm_power.config import SiteConfig
from slurm_power.controller.planning.planning import SupplyPrices
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.billing_period import STEP_SECONDS
from slurm_power.plan.peak_level import Values

_DAY_STEPS = round(86_400.0 / STEP_SECONDS)


class EssPrices:
    """Prices of the grid connection; ``reason`` is what they were when last asked for, in words."""

    def __init__(self, config: SiteConfig, supply: SupplyPrices) -> None:
        self._root = config.site.root.name
        self._supply = supply
        files = (config.supply.tariff_file, config.supply.price_file, config.supply.realtime_price_file)
        self.has_source = any(file is not None for file in files)
        self.reason = ""

    def ahead(self, snapshot: Snapshot, at_seconds: float) -> Values:
        """From the present quarter on, up to the first of which nobody knows; shape (n,), n up to a day."""
        start = math.floor(at_seconds / STEP_SECONDS) * STEP_SECONDS
        found = self._supply.ahead(
            snapshot, self._root, start_seconds=start, step_seconds=STEP_SECONDS, steps=_DAY_STEPS
        ).price_per_kwh
        known = [price for price in found if price is not None]
        prices = np.array(known[: found.index(None)] if None in found else known, dtype=np.float64)
        if len(prices):
            hours = len(prices) * STEP_SECONDS / 3600.0
            self.reason = (
                f"energy costs {prices[0]:.3g} per kWh now, {np.median(prices):.3g} in the middle of the"
                f" next {hours:.0f} h"
            )
        return prices
