"""An authority with certificates for a VTN on localhost and a VEN, as PEM files."""

from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from slurm_power import clock


def _named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _key_file(file: Path) -> rsa.RSAPrivateKey:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    file.write_bytes(pem)
    file.chmod(0o600)
    return key


def make(folder: Path) -> dict[str, Path]:
    """Files ``ca``, and ``vtn``, ``ven``, ``stranger`` with their keys (``vtn_key`` ...)."""
    files = {"ca": folder / "ca.pem"}
    ca_key = _key_file(folder / "ca.key")
    begin, end = clock.now() - timedelta(hours=1), clock.now() + timedelta(hours=1)

    def builder(subject: str, key: rsa.RSAPrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(_named(subject))
            .issuer_name(_named("utility"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(end)
        )

    authority = builder("utility", ca_key).add_extension(x509.BasicConstraints(True, None), True)
    ca = authority.sign(ca_key, hashes.SHA256())
    files["ca"].write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    for name in ("vtn", "ven", "stranger"):
        files[name], files[f"{name}_key"] = folder / f"{name}.pem", folder / f"{name}.key"
        key = _key_file(files[f"{name}_key"])
        names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
        made = builder(name, key).add_extension(names, False).sign(ca_key, hashes.SHA256())
        files[name].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return files


def make_wrong(folder: Path, how: str) -> tuple[Path, Path]:
    """Certificate and key that nobody should believe. ``how``: self-signed, expired, future, wrong host.

    All but the first are by the authority of ``make`` in the same folder.
    """
    key = _key_file(folder / "wrong.key")
    day = timedelta(days=1)
    begin, end = {"expired": (-2 * day, -day), "future": (day, 2 * day)}.get(how, (-day, day))
    host = "prices.example.org" if how == "wrong host" else "localhost"
    issuer, signer = (
        _named("utility"),
        serialization.load_pem_private_key((folder / "ca.key").read_bytes(), password=None),
    )
    if how == "self-signed":
        issuer, signer = _named("wrong"), key
    assert isinstance(signer, rsa.RSAPrivateKey)
    made = (
        x509.CertificateBuilder()
        .subject_name(_named("wrong"))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(clock.now() + begin)
        .not_valid_after(clock.now() + end)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), False)
        .sign(signer, hashes.SHA256())
    )
    file = folder / "wrong.pem"
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return file, folder / "wrong.key"
