"""Frames between powerd's two processes: fixed binary records, so that the root side parses no text.

One datagram is one frame: a byte that names it, its numbers, then its texts, each with its length before it.
Whatever does not fit exactly is refused whole.
"""

import re
import struct
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from slurm_power.model.lease import Lease, LeaseKey, LeaseState, Lever
from slurm_power.model.site import LimitKind
from slurm_power.node.orders import LeaseEvent
from slurm_power.node.pauses import JOB_ID, PauseEvent

Choice = TypeVar("Choice")

MAX_TEXT_BYTES = 1024
MAX_FRAME_BYTES = 8192
_LEVERS = tuple(Lever)
_KINDS = tuple(LimitKind)
_STATES = tuple(LeaseState)
# Stands for "no value" where a number may be missing: no bound is ever negative.
_NOTHING = -1.0


class FrameError(Exception):
    """A frame that is not what it should be; the text says what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Set or renew a bound for ``ttl_seconds`` from now on."""

    lease_id: str
    uuid: str
    lever: Lever
    bound: float
    ttl_seconds: float
    kind: LimitKind
    job_id: str | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """End one lease by its id, or with ``of_job`` all economic ones of a job."""

    name: str
    of_job: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Controller:
    """Whether the controller is connected now."""

    connected: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Yield:
    """Leave the GPUs to somebody else for ``seconds``; 0 takes them back."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """See to it that a job the controller stops goes on in ``seconds``; 0: it needs no looking after."""

    job_id: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prove:
    """Make a MUNGE credential that says which node asks for a certificate: ``digest`` is of its request."""

    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The credential, empty with an ``error`` if there is none."""

    credential: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A lease as it stands now, with how often any has drifted."""

    lease: Lease
    drift_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """A setting that is free again."""

    key: LeaseKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """Something the controller has to be told."""

    event: LeaseEvent


Request: TypeAlias = Grant | Release | Controller | Yield | Prove | Pause
News: TypeAlias = Held | Gone | Happened | Proof | PauseEvent

_GRANT, _RELEASE, _CONTROLLER, _YIELD, _PROVE, _HELD, _GONE, _HAPPENED, _PROOF = range(1, 10)
_PAUSE, _PAUSE_EVENT = range(10, 12)
_NUMBERS = {
    _GRANT: struct.Struct("!BBdd"),
    _RELEASE: struct.Struct("!B"),
    _CONTROLLER: struct.Struct("!B"),
    _YIELD: struct.Struct("!d"),
    _PROVE: struct.Struct("!"),
    _PROOF: struct.Struct("!"),
    _HELD: struct.Struct("!BBBdddddI"),
    _GONE: struct.Struct("!B"),
    _HAPPENED: struct.Struct("!Bddd"),
    _PAUSE: struct.Struct("!d"),
    _PAUSE_EVENT: struct.Struct("!"),
}
_TEXTS = {
    _GRANT: 4,
    _RELEASE: 2,
    _CONTROLLER: 0,
    _YIELD: 0,
    _PROVE: 1,
    _HELD: 4,
    _GONE: 1,
    _HAPPENED: 5,
    _PROOF: 2,
    _PAUSE: 1,
    _PAUSE_EVENT: 3,
}
_DIGEST = re.compile(r"[0-9a-f]{64}")


def encode_request(frame: Request) -> bytes:
    """What the front asks, as one datagram; texts that are too long are cut."""
    match frame:
        case Grant():
            numbers = (_LEVERS.index(frame.lever), _KINDS.index(frame.kind), frame.bound, frame.ttl_seconds)
            return _packed(_GRANT, numbers, frame.lease_id, frame.uuid, frame.job_id or "", frame.reason)
        case Release():
            return _packed(_RELEASE, (frame.of_job,), frame.name, frame.reason)
        case Controller():
            return _packed(_CONTROLLER, (frame.connected,))
        case Yield():
            return _packed(_YIELD, (frame.seconds,))
        case Prove():
            return _packed(_PROVE, (), frame.digest)
        case Pause():
            return _packed(_PAUSE, (frame.seconds,), frame.job_id)


def encode_news(frame: News) -> bytes:
    """What the keeper tells, as one datagram; texts that are too long are cut."""
    match frame:
        case Held():
            return _held(frame)
        case Gone():
            return _packed(_GONE, (_LEVERS.index(frame.key.lever),), frame.key.uuid)
        case Proof():
            return _packed(_PROOF, (), frame.credential, frame.error)
        case PauseEvent():
            return _packed(_PAUSE_EVENT, (), frame.job_id, frame.event, frame.detail)
        case Happened():
            event = frame.event
            bounds = (event.bound, _or_nothing(event.requested), _or_nothing(event.enforced))
            texts = (event.event, event.lease_id, event.uuid, event.job_id or "", event.detail)
            return _packed(_HAPPENED, (_LEVERS.index(event.lever), *bounds), *texts)


def _held(frame: Held) -> bytes:
    lease = frame.lease
    numbers = (
        _LEVERS.index(lease.lever),
        _KINDS.index(lease.kind),
        _STATES.index(lease.state),
        lease.bound,
        lease.previous,
        _or_nothing(lease.safe),
        lease.expires_at_seconds,
        float(lease.drift_count),
        min(frame.drift_count, 0xFFFFFFFF),
    )
    return _packed(_HELD, numbers, lease.lease_id, lease.uuid, lease.job_id or "", lease.reason)


def decode_request(data: bytes) -> Request:
    """A frame for the root side; raises FrameError."""
    kind, numbers, texts = _unpacked(data, (_GRANT, _RELEASE, _CONTROLLER, _YIELD, _PROVE, _PAUSE))
    if kind == _GRANT:
        lever, limit_kind, bound, ttl_seconds = numbers
        lease_id, uuid, job_id, reason = texts
        return Grant(
            lease_id=lease_id,
            uuid=uuid,
            lever=_chosen(_LEVERS, lever),
            bound=_above_zero("bound", bound),
            ttl_seconds=_above_zero("ttl_seconds", ttl_seconds),
            kind=_chosen(_KINDS, limit_kind),
            job_id=job_id or None,
            reason=reason,
        )
    if kind == _RELEASE:
        return Release(name=texts[0], of_job=bool(numbers[0]), reason=texts[1])
    if kind == _PROVE:
        # The one text that becomes part of something else: it may be a digest and nothing more.
        if not _DIGEST.fullmatch(texts[0]):
            raise FrameError("digest: not 64 hexadecimal digits")
        return Prove(digest=texts[0])
    if kind == _CONTROLLER:
        return Controller(connected=bool(numbers[0]))
    if not 0.0 <= numbers[0] < float("inf"):
        raise FrameError(f"seconds: {numbers[0]} is no duration")
    if kind == _PAUSE:
        # It becomes a word of a command of root's.
        if not JOB_ID.fullmatch(texts[0]):
            raise FrameError("job_id: not a number")
        return Pause(job_id=texts[0], seconds=numbers[0])
    return Yield(seconds=numbers[0])


def decode_news(data: bytes) -> News:
    """A frame for the unprivileged side; raises FrameError."""
    kind, numbers, texts = _unpacked(data, (_HELD, _GONE, _HAPPENED, _PROOF, _PAUSE_EVENT))
    if kind == _PAUSE_EVENT:
        return PauseEvent(job_id=texts[0], event=texts[1], detail=texts[2])
    if kind == _PROOF:
        return Proof(credential=texts[0], error=texts[1])
    if kind == _GONE:
        return Gone(key=LeaseKey(texts[0], _chosen(_LEVERS, numbers[0])))
    if kind == _HAPPENED:
        lever, bound, requested, enforced = numbers
        event, lease_id, uuid, job_id, detail = texts
        return Happened(
            event=LeaseEvent(
                event=event,
                lease_id=lease_id,
                uuid=uuid,
                lever=_chosen(_LEVERS, lever),
                job_id=job_id or None,
                bound=bound,
                requested=_or_none(requested),
                enforced=_or_none(enforced),
                detail=detail,
            )
        )
    lever, limit_kind, state, bound, previous, safe, expires_at_seconds, drifts, drift_count = numbers
    lease_id, uuid, job_id, reason = texts
    lease = Lease(
        lease_id=lease_id,
        uuid=uuid,
        lever=_chosen(_LEVERS, lever),
        bound=bound,
        kind=_chosen(_KINDS, limit_kind),
        expires_at_seconds=expires_at_seconds,
        previous=previous,
        state=_chosen(_STATES, state),
        reason=reason,
        job_id=job_id or None,
        safe=_or_none(safe),
        drift_count=int(drifts),
    )
    return Held(lease=lease, drift_count=int(drift_count))


def _packed(kind: int, numbers: tuple[object, ...], *texts: str) -> bytes:
    parts = [bytes((kind,)), _NUMBERS[kind].pack(*numbers)]
    for text in texts:
        data = text.encode(errors="replace")[:MAX_TEXT_BYTES].decode(errors="ignore").encode()
        parts.append(struct.pack("!H", len(data)) + data)
    return b"".join(parts)


def _unpacked(data: bytes, kinds: tuple[int, ...]) -> tuple[int, tuple[float, ...], list[str]]:
    """The kind, numbers and texts of a frame of one of these kinds, nothing missing and nothing over."""
    if not data or data[0] not in kinds:
        raise FrameError(f"unknown frame {data[:1]!r}")
    kind = data[0]
    try:
        numbers = _NUMBERS[kind].unpack_from(data, 1)
        at = 1 + _NUMBERS[kind].size
        texts = []
        for _ in range(_TEXTS[kind]):
            (length,) = struct.unpack_from("!H", data, at)
            text = data[at + 2 : at + 2 + length]
            if length > MAX_TEXT_BYTES or len(text) != length:
                raise FrameError("a text is longer than it may be or than the frame")
            texts.append(text.decode())
            at += 2 + length
    except (struct.error, UnicodeDecodeError) as error:
        raise FrameError(f"frame {kind}: {error}") from None
    if at != len(data):
        raise FrameError(f"frame {kind}: {len(data) - at} bytes too many")
    return kind, numbers, texts


def _chosen(choices: tuple[Choice, ...], index: float) -> Choice:
    if not 0 <= index < len(choices):
        raise FrameError(f"no choice {index:g}")
    return choices[int(index)]


def _above_zero(name: str, value: float) -> float:
    if not 0.0 < value < float("inf"):
        raise FrameError(f"{name}: {value} is not a number above 0")
    return value


def _or_nothing(value: float | None) -> float:
    return _NOTHING if value is None else value


def _or_none(value: float) -> float | None:
    return None if value == _NOTHING else value
