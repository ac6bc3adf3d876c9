"""TLS with client certificates, and signed messages, between our VENs and VTNs on loopback."""

import ssl
from pathlib import Path
from typing import Any

import pytest
from openleadr.utils import certificate_fingerprint

from containers.vtn.openadr2 import VEN_ID
from slurm_power.bridge.bounded_http import AnswerError, tls_context
from slurm_power.bridge.openadr2_line import OpenAdr2Line
from tests.bridge import authority
from tests.bridge.place2 import Place, story


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return authority.make(tmp_path_factory.mktemp("tls"))


def vtn_of(files: dict[str, Path]) -> dict[str, Any]:
    """A VTN that wants the VEN's certificate and signatures, and signs with its own."""
    ven = certificate_fingerprint(files["ven"].read_text())
    return {
        "cert": files["vtn"],
        "key": files["vtn_key"],
        "http_cert": files["vtn"],
        "http_key": files["vtn_key"],
        "http_ca_file": files["ca"],
        "ven_lookup": lambda ven_id: {"ven_id": ven_id, "fingerprint": ven, "registration_id": "r"},
    }


def ven_of(files: dict[str, Path], name: str = "ven", **more: Any) -> dict[str, Any]:
    words = {
        "ca_file": files["ca"],
        "cert_file": files[name],
        "key_file": files[f"{name}_key"],
        "sign_messages": True,
        "vtn_fingerprint": certificate_fingerprint(files["vtn"].read_text()),
    }
    return {**words, **more}


def test_signed_messages_both_ways_over_tls(tmp_path: Path, files: dict[str, Path]) -> None:
    async def told(place: Place) -> None:
        assert await place.ven.round() == []
        place.vtn.event(9_000)
        assert await place.ven.round() == []
        assert place.vtn.answers == [("e1", "optIn")]
        assert len(place.powerctld.standing()) == 1

    story(tmp_path, told, tls=vtn_of(files), **ven_of(files))


def test_a_vtn_that_signs_with_another_certificate_is_refused(tmp_path: Path, files: dict[str, Path]) -> None:
    wrong = certificate_fingerprint(files["stranger"].read_text())

    async def told(place: Place) -> None:
        with pytest.raises(AnswerError, match="FingerprintMismatch"):
            await place.ven.round()
        assert place.powerctld.standing() == []

    story(tmp_path, told, tls=vtn_of(files), **ven_of(files, vtn_fingerprint=wrong))


def test_a_vtn_that_does_not_sign_is_refused_where_signatures_are_wanted(
    tmp_path: Path, files: dict[str, Path]
) -> None:
    async def told(place: Place) -> None:
        with pytest.raises(AnswerError, match="its answer is refused"):
            await place.ven.round()

    fingerprint = certificate_fingerprint(files["vtn"].read_text())
    story(tmp_path, told, vtn_fingerprint=fingerprint)


def test_a_stranger_s_certificate_gets_no_events(tmp_path: Path, files: dict[str, Path]) -> None:
    async def told(place: Place) -> None:
        place.vtn.event(9_000)
        with pytest.raises(AnswerError):
            await place.ven.round()
        assert place.powerctld.standing() == []

    story(tmp_path, told, tls=vtn_of(files), **ven_of(files, "stranger"))


def test_a_vtn_of_another_authority_is_not_spoken_to(tmp_path: Path, files: dict[str, Path]) -> None:
    (tmp_path / "other").mkdir()
    other = authority.make(tmp_path / "other")

    async def told(place: Place) -> None:
        with pytest.raises(AnswerError, match="CERTIFICATE_VERIFY_FAILED"):
            await place.ven.round()

    story(tmp_path, told, tls=vtn_of(files), **ven_of(files, ca_file=other["ca"]))


def test_the_context_checks_names_and_certificates(files: dict[str, Path]) -> None:
    context = tls_context(files["ca"], files["ven"], files["ven_key"])
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED


HOSTILE = [
    (b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "document type"),
    (b"\xff\xfe<\x00a\x00", "no UTF-8"),
    (b"<a/>", "its answer is refused"),
    (b"<a><b></a>", "its answer is refused"),
    (b"not xml at all", "its answer is refused"),
]


@pytest.mark.parametrize(("content", "problem"), HOSTILE, ids=[row[1] + str(row[0][:6]) for row in HOSTILE])
def test_answers_that_are_no_message_are_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    async def told(place: Place) -> None:
        assert isinstance(place.line, OpenAdr2Line)
        with pytest.raises(AnswerError) as caught:
            place.line._understood(content)
        assert problem in str(caught.value)
        assert str(caught.value).isprintable()
        assert VEN_ID not in str(caught.value)

    story(tmp_path, told)
