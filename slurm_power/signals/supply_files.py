"""The files of the [supply] table into one supply, read again when they change.

A file that vanishes or breaks costs quality, not control: what it said last counts until it runs out, and
``problems`` says what is wrong.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import tzinfo
from functools import partial
from pathlib import Path
from stat import S_ISREG
from typing import Generic, TypeVar

from slurm_power import clock
from slurm_power.config.supply import CarbonUnit, LimitUnit, PriceUnit, SupplyConfig
from slurm_power.forecast.supply import HeldValues, Supply, fresh, overlaid
from slurm_power.model.tariff import Tariff
from slurm_power.signals.file_standing import Course, FileStanding, shrunk, standing_of
from slurm_power.signals.held_file import SupplyFileError, read_held_values
from slurm_power.signals.tariff_fields import MOST_PRICE
from slurm_power.signals.tariff_file import read_tariff

Content = TypeVar("Content", HeldValues, Tariff)

FILE_KINDS = {
    "price_file": "prices",
    "realtime_price_file": "prices in real time",
    "carbon_file": "carbon intensity",
    "limit_file": "import limit",
    "tariff_file": "tariff",
}
# Grams per kWh: more than ten times the dirtiest grid's are kilograms that were taken for grams, or a lie.
_MOST_CARBON = 1e4
_PRICE_FACTORS = {PriceUnit.PER_KWH: 1.0, PriceUnit.PER_MWH: 1e-3}
_CARBON_FACTORS = {CarbonUnit.G_PER_KWH: 1.0, CarbonUnit.KG_PER_KWH: 1e3}
_LIMIT_FACTORS = {LimitUnit.WATTS: 1.0, LimitUnit.KILOWATTS: 1e3, LimitUnit.MEGAWATTS: 1e6}


@dataclass(slots=True)
class _Watched(Generic[Content]):
    """One file: what it said last, and by which state of the file."""

    key: str
    file: Path
    read: Callable[[Path], Content]
    content: Content | None = None
    problems: list[str] = field(default_factory=list)
    course: Course | None = None
    _seen: tuple[int, ...] | None = None

    def refresh(self) -> None:
        """Read the file if it is another one than last time; a bad one leaves the content as it was."""
        try:
            state = self.file.stat()
        except OSError as error:
            self._seen = None
            self.problems = [f"{self.file}: cannot be read: {error.strerror}"]
            return
        seen = (state.st_mtime_ns, state.st_size, state.st_ino)
        if seen == self._seen:
            return
        self._seen = seen
        if not S_ISREG(state.st_mode):
            # Whoever opens a pipe waits for the other end.
            self.problems = [f"{self.file}: is no plain file"]
            return
        try:
            content = self.read(self.file)
        except SupplyFileError as error:
            self.problems = error.problems
            return
        told = shrunk(self.content, content, clock.now().timestamp())
        self.problems = [f"{self.file}: {problem}" for problem in told]
        self.content = content
        self.course = Course.of(content)


class SupplyFiles:
    """All files of the supply. ``read`` is cheap while they stay as they are: one stat each."""

    def __init__(self, config: SupplyConfig, zone: tzinfo) -> None:
        def held(
            kind: str, factor: float, *, most: float = math.inf, negative: bool, lasting: bool
        ) -> _Watched[HeldValues] | None:
            file: Path | None = getattr(config, f"{kind}_file")
            read = partial(
                read_held_values,
                column=getattr(config, f"{kind}_column"),
                factor=factor,
                most=most,
                zone=zone,
                negative=negative,
                lasting=lasting,
            )
            return None if file is None else _Watched(f"{kind}_file", file, read)

        self._zone = zone
        price_factor = _PRICE_FACTORS[config.price_unit or PriceUnit.PER_KWH]
        carbon_factor = _CARBON_FACTORS[config.carbon_unit or CarbonUnit.G_PER_KWH]
        limit_factor = _LIMIT_FACTORS[config.limit_unit or LimitUnit.WATTS]
        realtime_factor = _PRICE_FACTORS[config.realtime_price_unit or PriceUnit.PER_KWH]
        self._price = held("price", price_factor, most=MOST_PRICE, negative=True, lasting=False)
        self._realtime_price = held(
            "realtime_price", realtime_factor, most=MOST_PRICE, negative=True, lasting=False
        )
        self._both: tuple[HeldValues | None, HeldValues | None, HeldValues | None] = (None, None, None)
        self._carbon = held("carbon", carbon_factor, most=_MOST_CARBON, negative=False, lasting=False)
        # A limit that nobody has taken back still holds: no news must not make it looser.
        self._limit = held("limit", limit_factor, negative=False, lasting=True)
        tariff = config.tariff_file
        self._tariff = None if tariff is None else _Watched[Tariff]("tariff_file", tariff, read_tariff)

    def read(self) -> Supply:
        """Look at each file and return what is known now; never raises, see ``problems``."""
        for watched in self._all():
            watched.refresh()
        return Supply(
            price_per_kwh=self._prices(),
            carbon_g_per_kwh=None if self._carbon is None else self._carbon.content,
            limit_watts=None if self._limit is None else self._limit.content,
            tariff=None if self._tariff is None else self._tariff.content,
            zone=self._zone,
        )

    def _prices(self) -> HeldValues | None:
        """Prices of real time where there are any, else of the day ahead; made anew when either changes."""
        sources = (self._realtime_price, self._price)
        realtime, day_ahead = (None if each is None else each.content for each in sources)
        if self._both[0] is not realtime or self._both[1] is not day_ahead:
            self._both = (
                realtime,
                day_ahead,
                overlaid(None if realtime is None else fresh(realtime), day_ahead),
            )
        return self._both[2]

    @property
    def problems(self) -> list[str]:
        """What is wrong with the files as they were last read, each problem with its file and row."""
        return [problem for watched in self._all() for problem in watched.problems]

    def standings(self, now_seconds: float) -> list[tuple[str, Path, list[str], FileStanding]]:
        """Each file: its key, its path, what is wrong with it, and how what it said last stands."""
        return [
            (one.key, one.file, one.problems, standing_of(one.course, now_seconds)) for one in self._all()
        ]

    def _all(self) -> list[_Watched[HeldValues] | _Watched[Tariff]]:
        watched = (self._price, self._realtime_price, self._carbon, self._limit, self._tariff)
        return [file for file in watched if file is not None]
