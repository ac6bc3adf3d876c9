"""Inference services: what their gateways tell, which tier each is asked to serve with, and for how long.

A gateway asks again and again, and does what it is answered. What stands here is a lease: a gateway that
hears nothing more goes back to its own tier by itself, and a service that is heard no more is forgotten.
"""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from slurm_power.controller.answers.user_socket import Caller, RefusedError
from slurm_power.model.action import SwitchService
from slurm_power.model.service import Backend, BackendState, Service, ServiceLease
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import Snapshot
from slurm_power.model.tier import ANY_TIER, Catalog, Family, refusals
from slurm_power.model.tier_words import MOST_TIERS, tier_of, tiers_of, tiers_of_option
from slurm_power.plan.overlaps import overlap_room
from slurm_power.plan.policy import Policy
from slurm_power.wire import Message

_KEY = "services"
# A gateway speaks every two seconds.
SILENT_SECONDS = 30.0
TTL_SECONDS = 30.0
_MOST_SERVICES = 200
_MOST_OF_A_USER = 20
_MOST_BACKENDS = 16
_LONGEST_TEXT = 64
_MOST_STREAMS = 1_000_000
_MOST_RATE = 1e9
_JOB_ID = re.compile("[0-9]{1,20}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a service has been asked to run; kept over a restart."""

    tier: str
    kind: LimitKind
    reason: str
    asked_at: datetime
    saved_watts: float


@dataclass(slots=True)
class _Known:
    service: Service
    heard_seconds: float
    uid: int


class ServiceDesk:
    """All services that are heard."""

    def __init__(self, store: Any, policy: Policy, note: Callable[..., None]) -> None:
        """``store`` keeps what services have been asked, as ``state`` and ``put_state``."""
        self._store = store
        self._policy = policy
        self._note = note
        self._known: dict[str, _Known] = {}
        self._asked = _asked_from(store.state(_KEY))
        self._first_seconds: float | None = None
        # Until when the room for its next tier is a service's own.
        self._bookings: dict[str, float] = {}

    def use_policy(self, policy: Policy) -> None:
        """Go by another policy from now on."""
        self._policy = policy

    @property
    def asked(self) -> Mapping[str, Asked]:
        """What services are asked to run in place of their own tiers."""
        return self._asked

    def onto(self, snapshot: Snapshot, now_seconds: float) -> Snapshot:
        """The snapshot with the services and what they are asked."""
        if not self._known and not self._asked:
            return snapshot
        users = {job.job_id: job.user for job in snapshot.jobs}
        accounts = {(job.user, job.account) for job in snapshot.jobs}
        services = {
            name: replace(
                known.service,
                age_seconds=now_seconds - known.heard_seconds,
                backends=_own_jobs(known.service, users),
                # What it weighs is by its account: one under which its user runs jobs, whatever is said.
                account=known.service.account
                if (known.service.user, known.service.account) in accounts
                else "",
            )
            for name, known in self._known.items()
        }
        leases = {
            name: ServiceLease(
                service=name,
                tier=asked.tier,
                kind=asked.kind,
                asked_seconds_ago=(snapshot.at - asked.asked_at).total_seconds(),
            )
            for name, asked in self._asked.items()
        }
        return replace(snapshot, services=services, service_leases=leases)

    def took(self, action: SwitchService, at: datetime) -> bool:
        """Note what a service is asked; True where that is another tier than before."""
        before = self._asked.get(action.service)
        if action.tier is None:
            self._asked.pop(action.service, None)
        elif before is None or before.tier != action.tier:
            self._asked[action.service] = Asked(
                tier=action.tier,
                kind=action.kind,
                reason=action.reason,
                asked_at=at,
                saved_watts=action.saved_watts,
            )
        else:
            return False
        self._keep()
        return before is not None or action.tier is not None

    def user_of(self, name: str) -> str | None:
        """Whose service it is."""
        known = self._known.get(name)
        return None if known is None else known.service.user

    def follow(self, now_seconds: float) -> None:
        """Forget the services that are heard no more."""
        for name, known in list(self._known.items()):
            if now_seconds - known.heard_seconds > SILENT_SECONDS:
                del self._known[name]
                self._bookings.pop(name, None)
                self._tell(known.service, "service silent", "its gateway is heard no more")
        gone = [name for name in self._asked if name not in self._known]
        # After a restart a gateway has as long to be heard again.
        if self._first_seconds is None:
            self._first_seconds = now_seconds
        if gone and now_seconds - self._first_seconds > SILENT_SECONDS:
            for name in gone:
                del self._asked[name]
            self._keep()

    def let_go(self) -> None:
        """Ask nothing of anybody any more."""
        if self._asked:
            self._asked.clear()
            self._keep()

    def answer(
        self, snapshot: Snapshot, request: Message, caller: Caller, now_seconds: float, *, enabled: bool
    ) -> Message:
        """Take a gateway's word, and answer what it is to serve with; raises RefusedError."""
        service = _service_of(request, caller, snapshot.catalog)
        known = self._known.get(service.name)
        if known is not None and known.uid != caller.uid and not caller.operator:
            raise RefusedError(f"service {service.name} is somebody else's; choose another name")
        if known is not None:
            # An operator who speaks for it does not take it over.
            service = replace(service, user=known.service.user)
        else:
            self._may_come(service, caller)
            self._tell(
                service, "service heard", f"serves {service.family} with {service.serving or 'nothing yet'}"
            )
        uid = caller.uid if known is None else known.uid
        self._known[service.name] = _Known(service, now_seconds, uid)
        asked = self._asked.get(service.name) if enabled else None
        if asked is not None and not _consents(service, asked.tier, snapshot.catalog):
            asked = None
        wanted = service.full_tier if asked is None else asked.tier
        missing = overlap_room(
            self._booked(snapshot, service.name, now_seconds), self._policy, service, wanted
        )
        # Who nobody can tell the power of starts as any job does, by the workload manager's own word.
        may_start = missing is None or missing <= 0.0 or not service.serving
        self._book(service, wanted, now_seconds, may_start=may_start)
        return {
            "tier": wanted,
            "reason": asked.reason if asked is not None else "nothing is short",
            "ttl_seconds": TTL_SECONDS,
            "may_start": may_start,
            "wait_reason": "" if may_start else f"{missing or 0.0:.0f} W are missing for both tiers at once",
        }

    def _booked(self, snapshot: Snapshot, name: str, now_seconds: float) -> Snapshot:
        """The snapshot as a service finds it: of the others only those count that may switch, or do.

        Else two that wait would each wait for the room that the other has not got.
        """
        seen = self.onto(snapshot, now_seconds)
        counted = {
            key: one
            for key, one in seen.services.items()
            if key == name or one.switching or self._bookings.get(key, 0.0) > now_seconds
        }
        return replace(seen, services=counted)

    def _book(self, service: Service, wanted: str, now_seconds: float, *, may_start: bool) -> None:
        """Keep the room for who may start, until it serves or its time is over; then it has to ask anew."""
        if not may_start or service.serving == wanted:
            self._bookings.pop(service.name, None)
        elif self._bookings.get(service.name, 0.0) <= now_seconds:
            self._bookings[service.name] = now_seconds + self._policy.service_start_seconds

    def rows(self, now_seconds: float, *, user: str | None) -> list[dict[str, Any]]:
        """The services for an answer, those of ``user`` or, for None, all."""
        return [
            {
                "name": name,
                "user": known.service.user,
                "family": known.service.family,
                "full_tier": known.service.full_tier,
                "serving": known.service.serving,
                "asked_tier": self._asked[name].tier if name in self._asked else None,
                "reason": self._asked[name].reason if name in self._asked else "",
                "switching": known.service.switching,
                "age_seconds": round(now_seconds - known.heard_seconds, 1),
                "backends": [
                    {
                        "tier": one.tier,
                        "state": one.state.value,
                        "job_id": one.job_id,
                        "open_streams": one.open_streams,
                    }
                    for one in known.service.backends
                ],
            }
            for name, known in sorted(self._known.items())
            if user is None or known.service.user == user
        ]

    def _may_come(self, service: Service, caller: Caller) -> None:
        if len(self._known) >= _MOST_SERVICES:
            raise RefusedError(f"there are {_MOST_SERVICES} services already")
        own = sum(known.uid == caller.uid for known in self._known.values())
        if own >= _MOST_OF_A_USER:
            raise RefusedError(f"{service.user} has {_MOST_OF_A_USER} services already")

    def _tell(self, service: Service, kind: str, reason: str) -> None:
        self._note("controller", kind, f"service:{service.name}", reason, user=service.user)

    def _keep(self) -> None:
        self._store.put_state(
            _KEY,
            {
                name: {
                    "tier": asked.tier,
                    "kind": asked.kind.value,
                    "reason": asked.reason,
                    "asked_at": asked.asked_at.astimezone(UTC).isoformat(),
                    "saved_watts": asked.saved_watts,
                }
                for name, asked in self._asked.items()
            },
        )


def _consents(service: Service, tier: str, catalog: Catalog) -> bool:
    """Whether a service may be asked for a tier still: its owner may have said otherwise since."""
    family = catalog.families.get(service.family)
    there = family is not None and family.tier(tier) is not None
    return there and (tier in service.tiers_ok or ANY_TIER in service.tiers_ok)


def _own_jobs(service: Service, users: Mapping[str, str]) -> tuple[Backend, ...]:
    """Its backends; a job of somebody else's is none of them, whatever a gateway says."""
    return tuple(
        one if users.get(one.job_id, service.user) == service.user else replace(one, job_id="")
        for one in service.backends
    )


def _asked_from(stored: object) -> dict[str, Asked]:
    """What was kept; what makes no sense is as nothing."""
    found = {}
    for name, row in stored.items() if isinstance(stored, dict) else ():
        with suppress(AttributeError, KeyError, TypeError, ValueError):
            found[str(name)] = Asked(
                tier=_tier_name(row["tier"]),
                kind=LimitKind(row["kind"]),
                reason=str(row["reason"]),
                asked_at=datetime.fromisoformat(row["asked_at"]).astimezone(UTC),
                saved_watts=float(row["saved_watts"]),
            )
    return found


def _tier_name(value: object) -> str:
    """The name of a tier; raises ValueError for what is none."""
    if not isinstance(value, str) or not tier_of(f"x/{value}"):
        raise ValueError("tier: not a tier's name")
    return value


def _service_of(request: Mapping[str, Any], caller: Caller, catalog: Catalog) -> Service:
    """What a gateway says of its service; raises RefusedError with all that is wrong with it."""
    problems: list[str] = []
    name, family_name = _name(request, "name", problems), _name(request, "family", problems)
    full, serving = (
        _name(request, key, problems, empty=key == "serving") for key in ("full_tier", "serving")
    )
    tiers_ok = _consent(request.get("tiers_ok"), problems)
    family = catalog.families.get(family_name)
    if family_name and family is None:
        known = ", ".join(sorted(catalog.families)) or "none"
        problems.append(f"family: {family_name} is not in the site's catalog; it has {known}")
    if family is not None:
        problems += _unknown_tiers(family, full=full, serving=serving, tiers_ok=tiers_ok)
    rate, quality = request.get("requests_per_second"), request.get("min_quality")
    for key, value in (("requests_per_second", rate), ("min_quality", quality)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            problems.append(f"{key}: not a number")
        elif value is not None and not -_MOST_RATE <= value <= _MOST_RATE:
            problems.append(f"{key}: out of bounds")
    if isinstance(rate, int | float) and rate < 0:
        problems.append("requests_per_second: below 0")
    backends = _backends(request.get("backends"), problems)
    if problems:
        raise RefusedError("; ".join(problems))
    account = request.get("account")
    return Service(
        name=name,
        user=caller.user,
        account=account[:_LONGEST_TEXT] if isinstance(account, str) else "",
        family=family_name,
        full_tier=full,
        tiers_ok=tiers_ok,
        serving=serving,
        min_quality=None if quality is None else float(quality),
        backends=backends,
        requests_per_second=None if rate is None else float(rate),
    )


def _unknown_tiers(family: Family, *, full: str, serving: str, tiers_ok: tuple[str, ...]) -> list[str]:
    """What is wrong with the tiers that a service names."""
    there = ", ".join(tier.name for tier in family.tiers)
    named = {"full_tier": full, "serving": serving} | {
        f"tiers_ok ({name})": name for name in tiers_ok if name != ANY_TIER
    }
    problems = [
        f"{key}: {family.name} has no tier {name}; it has {there}"
        for key, name in named.items()
        if name and family.tier(name) is None
    ]
    tier = family.tier(full)
    why = refusals(family, tier) if tier is not None else ()
    return [*problems, *(f"full_tier: {full} is refused: {reason}" for reason in why)]


def _consent(value: object, problems: list[str]) -> tuple[str, ...]:
    """The tiers that a service may run: a list of names, or the option's text; nothing said is none."""
    if value is None or value == []:
        return ()
    names = tiers_of_option(value) if isinstance(value, str) else tiers_of(value) or None
    if names is None:
        problems.append(f'tiers_ok: not a list of {MOST_TIERS} names of tiers at most, nor ["any"] alone')
    return names or ()


def _name(request: Mapping[str, Any], key: str, problems: list[str], *, empty: bool = False) -> str:
    value = request.get(key)
    if empty and not value:
        return ""
    # A family with a tier of that name is a name of a tier.
    if not isinstance(value, str) or not tier_of(f"{value}/x"):
        problems.append(f"{key}: not a name of lower-case letters, digits, dots and dashes, of 32 at most")
        return ""
    return value


def _backends(value: object, problems: list[str]) -> tuple[Backend, ...]:
    rows = value if isinstance(value, list) else None
    if rows is None or len(rows) > _MOST_BACKENDS:
        problems.append(f"backends: not a list of {_MOST_BACKENDS} at most")
        return ()
    found = []
    for place, row in enumerate(rows):
        try:
            job_id, streams = row.get("job_id") or "", row.get("open_streams") or 0
            if not (job_id == "" or (isinstance(job_id, str) and _JOB_ID.fullmatch(job_id))):
                raise ValueError("job_id: not a job's number as a text")
            if type(streams) is not int or not 0 <= streams <= _MOST_STREAMS:
                raise ValueError("open_streams: not a whole number")
            tier = _tier_name(row.get("tier"))
            state = BackendState(row.get("state"))
        except (AttributeError, ValueError) as error:
            problems.append(f"backends[{place}]: {error}")
            continue
        found.append(Backend(tier=tier, state=state, job_id=job_id, open_streams=streams))
    return tuple(found)
