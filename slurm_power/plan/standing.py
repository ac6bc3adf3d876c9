"""From a snapshot and its plan to how the site stands: safe or at risk, where, by how much, and when."""

from collections.abc import Iterable, Mapping

from slurm_power.model.action import Shortfall
from slurm_power.model.forecast import CircuitForecast
from slurm_power.model.reading import Quality
from slurm_power.model.snapshot import Snapshot
from slurm_power.model.standing import Danger, Risk, Standing

_ORDER = {danger: rank for rank, danger in enumerate(Danger)}


def site_standing(
    snapshot: Snapshot,
    shortfalls: Iterable[Shortfall],
    *,
    controls: bool,
    forecasts: Mapping[str, CircuitForecast] | None = None,
) -> Standing:
    """Judge each circuit. A single reading above a limit is no risk yet: levers need their second.

    ``forecasts`` are the near ones by circuit. Where something ``controls``, what they see above a limit is
    for the levers, and only what those cannot hold is a risk (``shortfalls``); where nothing does, it all is.
    """
    risks = {
        **{risk.circuit: risk for risk in _foreseen(snapshot, shortfalls)},
        **({} if controls else _uncontrolled(snapshot, forecasts or {})),
        **{risk.circuit: risk for risk in _now(snapshot, shortfalls)},
    }
    root = snapshot.site.root.name
    reading = snapshot.circuits.get(root)
    watts = None if reading is None else reading.known_watts()
    limit_watts = snapshot.limit_watts(root)
    tightest = _tightest(snapshot)
    return Standing(
        circuit=root,
        watts=watts,
        limit_watts=limit_watts,
        margin_watts=None if watts is None else limit_watts - watts,
        risks=tuple(
            sorted(risks.values(), key=lambda risk: (_ORDER[risk.danger], -(risk.watts or 0.0), risk.circuit))
        ),
        tightest=None if tightest is None else tightest[0],
        tightest_watts=None if tightest is None else tightest[1],
    )


def _now(snapshot: Snapshot, shortfalls: Iterable[Shortfall]) -> Iterable[Risk]:
    reasons = {short.circuit: short.reason for short in shortfalls if short.from_seconds <= 0.0}
    for name, circuit in snapshot.site.circuits.items():
        reading = snapshot.circuits.get(name)
        if reading is None or reading.quality is Quality.INVALID:
            if circuit.meter is not None:
                why = "no reading yet" if reading is None else reading.reason
                yield Risk(danger=Danger.UNMEASURED, circuit=name, watts=None, reason=why)
            continue
        watts = reading.known_watts()
        if watts is None:
            continue
        above = min(watts, snapshot.lasting_watts.get(name, watts)) - snapshot.limit_watts(name)
        if above > 0.0:
            reason = reasons.get(name, "the levers are on their way")
            yield Risk(danger=Danger.ABOVE, circuit=name, watts=above, reason=reason)


def _foreseen(snapshot: Snapshot, shortfalls: Iterable[Shortfall]) -> Iterable[Risk]:
    for short in shortfalls:
        if short.from_seconds > 0.0 and short.circuit in snapshot.site.circuits:
            yield Risk(
                danger=Danger.FORESEEN,
                circuit=short.circuit,
                watts=short.watts,
                in_seconds=short.from_seconds,
                reason=short.reason,
            )


def _uncontrolled(snapshot: Snapshot, forecasts: Mapping[str, CircuitForecast]) -> dict[str, Risk]:
    """The first step of each circuit whose upper bound is above the limit of that time."""
    found = {}
    now_seconds = snapshot.at.timestamp()
    for name, forecast in forecasts.items():
        if name not in snapshot.site.circuits:
            continue
        for step, upper_watts in enumerate(forecast.p90_watts):
            lead_seconds = forecast.issued_seconds + step * forecast.step_seconds - now_seconds
            above = upper_watts - snapshot.limit_watts(name, max(0.0, lead_seconds))
            if above > 0.0 and lead_seconds + forecast.step_seconds > 0.0:
                found[name] = Risk(
                    danger=Danger.FORESEEN,
                    circuit=name,
                    watts=above,
                    in_seconds=max(0.0, lead_seconds),
                    reason="nothing is controlled",
                )
                break
    return found


def _tightest(snapshot: Snapshot) -> tuple[str, float] | None:
    left = []
    for name in snapshot.site.circuits:
        reading = snapshot.circuits.get(name)
        watts = None if reading is None else reading.known_watts()
        limit_watts = snapshot.limit_watts(name)
        if watts is not None and limit_watts > 0.0:
            left.append(((limit_watts - watts) / limit_watts, name, limit_watts - watts))
    return min(left)[1:] if left else None
