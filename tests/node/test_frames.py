"""Frames between the halves: what is sent arrives, and nothing else is taken for one."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power.model.lease import Lease, LeaseKey, LeaseState, Lever
from slurm_power.model.site import LimitKind
from slurm_power.node.frames import (
    MAX_FRAME_BYTES,
    MAX_TEXT_BYTES,
    Controller,
    FrameError,
    Gone,
    Grant,
    Happened,
    Held,
    News,
    Pause,
    Proof,
    Prove,
    Release,
    Request,
    Yield,
    decode_news,
    decode_request,
    encode_news,
    encode_request,
)
from slurm_power.node.orders import LeaseEvent
from slurm_power.node.pauses import PauseEvent

texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=200)
maybe = st.none() | texts
positive = st.floats(min_value=1e-3, max_value=1e12)
levers, kinds, states = st.sampled_from(Lever), st.sampled_from(LimitKind), st.sampled_from(LeaseState)

requests = st.one_of(
    st.builds(
        Grant,
        lease_id=texts,
        uuid=texts,
        lever=levers,
        bound=positive,
        ttl_seconds=positive,
        kind=kinds,
        job_id=maybe,
        reason=texts,
    ),
    st.builds(Release, name=texts, of_job=st.booleans(), reason=texts),
    st.builds(Controller, connected=st.booleans()),
    st.builds(Yield, seconds=st.just(0.0) | positive),
    st.builds(Pause, job_id=st.text("0123456789", min_size=1, max_size=10), seconds=st.just(0.0) | positive),
    st.builds(Prove, digest=st.text("0123456789abcdef", min_size=64, max_size=64)),
)
leases = st.builds(
    Lease,
    lease_id=texts,
    uuid=texts,
    lever=levers,
    bound=positive | st.just(math.inf),
    kind=kinds,
    expires_at_seconds=positive | st.just(math.inf),
    previous=positive | st.just(math.inf),
    state=states,
    reason=texts,
    job_id=maybe,
    safe=st.none() | positive,
    drift_count=st.integers(0, 1000),
)
events = st.builds(
    LeaseEvent,
    event=texts,
    lease_id=texts,
    uuid=texts,
    lever=levers,
    job_id=maybe,
    bound=positive,
    requested=st.none() | positive,
    enforced=st.none() | positive,
    detail=st.just("") | texts,
)
news = st.one_of(
    st.builds(Held, lease=leases, drift_count=st.integers(0, 1 << 31)),
    st.builds(Gone, key=st.builds(LeaseKey, texts, levers)),
    st.builds(Happened, event=events),
    st.builds(Proof, credential=texts, error=st.just("") | texts),
    st.builds(PauseEvent, job_id=texts, event=texts, detail=st.just("") | texts),
)


@given(requests)
def test_a_request_arrives_as_it_was_sent(request: Request) -> None:
    assert decode_request(encode_request(request)) == request


@given(news)
def test_news_arrive_as_they_were_sent(told: News) -> None:
    data = encode_news(told)
    assert len(data) <= MAX_FRAME_BYTES
    assert decode_news(data) == told


@given(st.binary(max_size=300))
def test_bytes_of_any_kind_are_a_frame_or_refused(data: bytes) -> None:
    for decode in (decode_request, decode_news):
        try:
            decode(data)
        except FrameError as error:
            assert str(error)


@given(requests, st.data())
def test_a_spoiled_request_is_refused_or_another_sound_one(request: Request, data: st.DataObject) -> None:
    sound = bytearray(encode_request(request))
    sound[data.draw(st.integers(0, len(sound) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = decode_request(bytes(sound))
    except FrameError:
        return
    if isinstance(found, Grant):
        assert 0.0 < found.bound < math.inf
        assert 0.0 < found.ttl_seconds < math.inf


def test_the_root_side_takes_no_news_and_no_frame_with_a_rest() -> None:
    gone = encode_news(Gone(key=LeaseKey("GPU-a", Lever.POWER_CAP)))
    with pytest.raises(FrameError, match="unknown frame"):
        decode_request(gone)
    with pytest.raises(FrameError, match="1 bytes too many"):
        decode_request(encode_request(Controller(connected=True)) + b"x")
    for digest in ("", "x" * 64, "0" * 63, '0","node":"c2","x":"' + "0" * 44):
        with pytest.raises(FrameError, match="digest"):
            decode_request(encode_request(Prove(digest=digest)))
    for job_id in ("", "17 18", "-1", "17;", "1" * 11, "\u0661"):
        with pytest.raises(FrameError, match="job_id"):
            decode_request(encode_request(Pause(job_id=job_id, seconds=5.0)))
    with pytest.raises(FrameError, match="is no duration"):
        decode_request(encode_request(Yield(seconds=math.inf)))


def test_a_text_too_long_is_cut_between_characters() -> None:
    long = Release(name="L", of_job=False, reason="\u00e4" * MAX_TEXT_BYTES)
    found = decode_request(encode_request(long))
    assert isinstance(found, Release)
    assert found.reason == "\u00e4" * (MAX_TEXT_BYTES // 2)
