"""SunSpec over Modbus/TCP: pysunspec2 says which register holds what, devices/modbus.py carries it.

pysunspec2's own client is never used: it ignores transaction ids, so one late answer shifts all later ones.
"""

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from slurm_power.devices.modbus import ModbusUnit
from slurm_power.ports import DeviceError

MAX_READ_WORDS = 125
MAX_MODELS = 100
END_OF_CHAIN = 0xFFFF
NOT_SCALED = -32768
_FORMATS = {
    "int16": ("h", -0x8000), "uint16": ("H", 0xFFFF), "count": ("H", 0xFFFF), "acc16": ("H", None),
    "enum16": ("H", 0xFFFF), "bitfield16": ("H", 0xFFFF), "sunssf": ("h", NOT_SCALED),
    "int32": ("i", -0x80000000), "uint32": ("I", 0xFFFFFFFF), "acc32": ("I", None),
    "enum32": ("I", 0xFFFFFFFF), "bitfield32": ("I", 0xFFFFFFFF),
    "int64": ("q", -(2**63)), "uint64": ("Q", 2**64 - 1), "acc64": ("Q", None),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One point of a model's fixed part. ``not_implemented`` is the raw value that says "no value"."""

    name: str
    offset: int
    words: int
    format: str
    not_implemented: int | None
    scale: str | int | None
    symbols: Mapping[int, str]


Key: TypeAlias = tuple[int, str]


class Values:
    """Decoded points of one read; unimplemented ones are None."""

    def __init__(self, raw: Mapping[Key, int | None], points: Mapping[Key, Point]) -> None:
        self._raw, self._points = raw, points

    def raw(self, model: int, name: str) -> int | None:
        """Return a point as it stands, None if not implemented."""
        return self._raw.get((model, name))

    def scale(self, model: int, name: str) -> float | None:
        """Return what one count of a point is worth, None if its scale factor is not usable."""
        scale = self._points[model, name].scale
        exponent = self._raw.get((model, scale)) if isinstance(scale, str) else (scale or 0)
        return None if exponent is None or not -10 <= exponent <= 10 else 10.0**exponent

    def get(self, model: int, name: str) -> float | None:
        """Return a point in its unit, scale factor applied."""
        raw, scale = self.raw(model, name), self.scale(model, name)
        return None if raw is None or scale is None else raw * scale


class SunspecDevice:
    """One SunSpec device behind one TCP connection; one request at a time.

    Connects by itself, again after a failure with growing pauses. Every request, with the connecting it may
    need, ends within ``timeout_seconds``. All errors are DeviceErrors that name device, register and reason.
    """

    def __init__(
        self, *, name: str, address: str, unit_id: int, base_address: int, timeout_seconds: float
    ) -> None:
        self.name = name
        self._link = ModbusUnit(name=name, address=address, unit_id=unit_id, timeout_seconds=timeout_seconds)
        self._base_address = base_address
        self._starts: dict[int, int] = {}
        self._lengths: dict[int, int] = {}
        self._points: dict[Key, Point] = {}

    @property
    def models(self) -> frozenset[int]:
        """Models found by the last walk; the first of each id counts."""
        return frozenset(self._starts)

    async def close(self) -> None:
        """Let go of the connection."""
        self._link.close()

    async def walk(self) -> None:
        """Find the models of the device; raises DeviceError if it has no sane chain."""
        self._starts, self._lengths = {}, {}
        starts: dict[int, int] = {}
        lengths: dict[int, int] = {}
        if await self._link.read(self._base_address, 2) != [0x5375, 0x6E53]:
            raise DeviceError(
                f"{self.name}: register {self._base_address} does not say SunS: no SunSpec device"
            )
        address = self._base_address + 2
        for _ in range(MAX_MODELS):
            model, length = await self._link.read(address, 2)
            if model == END_OF_CHAIN:
                self._starts, self._lengths = starts, lengths
                return
            if address + 2 + length > 0xFFFF:
                break
            starts.setdefault(model, address)
            lengths.setdefault(model, length)
            address += 2 + length
        raise DeviceError(f"{self.name}: the chain of models has no end (stopped at register {address})")

    async def read(self, wanted: Mapping[int, Iterable[str]]) -> Values:
        """Read points of one or more models with their scale factors in as few requests as possible.

        Each model is read from its ID word on, so that a changed layout is noticed; then the chain is walked
        again at the next read. Raises DeviceError.
        """
        if not self._starts:
            await self.walk()
        keys = [key for model, names in wanted.items() for key in self._keys(model, names)]
        spans = [
            (
                self._starts[model],
                self._starts[model] + max(self._end(key) for key in keys if key[0] == model),
            )
            for model in wanted
        ]
        words: dict[int, int] = {}
        for first, end in _joined(spans):
            words.update(enumerate(await self._link.read(first, end - first), first))
        for model in wanted:
            start = self._starts[model]
            if words[start] != model:
                self._starts = {}
                raise DeviceError(f"{self.name}: model {model} is no longer at register {start}")
        raw = {key: self._decode(key, words) for key in keys}
        return Values(raw, self._points)

    async def write(self, model: int, name: str, raw: int) -> None:
        """Write one point as it stands on the wire (already scaled); raises DeviceError, also if refused."""
        if not self._starts:
            await self.walk()
        point = self.point(model, name)
        try:
            data = struct.pack(f">{point.format}", raw)
        except struct.error:
            raise DeviceError(f"{self.name}: {model}.{name}: {raw} does not fit") from None
        words = list(struct.unpack(f">{point.words}H", data))
        await self._link.write(
            self._starts[model] + point.offset, words, what=f"write of {model}.{name} = {raw}"
        )

    def point(self, model: int, name: str) -> Point:
        """Return the definition of a point; raises DeviceError if this device has no such model or point."""
        if model not in self._starts:
            raise DeviceError(f"{self.name}: has no SunSpec model {model}")
        if (model, name) not in self._points:
            self._points.update(_definitions(model))
        try:
            return self._points[model, name]
        except KeyError:
            raise DeviceError(f"{self.name}: SunSpec model {model} has no point {name}") from None

    def _keys(self, model: int, names: Iterable[str]) -> list[Key]:
        """The wanted points and the scale factors they need, as far as the device's model reaches."""
        keys: dict[Key, None] = {}
        for name in names:
            point = self.point(model, name)
            keys[model, name] = None
            if isinstance(point.scale, str):
                self.point(model, point.scale)
                keys[model, point.scale] = None
        for key in keys:
            if self._end(key) > self._lengths[model] + 2:
                raise DeviceError(f"{self.name}: its model {model} is too short to hold {key[1]}")
        return list(keys)

    def _end(self, key: Key) -> int:
        point = self._points[key]
        return point.offset + point.words

    def _decode(self, key: Key, words: Mapping[int, int]) -> int | None:
        point = self._points[key]
        first = self._starts[key[0]] + point.offset
        data = struct.pack(f">{point.words}H", *(words[first + index] for index in range(point.words)))
        value = int(struct.unpack(f">{point.format}", data)[0])
        return None if value == point.not_implemented else value


def _joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join spans [first, end) that fit one request, and cut those that do not."""
    joined: list[tuple[int, int]] = []
    for first, end in sorted(spans):
        if joined and end - joined[-1][0] <= MAX_READ_WORDS:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((first, end))
    return [
        (start, min(start + MAX_READ_WORDS, end))
        for first, end in joined
        for start in range(first, end, MAX_READ_WORDS)
    ]


def _definitions(model: int) -> dict[Key, Point]:
    """Read the numeric points of a model's fixed part from pysunspec2's definitions."""
    from sunspec2.device import get_model_def  # noqa: PLC0415  # vendor libraries load late
    from sunspec2.mdef import ModelDefinitionError  # noqa: PLC0415  # vendor libraries load late

    try:
        group = get_model_def(model)["group"]
    except ModelDefinitionError as error:
        raise DeviceError(f"SunSpec model {model} is not known: {error}") from error
    points: dict[Key, Point] = {}
    offset = 0
    for definition in group["points"]:
        format_, not_implemented = _FORMATS.get(definition["type"], ("", None))
        if format_:
            points[model, definition["name"]] = Point(
                name=definition["name"],
                offset=offset,
                words=definition["size"],
                format=format_,
                not_implemented=not_implemented,
                scale=definition.get("sf"),
                symbols={entry["value"]: entry["name"] for entry in definition.get("symbols", ())},
            )
        offset += definition["size"]
    return points
