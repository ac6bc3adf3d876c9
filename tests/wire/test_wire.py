import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power.wire import LineDecoder, SignedChannel, WireError, decode, encode

KEY = bytes(range(32))


def pair() -> tuple[SignedChannel, SignedChannel]:
    return (
        SignedChannel(KEY, sending="node", receiving="controller"),
        SignedChannel(KEY, sending="controller", receiving="node"),
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
messages = st.dictionaries(st.text(), json_values, max_size=4)


@given(st.lists(messages, max_size=5), st.data())
def test_what_is_sealed_opens_whatever_the_cuts(sent: list[dict[str, object]], data: st.DataObject) -> None:
    node, controller = pair()
    stream = b"".join(node.seal(message) for message in sent)
    decoder = LineDecoder()
    received = []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        received += [controller.open(line) for line in decoder.feed(stream[:cut])]
        stream = stream[cut:]
    assert received == sent


@given(messages, st.integers(0, 10_000), st.integers(1, 255))
def test_any_changed_byte_is_refused(message: dict[str, object], position: int, change: int) -> None:
    node, controller = pair()
    line = bytearray(node.seal(message)[:-1])
    line[position % len(line)] ^= change
    with pytest.raises(WireError):
        controller.open(bytes(line))


def test_replayed_reordered_reflected_and_foreign_messages_are_refused() -> None:
    node, controller = pair()
    first, second = node.seal({"n": 1})[:-1], node.seal({"n": 2})[:-1]
    with pytest.raises(WireError, match="was due"):
        controller.open(second)
    assert controller.open(first) == {"n": 1}
    with pytest.raises(WireError, match="was due"):
        controller.open(first)
    with pytest.raises(WireError, match="wrong signature"):
        pair()[0].open(first)
    stranger = SignedChannel(b"x" * 32, sending="node", receiving="controller")
    with pytest.raises(WireError, match="wrong signature"):
        pair()[1].open(stranger.seal({"n": 1})[:-1])


@pytest.mark.parametrize(
    "line", [b"", b"{", b"[]", b"1", b'"x"', b"\xff", b"[" * 100_000, b'{"a":1} {"b":2}', b"nan"]
)
def test_malformed_lines_are_refused(line: bytes) -> None:
    with pytest.raises(WireError):
        decode(line)
    with pytest.raises(WireError):
        pair()[1].open(line)


def test_a_line_without_end_is_refused_before_it_fills_memory() -> None:
    decoder = LineDecoder(max_line_bytes=100)
    assert decoder.feed(b"x" * 100) == []
    with pytest.raises(WireError, match="longer than 100"):
        decoder.feed(b"x")


def test_encoding_is_one_line() -> None:
    text = encode({"reason": "two\nlines"})
    assert text.count(b"\n") == 1
    assert json.loads(text) == {"reason": "two\nlines"}
