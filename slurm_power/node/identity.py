"""The node's key and certificate, and TLS with them. The key never leaves the node's front.

Key and request are made by the openssl command: no library for it has to live in the daemon.
"""

import os
import ssl
import subprocess
from contextlib import suppress
from pathlib import Path

from slurm_power.wire import WireError

KEY, REQUEST, CERTIFICATE = "node.key", "node.csr", "node.pem"
OPENSSL_SECONDS = 10.0


class Identity:
    """Files in ``directory``, which only the front's user may read; ``authority`` is the site's CA file."""

    def __init__(self, directory: Path, node: str, authority: Path) -> None:
        self._directory = directory
        self._node = node
        self._authority = authority

    @property
    def certified(self) -> bool:
        """Whether there is a certificate to show."""
        return (self._directory / CERTIFICATE).exists() and (self._directory / KEY).exists()

    def context(self) -> ssl.SSLContext:
        """TLS 1.3 that trusts the site's authority alone; raises WireError when there is none."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        try:
            context.load_verify_locations(self._authority)
        except OSError as error:  # an SSLError is one
            raise WireError(f"ca_file {self._authority}: {error.strerror or error}") from None
        try:
            if self.certified:
                context.load_cert_chain(self._directory / CERTIFICATE, self._directory / KEY)
        except ssl.SSLError as error:
            self.discard()
            raise WireError(f"certificate: {error}") from None
        except OSError as error:
            raise WireError(f"{self._directory / KEY}: {error.strerror or error}") from None
        return context

    def request(self) -> str:
        """A certificate request, with the key that is there or a new one; raises WireError."""
        key, request = self._directory / KEY, self._directory / REQUEST
        if not key.exists() or key.stat().st_size == 0:
            self._make_key(key)
        self._openssl("req", "-new", "-key", str(key), "-subj", f"/CN={self._node}", "-out", str(request))
        try:
            return request.read_text()
        except OSError as error:
            raise WireError(f"{request}: {error.strerror or error}") from None

    def _make_key(self, key: Path) -> None:
        """Have a whole key or none: half of one, after a full disk or a power cut, would be used for ever."""
        draft = key.with_suffix(".draft")
        curve = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
        self._openssl("genpkey", *curve, "-out", str(draft))
        try:
            draft.chmod(0o600)
            with draft.open("rb") as stream:
                os.fsync(stream.fileno())
            draft.replace(key)
        except OSError as error:
            raise WireError(f"{draft}: {error.strerror or error}") from None

    @staticmethod
    def _openssl(*words: str) -> None:
        try:
            done = subprocess.run(
                ["openssl", *words], capture_output=True, text=True, timeout=OPENSSL_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise WireError(f"openssl: {error}") from None
        if done.returncode != 0:
            raise WireError(f"openssl: {done.stderr.strip()[-200:]}")

    def keep(self, certificate_pem: str) -> None:
        """Store a certificate that the controller has made; raises WireError if it does not fit the key."""
        file = self._directory / CERTIFICATE
        temporary = file.with_suffix(".new")
        try:
            temporary.write_text(certificate_pem)
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(temporary, self._directory / KEY)
            temporary.replace(file)
        except (OSError, ssl.SSLError) as error:
            raise WireError(f"the controller's certificate is not usable: {error}") from None

    def discard(self) -> None:
        """Forget the certificate, so that the next connection asks for one; the key stays."""
        with suppress(OSError):
            (self._directory / CERTIFICATE).unlink()


def digest(request_pem: str) -> str:
    """What the node's MUNGE credential says of a request: its SHA-256, in hex."""
    import hashlib  # noqa: PLC0415  # once in a certificate's life

    return hashlib.sha256(request_pem.encode()).hexdigest()
