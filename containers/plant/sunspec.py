"""Register images of SunSpec devices, made from the model definitions that pysunspec2 ships."""

import struct
from collections.abc import Mapping

import sunspec2.device
import sunspec2.mb

BASE_ADDRESS = 40000
Value = int | str


def scale_for(greatest: float, highest_raw: int) -> int:
    """Return the smallest power of ten with which ``greatest`` fits a register."""
    scale = 0
    while greatest / 10**scale > highest_raw:
        scale += 1
    return scale


class Image:
    """A chain of models as registers, with access to points by model and name."""

    def __init__(self, models: Mapping[int, Mapping[str, Value]]) -> None:
        self.registers = list(struct.unpack(">2H", b"SunS"))
        self._points: dict[tuple[int, str], tuple[int, sunspec2.device.Point]] = {}
        self._scales: dict[tuple[int, str], float] = {}
        for model_id, values in models.items():
            self._append(model_id, values)
        self.registers += [0xFFFF, 0]

    def _append(self, model_id: int, values: Mapping[str, Value]) -> None:
        model = sunspec2.device.Model(model_id=model_id)
        for name, value in values.items():
            model.points[name].value = value
        # The length word counts neither itself nor the ID.
        model.points["L"].value = len(model.get_mb()) // 2 - 2
        start = len(self.registers)
        for name, point in model.points.items():
            self._points[model_id, name] = (start + point.offset, point)
            exponent = values.get(str(point.pdef.get("sf")), 0)
            self._scales[model_id, name] = 10.0 ** int(exponent)
        words = model.get_mb()
        self.registers += struct.unpack(f">{len(words) // 2}H", words)

    def addresses(self, model_id: int, name: str) -> range:
        """Return the Modbus addresses that a point occupies."""
        offset, point = self._points[model_id, name]
        return range(BASE_ADDRESS + offset, BASE_ADDRESS + offset + point.len)

    def raw(self, model_id: int, name: str, registers: list[int] | None = None) -> int:
        """Return a numeric point as it stands in the registers (or in others of the same layout)."""
        offset, point = self._points[model_id, name]
        words = (self.registers if registers is None else registers)[offset : offset + point.len]
        return int(point.info.data_to(struct.pack(f">{point.len}H", *words)))

    def value(self, model_id: int, name: str, registers: list[int] | None = None) -> float:
        """Return a numeric point with its scale factor applied."""
        return self.raw(model_id, name, registers) * self._scales[model_id, name]

    def put_raw(self, model_id: int, name: str, raw: int) -> None:
        """Write a numeric point as it stands."""
        offset, point = self._points[model_id, name]
        data = point.info.to_data(raw, point.len * 2)
        self.registers[offset : offset + point.len] = struct.unpack(f">{point.len}H", data)

    def put(self, model_id: int, name: str, value: float) -> None:
        """Write a numeric point, divided by its scale factor and rounded."""
        self.put_raw(model_id, name, round(value / self._scales[model_id, name]))

    def put_not_implemented(self, model_id: int, name: str) -> None:
        """Write the value that means "no value" for the point's type (0x8000 for an int16)."""
        offset, point = self._points[model_id, name]
        data = sunspec2.mb.create_unimpl_value(point.pdef["type"], len=point.len * 2)
        self.registers[offset : offset + point.len] = struct.unpack(f">{point.len}H", data)
