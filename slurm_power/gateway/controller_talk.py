"""What a gateway tells powerctld every two seconds, and which tier follows from the answer or its absence."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from slurm_power import wire
from slurm_power.gateway.members import GOING, Phase, Sight, State, Wish
from slurm_power.gateway.service_file import ServiceFile
from slurm_power.model.service import BackendState
from slurm_power.powerctld_line import LineError, LineRefusedError, ask

TELL_SECONDS = 2.0
TIMEOUT_SECONDS = 1.5
SILENT_SECONDS = 60.0
"""Past the answer's time to live: then a controller that booked the old tier's return has forgotten us."""

_STATES = {
    Phase.SUBMITTING: BackendState.STARTING,
    Phase.STARTING: BackendState.STARTING,
    Phase.WARMING: BackendState.STARTING,
    Phase.READY: BackendState.READY,
    Phase.SERVING: BackendState.SERVING,
    Phase.DRAINING: BackendState.DRAINING,
    Phase.CLOSING: BackendState.DRAINING,
    Phase.STOPPING: BackendState.DRAINING,
}


class TalkError(Exception):
    """powerctld did not answer, or refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What powerctld said, at ``heard_seconds`` of the host's monotonic clock."""

    tier: str
    may_start: bool
    reason: str
    ttl_seconds: float
    heard_seconds: float
    wait_reason: str = ""


def report(
    service: ServiceFile,
    state: State,
    sights: Mapping[str, Sight],
    *,
    full_tier: str,
    account: str,
    requests_per_second: float | None,
) -> wire.Message:
    """The message, as docs/protocol.md has it."""
    serving = state.first(Phase.SERVING) or state.first(*GOING)
    return {
        "op": "service",
        "name": service.name,
        "family": service.family,
        "full_tier": full_tier,
        "tiers_ok": list(service.tiers_ok),
        "min_quality": service.min_quality,
        "account": account,
        "serving": serving.tier if serving else "",
        "requests_per_second": requests_per_second,
        "backends": [
            {
                "tier": member.tier,
                "state": _STATES[member.phase].value,
                "job_id": member.job_id,
                "open_streams": sights.get(member.key, Sight()).open_streams or 0,
            }
            for member in state.members
        ],
    }


async def tell(socket_path: Path, message: wire.Message) -> wire.Message:
    """Send it and return the answer; raises TalkError."""
    try:
        return await ask(socket_path, message, timeout_seconds=TIMEOUT_SECONDS)
    except LineRefusedError as error:
        raise TalkError(f"powerctld refuses: {error}") from None
    except LineError as error:
        raise TalkError(str(error)) from None


def understood(answer: wire.Message, service: ServiceFile, *, now: float) -> Answer:
    """Take an answer in; raises TalkError for one that this service cannot follow."""
    tier, ttl, may_start = answer.get("tier"), answer.get("ttl_seconds"), answer.get("may_start")
    if not isinstance(tier, str) or service.job_of(tier) is None:
        raise TalkError(f"powerctld wants tier {tier!r}, which this service may not run")
    if isinstance(ttl, bool) or not isinstance(ttl, int | float) or not math.isfinite(ttl) or ttl <= 0.0:
        raise TalkError(f"powerctld's answer has no time to live: {ttl!r}")
    if not isinstance(may_start, bool):
        raise TalkError("powerctld's answer does not say whether a tier may start")
    return Answer(
        tier=tier,
        may_start=may_start,
        reason=_line(answer.get("reason")),
        wait_reason=_line(answer.get("wait_reason")),
        ttl_seconds=float(ttl),
        heard_seconds=now,
    )


def _line(value: object) -> str:
    """Text of another process for a log: one line, printable, not endless."""
    text = value if isinstance(value, str) else ""
    return "".join(char if char.isprintable() else " " for char in text)[:300]


def wish(answer: Answer | None, *, full_tier: str, since_seconds: float, now: float) -> Wish:
    """Which tier is to serve. ``since_seconds`` is when this gateway began to listen.

    As long as the answer lives, what it says; then for 60 s the tier of now; then the full tier, unbooked.
    """
    spoken = since_seconds if answer is None else answer.heard_seconds
    ttl = 0.0 if answer is None else answer.ttl_seconds
    if answer is not None and now - spoken <= ttl:
        reason = answer.reason or "powerctld wants it"
        return Wish(tier=answer.tier, may_start=answer.may_start, reason=reason, fallbacks=(full_tier,))
    if now - spoken <= ttl + SILENT_SECONDS:
        return Wish(fallbacks=(full_tier,), reason="powerctld is silent")
    return Wish(
        tier=full_tier,
        may_start=True,
        reason="the full tier: powerctld has been silent for long",
        fallbacks=(full_tier,),
    )
