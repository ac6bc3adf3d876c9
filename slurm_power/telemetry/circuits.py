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
class Draw:
    """What draws below a circuit, at worst: a lost GPU counts at its last draw or its cap, the higher.

    ``doubt_watts`` is what was so assumed, or told by a source that is not good; 0 where all is known.
    ``lifted_watts`` is by how much readings that may be too low were lifted: without it stands what was read.
    """

    watts: float
    doubt_watts: float = 0.0
    lifted_watts: float = 0.0

    @property
    def told_watts(self) -> float:
        """What was read. Levels are compared by it: what was lifted to fit would agree with anything."""
        return self.watts - self.lifted_watts


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
            name: Watch(source, expectation(site, site.circuits[name], meters))
            for name, (source, _) in meters.items()
        }
        self._losses = {name: Loss(prior_ratio=site.circuits[name].overhead_ratio) for name in meters}
        self._below: dict[str, Draw] = {}
        self._culprits: dict[str, str] = {}
        self._observed_at_seconds = float("-inf")

    def read(self, circuit: str, watts: float, now_seconds: float) -> None:
        """Take a circuit's reading."""
        self._watches[circuit].take(watts, now_seconds)

    def failed(self, circuit: str, error: str, now_seconds: float) -> None:
        """Note why a circuit could not be read."""
        self._watches[circuit].failed(error, now_seconds)

    def observe(
        self, nodes: Mapping[str, Draw], discharges: Mapping[str, float | None], now_seconds: float
    ) -> bool:
        """Compare the levels with each other. ``discharges`` by ESS, None where it does not answer.

        Returns False where that has been done just now.
        """
        if now_seconds - self._observed_at_seconds < _OBSERVE_SECONDS:
            return False
        self._observed_at_seconds = now_seconds
        self._below = {}
        for name in [one.name for one in self._site.leaves_first() if one.name in self._watches]:
            below = self._sum_below(name, nodes, discharges, now_seconds)
            if below is None:
                continue
            self._below[name] = below
            watch = self._watches[name]
            watch.saw_below(below.told_watts, now_seconds, below.doubt_watts)
            own = watch.graded(now_seconds)
            if own.watts is not None and own.quality is not Quality.INVALID:
                learn = below.doubt_watts == 0.0 and own.quality is Quality.GOOD
                self._losses[name].compare(
                    below.told_watts, own.watts, now_seconds, learn=learn, vouched=self._vouched(name)
                )
        self._culprits = self._disagreeing(now_seconds)
        return True

    def _vouched(self, name: str) -> bool:
        """Whether the feeder's meter bears a circuit's out, against what that circuit feeds."""
        loss = self._losses[name]
        apart = loss.disagrees_since_seconds is not None and loss.residual_watts is not None
        return apart and self._feeder_agrees(self._site.circuits[name], loss.residual_watts or 0.0)

    def _sum_below(
        self,
        name: str,
        nodes: Mapping[str, Draw],
        discharges: Mapping[str, float | None],
        now_seconds: float,
    ) -> Draw | None:
        """What a circuit should see of what reports below it; None where a part of that is unknown."""
        watts, doubt_watts, lifted_watts = 0.0, 0.0, 0.0
        for child in self._site.children(name):
            reading = self.reading(child, now_seconds)
            if reading is None or reading.known_watts() is None or reading.estimated:
                # An estimate upon an estimate would only pile up margins: this far up nothing is known.
                return None
            watts += reading.watts or 0.0
            if reading.quality is not Quality.GOOD:
                told = self._watches[child].graded(now_seconds)
                lifted_watts += (reading.watts or 0.0) - (told.watts or 0.0)
                doubt_watts += max(abs(reading.watts or 0.0), 1.0)
        for node in self._site.circuits[name].nodes:
            draw = nodes.get(node)
            if draw is None:
                return None
            watts += draw.watts
            doubt_watts += draw.doubt_watts
        for ess in self._site.ess.values():
            if ess.circuit == name:
                discharge_watts = discharges.get(ess.name)
                if discharge_watts is None:
                    return None
                watts -= discharge_watts
        return Draw(watts=watts, doubt_watts=doubt_watts, lifted_watts=lifted_watts)

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
            if apart.intersection(self._site.children(name)):
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
        expected_watts = loss.expected_watts(below.watts) if below is not None and loss.known else None
        if own.quality is Quality.INVALID and expected_watts is not None:
            assert below is not None
            margin_watts = loss.doubt_watts(below.watts) + max(
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


def expectation(site: Site, circuit: Circuit, meters: Mapping[str, tuple[str, float]]) -> Expectation:
    """Batteries behind a circuit may feed back as much as it carries; without any it never feeds back."""
    feeds_back = bool(site.ess_behind(circuit.name))
    refresh_seconds = {name: max_age_seconds / 3.0 for name, (_, max_age_seconds) in meters.items()}
    below = site.children(circuit.name)
    return Expectation(
        rating_watts=circuit.rating_watts,
        lowest_watts=-circuit.rating_watts if feeds_back else -0.01 * circuit.rating_watts,
        max_age_seconds=meters[circuit.name][1],
        refresh_seconds=refresh_seconds[circuit.name],
        below_refresh_seconds=max((refresh_seconds[name] for name in below if name in meters), default=1.0),
    )
