"""Who may talk to the embedded broker: a certificate authority, two users, their rights. Secrets live in 0600 files.

Two trusts, neither of them a password in an argument: clients log in with SCRAM-SHA-512 over TLS; the broker's own
connection to its controller, over which the rights are granted too, is mutual TLS with the broker's certificate.
The authority's key signs that one certificate and is then forgotten.
"""

import datetime
import ipaddress
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ADMIN = "admin"
CLIENT = "user-streamforge"
BROKER_NAME = "streamforge-broker"
LIFETIME = datetime.timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class Credentials:
    """The files of one broker's security."""

    folder: Path

    @property
    def ca(self) -> Path:
        """Certificate of the authority, what clients trust."""
        return self.folder / "ca.pem"

    @property
    def broker(self) -> Path:
        """The broker's key and certificate."""
        return self.folder / "broker.pem"

    def password(self, user: str) -> str:
        """The user's password."""
        return (self.folder / f"{user}.password").read_text()


def write_secret(path: Path, text: str) -> None:
    """Write a file that its owner alone can read, whole or not at all."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(path)


def make_credentials(folder: Path) -> Credentials:
    """Certificates and passwords, made when they are not there."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = Credentials(folder)
    for user in (ADMIN, CLIENT):
        if not (path := folder / f"{user}.password").exists():
            write_secret(path, secrets.token_urlsafe(24))
    if not made.broker.exists():
        _issue(made)
    return made


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _issue(made: Credentials) -> None:
    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    # An hour back: a clock that is set right later must not make them invalid.
    now = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    builder = x509.CertificateBuilder().not_valid_before(now).not_valid_after(now + LIFETIME)
    builder = builder.issuer_name(_name("streamforge-local-ca"))
    sign_only = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    root = (
        builder.subject_name(_name("streamforge-local-ca"))
        .public_key(authority.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(sign_only, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority.public_key()), critical=False)
        .sign(authority, hashes.SHA256())
    )
    hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))]
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    leaf = (
        builder.subject_name(_name(BROKER_NAME))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False)
        .sign(authority, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    made.ca.write_text(_pem(root))
    write_secret(made.broker, private + _pem(leaf))
