"""The circuits' meters as one picture: each judged by itself, by what it feeds and by what feeds it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from slurm_power.model.loss import Loss
from slurm_power.model.reading import PowerReading, Quality
from slurm_power.model.site import Circuit, Site
from slurm_power.model.watch import Expectation, Watch

# Comparing more often teaches nothing: no meter is read faster than this and means something new.
_OBSERVE_SECONDS = 0.9
# So long two levels may be apart before one of them is called questionable.
_PATIENCE_SECONDS = 12.0
# An estimate stands above what is expected, by so many learned spreads and at least this share of it.
_ESTIMATE_SPREADS = 3.0
_LEAST_MARGIN_RATIO = 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeDraw:
    """What a node's GPUs draw, at worst: one that is lost counts at its last draw or its cap, the higher.

    ``good`` is False where that was needed.
    """

    watts: float
    good: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRow:
    """One source as ``slurm-power sources`` shows it. ``residual_watts``: measured less expected."""

    source: str
    measures: str
    watts: float | None
    age_seconds: float | None
    quality: Quality
    coverage_ratio: float | None = None
    residual_watts: float | None = None
    reason: str = ""


class CircuitMeters:
    """All metered circuits of a site. Times are monotonic seconds given by the caller."""

    def __init__(self, site: Site, meters: Mapping[str, tuple[str, float]]) -> None:
        """``meters``: by circuit, the name of its meter and the age at which a reading is late."""
        self._site = site
        self._watches = {
            name: Watch(source, expectation(site, site.circuits[name], max_age_seconds))
            for name, (source, max_age_seconds) in meters.items()
        }
        self._losses = {name: Loss(prior_ratio=site.circuits[name].overhead_ratio) for name in meters}
        self._below: dict[str, tuple[float, bool]] = {}
        self._culprits: dict[str, str] = {}
        self._observed_at_seconds = float("-inf")

    def read(self, circuit: str, watts: float, now_seconds: float) -> None:
        """Take a circuit's reading."""
        self._watches[circuit].take(watts, now_seconds)

    def failed(self, circuit: str, error: str, now_seconds: float) -> None:
        """Note why a circuit could not be read."""
        self._watches[circuit].failed(error, now_seconds)

    def observe(
        self, nodes: Mapping[str, NodeDraw], discharges: Mapping[str, float | None], now_seconds: float
    ) -> None:
        """Compare the levels with each other. ``discharges`` by ESS, None where it does not answer."""
        if now_seconds - self._observed_at_seconds < _OBSERVE_SECONDS:
            return
        self._observed_at_seconds = now_seconds
        self._below = {}
        for name in self._leaves_first():
            below = self._sum_below(name, nodes, discharges, now_seconds)
            if below is None:
                continue
            self._below[name] = below
            watts, good = below
            watch = self._watches[name]
            watch.saw_below(watts, now_seconds)
            own = watch.graded(now_seconds)
            if own.watts is not None and own.quality is not Quality.INVALID:
                learn = good and own.quality is Quality.GOOD
                self._losses[name].compare(
                    watts, own.watts, now_seconds, learn=learn, vouched=self._vouched(name)
                )
        self._culprits = self._disagreeing(now_seconds)

    def _vouched(self, name: str) -> bool:
        """Whether the feeder's meter bears a circuit's out, against what that circuit feeds."""
        loss = self._losses[name]
        apart = loss.disagrees_since_seconds is not None and loss.residual_watts is not None
        return apart and self._feeder_agrees(self._site.circuits[name], loss.residual_watts or 0.0)

    def _leaves_first(self) -> list[str]:
        return sorted(self._watches, key=lambda name: -len(self._site.path(name)))

    def _sum_below(
        self,
        name: str,
        nodes: Mapping[str, NodeDraw],
        discharges: Mapping[str, float | None],
        now_seconds: float,
    ) -> tuple[float, bool] | None:
        """What a circuit should see of what reports below it, and whether all of that is good; else None."""
        watts, good = 0.0, True
        for child in self._site.circuits.values():
            if child.parent != name:
                continue
            reading = self.reading(child.name, now_seconds)
            if reading is None or reading.known_watts() is None or reading.estimated:
                # An estimate upon an estimate would only pile up margins: this far up nothing is known.
                return None
            watts += reading.watts or 0.0
            good = good and reading.quality is Quality.GOOD
        for node in self._site.circuits[name].nodes:
            draw = nodes.get(node)
            if draw is None:
                return None
            watts += draw.watts
            good = good and draw.good
        for ess in self._site.ess.values():
            if ess.circuit == name:
                discharge_watts = discharges.get(ess.name)
                if discharge_watts is None:
                    return None
                watts -= discharge_watts
        return watts, good

    def _disagreeing(self, now_seconds: float) -> dict[str, str]:
        """Who is the likeliest to be wrong, and why: who disagrees with both of its neighbours.

        A circuit that disagrees with what it feeds, while its own feeder agrees with it, is right: then what
        it feeds is wrong, which is said of the nodes. Without a feeder to ask it is questionable itself.
        """
        apart = {
            name for name, loss in self._losses.items() if loss.disagrees(now_seconds, _PATIENCE_SECONDS)
        }
        culprits: dict[str, str] = {}
        for name in apart:
            circuit = self._site.circuits[name]
            children = {child.name for child in self._site.circuits.values() if child.parent == name}
            if children & apart:
                continue  # one of those is wrong: this one only shows it
            residual_watts = self._losses[name].residual_watts or 0.0
            text = f"{abs(residual_watts):.0f} W {'above' if residual_watts > 0 else 'below'}"
            if circuit.nodes and self._feeder_agrees(circuit, residual_watts):
                for node in circuit.nodes:
                    culprits[f"node:{node}"] = f"its rack {name} shows {text} what its GPUs explain"
            else:
                culprits[name] = f"{text} what it feeds explains"
        return culprits

    def _feeder_agrees(self, circuit: Circuit, residual_watts: float) -> bool:
        """Whether the circuit above is explained better by this one's meter than by what it feeds.

        With what is expected in place of what is measured, the feeder would see so much less below it.
        """
        feeder = self._losses.get(circuit.parent or "")
        if feeder is None or not feeder.known or feeder.residual_watts is None:
            return False
        otherwise_watts = feeder.residual_watts + feeder.ratio * residual_watts
        return abs(feeder.residual_watts) <= abs(otherwise_watts)

    def reading(self, circuit: str, now_seconds: float) -> PowerReading | None:
        """What a circuit draws, as far as can be known; None for one without a meter.

        A questionable reading is never lower than what is expected; one that is of no use is replaced by an
        estimate from what the circuit feeds, with a margin on top, where that has been learned.
        """
        watch = self._watches.get(circuit)
        if watch is None:
            return None
        own = watch.graded(now_seconds)
        loss, below = self._losses[circuit], self._below.get(circuit)
        expected_watts = loss.expected_watts(below[0]) if below is not None and loss.known else None
        if own.quality is Quality.INVALID and expected_watts is not None:
            assert below is not None
            margin_watts = loss.doubt_watts(below[0]) + max(
                _ESTIMATE_SPREADS * loss.spread_watts, _LEAST_MARGIN_RATIO * abs(expected_watts)
            )
            return replace(
                own,
                watts=expected_watts + margin_watts,
                quality=Quality.QUESTIONABLE,
                estimated=True,
                reason=f"{own.reason}; estimated from what it feeds",
            )
        if circuit in self._culprits and own.watts is not None and own.quality is not Quality.INVALID:
            watts = own.watts if expected_watts is None else max(own.watts, expected_watts)
            return replace(own, watts=watts, quality=Quality.QUESTIONABLE, reason=self._culprits[circuit])
        return own

    def node_reason(self, node: str) -> str:
        """Why a node's own readings are questionable, as far as its rack can tell; empty if they are not."""
        return self._culprits.get(f"node:{node}", "")

    def rows(self, now_seconds: float) -> list[SourceRow]:
        """Every meter with its residual, in the order of the circuits."""
        rows = []
        for name in self._site.circuits:
            reading = self.reading(name, now_seconds)
            if reading is None:
                continue
            rows.append(
                SourceRow(
                    source=reading.source,
                    measures=f"circuit {name}",
                    watts=reading.watts,
                    age_seconds=reading.age_seconds,
                    quality=reading.quality,
                    coverage_ratio=self._watches[name].coverage_ratio(now_seconds),
                    residual_watts=self._losses[name].residual_watts,
                    reason=reading.reason,
                )
            )
        return rows

    def to_json(self) -> dict[str, object]:
        """What has been learned, for the next controller."""
        return {name: loss.to_json() for name, loss in self._losses.items()}

    def take_json(self, stored: object) -> None:
        """Go on with what an earlier controller has learned."""
        if isinstance(stored, dict):
            for name, loss in self._losses.items():
                loss.take_json(stored.get(name))


def expectation(site: Site, circuit: Circuit, max_age_seconds: float) -> Expectation:
    """Batteries behind a circuit may feed back as much as it carries; without any it never feeds back."""
    feeds_back = any(circuit.name in site.path(ess.circuit) for ess in site.ess.values())
    return Expectation(
        rating_watts=circuit.rating_watts,
        lowest_watts=-circuit.rating_watts if feeds_back else -0.01 * circuit.rating_watts,
        max_age_seconds=max_age_seconds,
        refresh_seconds=max_age_seconds / 3.0,
    )
