"""What the meters counted in a span, read from the stored series slice by slice: memory stays bounded."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from slurm_power.model.series import Point, Resolution
from slurm_power.model.units import JOULES_PER_KWH
from slurm_power.ports import SeriesReader
from slurm_power.report.covered_time import CoveredTime, Interval
from slurm_power.report.energy.energy import CircuitUse
from slurm_power.report.energy.energy_tally import NOTHING, Amount
from slurm_power.report.site_facts import SiteFacts

# A span up to this is read by the minute, a longer one by the quarter of an hour, which is kept for years.
_MINUTES_UP_TO = timedelta(days=3)
# Points held at once: a span is read in slices of so many, of hours at least and half a month at most.
_MOST_POINTS = 150_000
_MOST_SLICE_HOURS = 360
# An interval that was read for so much of it was read: ticks are not exactly a second apart.
_READ_RATIO = 0.95
_AT_ONCE = 100
_PRICE, _CARBON = "supply.price_per_kwh", "supply.carbon_g_per_kwh"

_PARTS = ("watts", "gpu_watts", "idle_gpu_watts", "host_watts", "estimated_ratio")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metered:
    """The circuits' use in [since, until), when the top's meter was read, and how finely all was read.

    ``priced_ratio`` and ``carbon_ratio`` are the shares of its energy whose price and emission are known.
    """

    circuits: tuple[CircuitUse, ...]
    covered: CoveredTime
    resolution: Resolution
    priced_ratio: float
    carbon_ratio: float


@dataclass(slots=True)
class _Sums:
    """Running sums over the slices, by (circuit, part) or battery."""

    amounts: dict[tuple[str, str], Amount] = field(default_factory=dict)
    covered_seconds: dict[str, float] = field(default_factory=dict)
    estimated_seconds: dict[str, float] = field(default_factory=dict)
    intervals: list[Interval] = field(default_factory=list)

    def add(self, key: tuple[str, str], joules: float, now: Interval) -> None:
        kwh = joules / JOULES_PER_KWH
        more = Amount(joules, kwh * (now.price_per_kwh or 0.0), kwh * (now.carbon_g_per_kwh or 0.0))
        self.amounts[key] = self.amounts.get(key, NOTHING).plus(more)


def read_metered(reader: SeriesReader, site: SiteFacts, since: datetime, until: datetime) -> Metered:
    """Read what all meters counted. All else counts only while the top's meter was read, so that it adds up.

    Raises StoreError, and ValueError for a site without exactly one metered circuit on top.
    """
    tops = [name for name in site.metered if site.meter_above(name) is None]
    if len(tops) != 1:
        there = ", ".join(sorted(tops)) or "none"
        raise ValueError(
            f"a statement needs one meter above all others, at the grid connection; there is: {there}"
        )
    names = frozenset(reader.names())
    found = Metered(
        circuits=(), covered=CoveredTime([]), resolution=Resolution.MINUTE, priced_ratio=0.0, carbon_ratio=0.0
    )
    for resolution in _resolutions(since, until):
        found = _read(reader, names, site, top=tops[0], span=(since, until), resolution=resolution)
        if found.covered.seconds(since.timestamp(), until.timestamp()) > 0.0:
            break
    return found


def _resolutions(since: datetime, until: datetime) -> Sequence[Resolution]:
    short = until - since <= _MINUTES_UP_TO
    # Minutes are kept for half a year only.
    return (Resolution.MINUTE, Resolution.QUARTER_HOUR) if short else (Resolution.QUARTER_HOUR,)


def slices(
    since: datetime, until: datetime, resolution: Resolution, series_count: int
) -> Iterator[tuple[datetime, datetime]]:
    """Pieces of a span, cut at whole hours, the shorter the more series are read at once."""
    points_an_hour = max(1, series_count) * 3600 // resolution
    width = 3600.0 * min(_MOST_SLICE_HOURS, max(1, _MOST_POINTS // points_an_hour))
    at = since
    while at < until:
        end = datetime.fromtimestamp((at.timestamp() // width + 1.0) * width, UTC)
        yield at, min(end, until)
        at = end


def _read(
    reader: SeriesReader,
    names: frozenset[str],
    site: SiteFacts,
    *,
    top: str,
    span: tuple[datetime, datetime],
    resolution: Resolution,
) -> Metered:
    sums = _Sums()
    series = {
        f"circuit.{name}.{part}": (name, part)
        for name in site.metered
        for part in _PARTS
        if f"circuit.{name}.{part}" in names
    }
    batteries = {
        f"ess.{name}.discharge_watts": (meter, "discharged")
        for name, circuit in site.ess.items()
        if (meter := site.meter_of(circuit)) and f"ess.{name}.discharge_watts" in names
    }
    gpus = _gpu_series(site, names)
    asked = [*series, *batteries, *(name for name in (_PRICE, _CARBON) if name in names)]
    for first, last in slices(*span, resolution, len(asked)):
        found = reader.read(asked, first, last, resolution)
        moments = _moments(found, f"circuit.{top}.watts", (first, last), resolution)
        rates = {name: {p.at_seconds: p.mean for p in found.get(name, ())} for name in (_PRICE, _CARBON)}
        known = {
            at: Interval(start, length, covered, rates[_PRICE].get(at), rates[_CARBON].get(at))
            for at, (start, length, covered, _) in moments.items()
        }
        sums.intervals += known.values()
        read_ratios = {at: ratio for at, (_, _, _, ratio) in moments.items()}
        for name, key in (series | batteries).items():
            _add_series(sums, key, found[name], known, read_ratios)
        missing = _without_gpus(found, site, known)
        if missing and gpus:
            _add_gpus(reader, sums, gpus, resolution=resolution, missing=missing, read_ratios=read_ratios)
    return _metered(sums, site, span, resolution)


def _moments(
    found: Mapping[str, Sequence[Point]],
    top: str,
    span: tuple[datetime, datetime],
    resolution: Resolution,
) -> dict[float, tuple[float, float, float, float]]:
    """Of each interval that the top's meter was read in: start, length, seconds read, raw share read."""
    since, until = (moment.timestamp() for moment in span)
    moments = {}
    for point in found.get(top, ()):
        start = max(since, point.at_seconds)
        length = min(until, point.at_seconds + resolution) - start
        if length > 0.0 and point.mean is not None and point.coverage_ratio > 0.0:
            ratio = 1.0 if point.coverage_ratio >= _READ_RATIO else point.coverage_ratio
            moments[point.at_seconds] = (start, length, ratio * length, point.coverage_ratio)
    return moments


