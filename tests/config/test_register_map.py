"""Register maps: every problem at once, each with its path; numbers into registers and back."""

import math
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power.config import ConfigError
from slurm_power.config.register_map import (
    Point,
    RegisterType,
    Role,
    WordOrder,
    Write,
    load_register_map,
    shipped,
)
from slurm_power.devices.registers import Block, blocks, raw_of, value_of, words_of

ORDERS = (WordOrder.HIGH_FIRST, WordOrder.LOW_FIRST)


def problems_of(tmp_path: Path, text: str, role: Role | None = None) -> list[str]:
    file = tmp_path / "map.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_register_map(str(file), role)
    return caught.value.problems


HEAD = 'vendor = "v"\ndocument = "d"\nrole = "{role}"\n'
POWER = '[read.power_watts]\naddress = 1\ntype = "u16"\n'


def test_all_problems_at_once(tmp_path: Path) -> None:
    text = HEAD.format(role="pcs") + (
        "address_base = 2\nread_function = 5\nmax_gap_registers = 500\nequal_write_seconds = 9\n"
        '[read.power_watts]\naddress = 70000\ntype = "u32"\nscale = -1\nsign = 3\nfunction = 9\n'
        '[read.direction]\naddress = 9\ntype = "u16"\ncharging_bits = [1]\n'
        '[read.colour]\naddress = 9\ntype = "u16"\n'
        '[[setpoint]]\naddress = 9\ntype = "u32"\nvalue = 3\nfunction = 6\n'
        '[[setpoint]]\naddress = 9\ntype = "u16"\nvalue = "direction"\ncharge = 1\n'
        '[[setpoint]]\naddress = 9\ntype = "u16"\nvalue = "wats"\n'
    )
    found = "\n".join(problems_of(tmp_path, text))
    for words in (
        "address_base: 2 is not 0 or 1",
        "read_function: 5 is not 3",
        "max_gap_registers: 500",
        "read.power_watts.address: 70000 is outside",
        "read.power_watts.scale: -1 must be above 0",
        "read.power_watts.sign: 3",
        "read.power_watts.function: 9 is not 3 or 4",
        "read.soc_ratio: missing",
        "read.direction.discharging_bits: missing",
        "read.colour: unknown key",
        "setpoint[0].function: 6 writes one register, and u32 takes 2",
        "setpoint[1].discharge: missing",
        "setpoint[2].value: 'wats' is not a whole number or one of watts",
        "setpoint: none of its writes has a value of watts",
        "release: missing",
        "watchdog_seconds: missing; a device that keeps its last setpoint for ever cannot be used",
    ):
        assert words in found, found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("role = 7", "role: 7 is not one of meter, pcs"),
        (HEAD.format(role="meter"), "read: missing"),
        (HEAD.format(role="meter") + "read = 3", "read: missing"),
        (HEAD.format(role="meter") + "[read]\npower_watts = 3", "read.power_watts: must be a table"),
        (HEAD.format(role="meter") + POWER + "nan = 7", "read.power_watts.nan: must be a list"),
        (HEAD.format(role="meter") + POWER + 'names = { "1" = "x" }', "only alarms have names"),
        (
            HEAD.format(role="meter") + POWER + '[[setpoint]]\naddress = 1\ntype = "u16"\nvalue = "watts"',
            "a meter is never written to",
        ),
        (HEAD.format(role="pcs") + "setpoint = 3\n" + POWER, "setpoint: must be a list of tables"),
        (HEAD.format(role="pcs") + "release = [3]\n" + POWER, "release[0]: must be a table"),
        (
            HEAD.format(role="pcs") + POWER + '[read.alarms]\naddress = 1\ntype = "u16"\nnames = { a = "x" }',
            "read.alarms.names: must be a table of numbers and names",
        ),
        (
            HEAD.format(role="pcs") + "watchdog_seconds = 9000\n" + POWER,
            "watchdog_seconds: 9000 is not between",
        ),
    ],
)
def test_a_problem_is_named(tmp_path: Path, text: str, words: str) -> None:
    assert words in "\n".join(problems_of(tmp_path, text))


def test_a_map_of_the_other_role_is_refused(tmp_path: Path) -> None:
    text = HEAD.format(role="meter") + POWER
    assert problems_of(tmp_path, text, Role.PCS) == ["role: this is a map of a meter, not of a pcs"]


def test_a_map_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(ConfigError, match=shipped()[0]):
        load_register_map("no_such_map")


def point(address: int, kind: RegisterType = RegisterType.U16, function: int = 3) -> Point:
    return Point(address=address, type=kind, function=function)


def test_neighbours_are_read_together_and_gaps_only_where_allowed() -> None:
    points = [point(10), point(14, RegisterType.U32), point(11), point(12, function=4), point(300)]
    assert blocks(points, 0) == [Block(3, 10, 2), Block(3, 14, 2), Block(3, 300, 1), Block(4, 12, 1)]
    assert blocks(points, 2) == [Block(3, 10, 6), Block(3, 300, 1), Block(4, 12, 1)]
    assert blocks([point(1), point(125), point(126)], 200) == [Block(3, 1, 125), Block(3, 126, 1)]


@given(
    st.sampled_from([kind for kind in RegisterType if kind is not RegisterType.F32]),
    st.sampled_from(ORDERS),
    st.integers(-(2**53), 2**53),
)
def test_whole_numbers_survive_their_registers_or_are_refused(
    kind: RegisterType, order: WordOrder, number: int
) -> None:
    step = Write(address=0, type=kind, word_order=order)
    letter = {16: "h", 32: "i", 64: "q"}[kind.bits]
    if kind.value.startswith("u"):
        letter = letter.upper()
    try:
        by_hand = list(struct.unpack(f">{kind.registers}H", struct.pack(f">{letter}", number)))
    except struct.error:
        with pytest.raises(ValueError, match="does not fit"):
            words_of(step, number)
        return
    words = words_of(step, number)
    assert words == (by_hand if order is WordOrder.HIGH_FIRST else by_hand[::-1])
    assert value_of(point(0, kind), raw_of(words, order)) == number


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.sampled_from(ORDERS))
def test_floats_survive_their_registers(number: float, order: WordOrder) -> None:
    step = Write(address=0, type=RegisterType.F32, word_order=order)
    assert value_of(point(0, RegisterType.F32), raw_of(words_of(step, number), order)) == number


def test_scale_sign_and_not_a_number() -> None:
    kind = Point(address=0, type=RegisterType.I16, scale=0.1, sign=-1, nan=(0x8000,))
    assert value_of(kind, 0xFFF6) == pytest.approx(1.0)
    assert value_of(kind, 0x8000) is None
    assert math.copysign(1.0, value_of(point(0), 0) or 0.0) == 1.0
