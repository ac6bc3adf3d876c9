"""The site's own certificate authority: the controller's certificate, and short-lived ones for the nodes.

A node's certificate is bound to its name and to the key it first came with. That key is pinned: all nodes
share one MUNGE key, so MUNGE alone would let root on one node speak for another.
"""

import ipaddress
import os
import re
import ssl
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from slurm_power.wire import WireError

CA_YEARS = 10
SERVER_DAYS = 825
# A node whose clock is behind by less than this still accepts what was made just now.
BACKDATED = timedelta(hours=1)
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?")
_LONGEST_HOST = 253
CA_KEY, CA_CERTIFICATE, SERVER_KEY, SERVER_CERTIFICATE = "ca.key", "ca.pem", "server.key", "server.pem"


class AuthorityError(Exception):
    """The authority's folder is not as it should be; the text says what to do."""


def make_authority(directory: Path, site: str, hosts: list[str], now: datetime) -> None:
    """Make a new authority with the controller's certificate for ``hosts`` (names or addresses).

    Nothing that is there is overwritten: raises AuthorityError. Raises OSError.
    """
    present = [name for name in (CA_KEY, CA_CERTIFICATE) if (directory / name).exists()]
    if present:
        raise AuthorityError(f"{directory}: has {', '.join(present)} already; nothing was changed")
    _names(hosts)  # before anything is there that a second try would stumble over
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"slurm-power {site}"[:64])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + timedelta(days=365 * CA_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write(directory / CA_KEY, _private(key), 0o600)
    _write(directory / CA_CERTIFICATE, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    make_server_certificate(directory, hosts, now)


def make_server_certificate(directory: Path, hosts: list[str], now: datetime) -> None:
    """Make the controller's key and certificate, anew if there are some; raises AuthorityError, OSError."""
    names = _names(hosts)
    key, issuer = _load(directory)
    own = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0][:64])]))
        .issuer_name(issuer.subject)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + timedelta(days=SERVER_DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(directory / SERVER_KEY, _private(own), 0o600)
    _write(directory / SERVER_CERTIFICATE, certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _names(hosts: list[str]) -> list[x509.GeneralName]:
    """The hosts as a certificate names them; raises AuthorityError with all that are none."""
    names: list[x509.GeneralName] = []
    problems = []
    for host in hosts:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            if _HOST.fullmatch(host) and len(host) <= _LONGEST_HOST:
                names.append(x509.DNSName(host))
            else:
                problems.append(f"--host: {host!r} is neither a host's name nor an address")
    if problems:
        raise AuthorityError("; ".join([*problems, "nothing was changed"]))
    return names


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(file: Path, data: bytes, mode: int) -> None:
    temporary = file.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as stream:
        os.fchmod(descriptor, mode)
        stream.write(data)
    temporary.replace(file)


def _load(directory: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    try:
        key = serialization.load_pem_private_key((directory / CA_KEY).read_bytes(), None)
        certificate = x509.load_pem_x509_certificate((directory / CA_CERTIFICATE).read_bytes())
    except (OSError, ValueError, TypeError) as error:
        raise AuthorityError(
            f"{directory}: no usable authority ({error}); make one: slurm-power ca init"
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise AuthorityError(f"{directory / CA_KEY}: not a key of ours; make one: slurm-power ca init")
    return key, certificate


def fingerprint(certificate: x509.Certificate | x509.CertificateSigningRequest) -> str:
    """SHA-256 of a certificate's public key, in hex: what is pinned."""
    data = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    digest = hashes.Hash(hashes.SHA256())
    digest.update(data)
    return digest.finalize().hex()


def pins_of(stored: object) -> dict[str, str]:
    """The pins as they were kept; none if there is nothing usable."""
    return {str(node): str(mark) for node, mark in stored.items()} if isinstance(stored, dict) else {}


class Authority:
    """The authority at work. ``pins`` are node names with the fingerprints of their keys."""

    def __init__(
        self,
        directory: Path,
        pins: Mapping[str, str],
        *,
        lifetime: timedelta,
        keep: Callable[[dict[str, str]], None],
    ) -> None:
        """``keep`` stores the pins durably. Raises AuthorityError."""
        self._directory = directory
        self._key, self._certificate = _load(directory)
        self._pins = dict(pins)
        self._lifetime = lifetime
        self._keep = keep
        self.server_context()

    def server_context(self) -> ssl.SSLContext:
        """TLS 1.3 with the controller's certificate, asking for the node's; raises AuthorityError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        try:
            context.load_cert_chain(self._directory / SERVER_CERTIFICATE, self._directory / SERVER_KEY)
            context.load_verify_locations(self._directory / CA_CERTIFICATE)
        except (OSError, ssl.SSLError) as error:
            raise AuthorityError(f"{self._directory}: {error}; make them: slurm-power ca renew") from None
        # A node that has no certificate yet comes to get one.
        context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def issue(self, node: str, request_pem: str, now: datetime) -> tuple[str, bool]:
        """A certificate for a node, and whether its key was new here; raises WireError for another key."""
        try:
            request = x509.load_pem_x509_csr(request_pem.encode())
            sound = request.is_signature_valid
        except (ValueError, InvalidSignature) as error:
            raise WireError(f"no certificate request: {error}") from None
        public = request.public_key()
        if not sound or not isinstance(public, ec.EllipticCurvePublicKey):
            raise WireError("the certificate request is not signed by an elliptic-curve key of its own")
        mark = fingerprint(request)
        pinned = self._pins.get(node)
        if pinned not in (None, mark):
            raise WireError(
                f"{node} is pinned to another key; if it was installed anew: slurm-power ca forget {node}"
            )
        other = next((name for name, known in self._pins.items() if known == mark and name != node), None)
        if other is not None:
            # Copies of one disk would each be able to speak for the other.
            raise WireError(
                f"{node} has the key of {other}: remove node.key from powerd's state directory on {node}, or,"
                f" if {other} was renamed: slurm-power ca forget {other}"
            )
        if pinned is None:
            self._keep({**self._pins, node: mark})
            self._pins[node] = mark
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node[:64])]))
            .issuer_name(self._certificate.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATED)
            .not_valid_after(now + self._lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM).decode(), pinned is None

    def node_of(self, certificate_der: bytes, now: datetime) -> str:
        """The node a certificate speaks for, which TLS has checked; raises WireError for a key not pinned."""
        certificate = x509.load_der_x509_certificate(certificate_der)
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        node = str(names[0].value) if names else ""
        if self._pins.get(node) != fingerprint(certificate):
            raise WireError(f"the key of {node!r} is not the one that is pinned")
        if certificate.not_valid_after_utc <= now:
            raise WireError(f"the certificate of {node} has expired")
        return node

    def forget(self, node: str) -> bool:
        """Let a node come with a new key; False if none was pinned."""
        if node not in self._pins:
            return False
        self._keep({name: mark for name, mark in self._pins.items() if name != node})
        del self._pins[node]
        return True

    def pinned(self) -> Mapping[str, str]:
        """The pinned nodes with the fingerprints of their keys."""
        return dict(self._pins)


def describe(directory: Path) -> list[tuple[str, str, datetime]]:
    """What is in an authority's folder: (file, subject, end); raises AuthorityError."""
    _load(directory)
    found = []
    for name in (CA_CERTIFICATE, SERVER_CERTIFICATE):
        try:
            certificate = x509.load_pem_x509_certificate((directory / name).read_bytes())
        except (OSError, ValueError) as error:
            raise AuthorityError(f"{directory / name}: {error}; make it: slurm-power ca renew") from None
        found.append(
            (name, certificate.subject.rfc4514_string(), certificate.not_valid_after_utc.astimezone(UTC))
        )
    return found