def _add_series(
    sums: _Sums,
    key: tuple[str, str],
    points: Sequence[Point],
    known: Mapping[float, Interval],
    read_ratios: Mapping[float, float],
) -> None:
    circuit, part = key
    for point in points:
        now = known.get(point.at_seconds)
        if now is None or point.mean is None:
            continue
        seconds = now.covered_seconds * min(1.0, point.coverage_ratio / read_ratios[point.at_seconds])
        if part == "estimated_ratio":
            sums.estimated_seconds[circuit] = sums.estimated_seconds.get(circuit, 0.0) + point.mean * seconds
            continue
        sums.add(key, point.mean * seconds, now)
        if part == "watts":
            sums.covered_seconds[circuit] = sums.covered_seconds.get(circuit, 0.0) + seconds


def _gpu_series(site: SiteFacts, names: frozenset[str]) -> dict[str, str]:
    """Single GPUs by their meter's circuit, for what was recorded before circuits had sums of their own."""
    meters = {node: site.meter_of(circuit) for circuit, nodes in site.nodes.items() for node in nodes}
    found = {}
    for name in names:
        if name.startswith("gpu.") and name.endswith(".watts"):
            meter = meters.get(name[4:-6].rpartition(".")[0])
            if meter is not None:
                found[name] = meter
    return found


def _without_gpus(
    found: Mapping[str, Sequence[Point]], site: SiteFacts, known: Mapping[float, Interval]
) -> dict[float, Interval]:
    seen = {point.at_seconds for name in site.metered for point in found.get(f"circuit.{name}.gpu_watts", ())}
    return {at: now for at, now in known.items() if at not in seen}


def _add_gpus(
    reader: SeriesReader,
    sums: _Sums,
    gpus: Mapping[str, str],
    *,
    resolution: Resolution,
    missing: Mapping[float, Interval],
    read_ratios: Mapping[float, float],
) -> None:
    names = list(gpus)
    first = datetime.fromtimestamp(min(missing), UTC)
    last = datetime.fromtimestamp(max(missing) + resolution, UTC)
    for start in range(0, len(names), _AT_ONCE):
        some = names[start : start + _AT_ONCE]
        for name, points in reader.read(some, first, last, resolution).items():
            _add_series(sums, (gpus[name], "gpu_watts"), points, missing, read_ratios)


def _metered(
    sums: _Sums, site: SiteFacts, span: tuple[datetime, datetime], resolution: Resolution
) -> Metered:
    seconds = (span[1] - span[0]).total_seconds()
    amounts = sums.amounts

    def use(name: str) -> CircuitUse:
        read_seconds = sums.covered_seconds.get(name, 0.0)
        idle, hosts = amounts.get((name, "idle_gpu_watts")), amounts.get((name, "host_watts"))
        return CircuitUse(
            name=name,
            parent=site.meter_above(name),
            metered=amounts.get((name, "watts"), NOTHING),
            coverage_ratio=min(1.0, read_seconds / seconds) if seconds > 0.0 else 0.0,
            gpus=amounts.get((name, "gpu_watts"), NOTHING),
            idle_gpus=idle,
            hosts=hosts,
            discharged=amounts.get((name, "discharged"), NOTHING),
            estimated_ratio=sums.estimated_seconds.get(name, 0.0) / read_seconds if read_seconds else 0.0,
        )

    circuits = tuple(use(name) for name in sorted(site.metered))
    read = sum(one.covered_seconds for one in sums.intervals)
    priced = sum(one.covered_seconds for one in sums.intervals if one.price_per_kwh is not None)
    carbon = sum(one.covered_seconds for one in sums.intervals if one.carbon_g_per_kwh is not None)
    return Metered(
        circuits=circuits,
        covered=CoveredTime(sums.intervals),
        resolution=resolution,
        priced_ratio=priced / read if read > 0.0 else 0.0,
        carbon_ratio=carbon / read if read > 0.0 else 0.0,
    )
