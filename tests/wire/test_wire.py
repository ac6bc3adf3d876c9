"""Lines and messages: what is sent arrives whatever the cuts, and nothing else is taken for one."""

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power.wire import LineDecoder, WireError, decode, encode

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
messages = st.dictionaries(st.text(), json_values, max_size=4)


@given(st.lists(messages, max_size=5), st.data())
def test_what_is_encoded_arrives_whatever_the_cuts(
    sent: list[dict[str, object]], data: st.DataObject
) -> None:
    stream = b"".join(encode(message) for message in sent)
    decoder = LineDecoder()
    received = []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        received += [decode(line) for line in decoder.feed(stream[:cut])]
        stream = stream[cut:]
    assert received == sent


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(line: bytes) -> None:
    try:
        assert isinstance(decode(line), dict)
    except WireError as error:
        assert str(error)


@pytest.mark.parametrize("line", [b"", b"[1]", b"7", b"{", b"\xff", b"[" * 100_000])
def test_no_object_is_no_message(line: bytes) -> None:
    with pytest.raises(WireError):
        decode(line)


def test_no_number_is_too_long_for_arithmetic() -> None:
    found = decode(b'{"a":' + b"9" * 400 + b',"b":-' + b"9" * 30 + b',"c":123456789012345678,"d":NaN}')
    assert found["a"] == math.inf
    assert found["b"] == pytest.approx(-1e30)
    assert found["c"] == 123456789012345678
    assert isinstance(found["c"], int)


def test_a_line_that_never_ends_is_refused_before_it_fills_the_memory() -> None:
    decoder = LineDecoder(max_line_bytes=100)
    assert decoder.feed(b"x" * 99) == []
    with pytest.raises(WireError, match="longer than 100"):
        decoder.feed(b"x" * 99)


def test_a_long_line_that_comes_byte_by_byte_costs_no_more_than_its_length() -> None:
    decoder = LineDecoder()
    start_seconds = time.process_time()
    for _ in range(100_000):
        assert decoder.feed(b"x") == []
    assert decoder.feed(b"\nrest\n") == [b"x" * 100_000, b"rest"]
    assert time.process_time() - start_seconds < 2.0
