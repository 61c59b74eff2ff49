"""A certificate authority of its own and the broker's certificate. Writes no file.

The authority's key signs that one certificate and is then forgotten.
"""

import datetime
import ipaddress
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

BROKER_NAME = "streamforge-broker"
LIFETIME = datetime.timedelta(days=3650)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def issue(addresses: Sequence[str] = ()) -> tuple[str, str]:
    """The authority's certificate, and the broker's key and certificate; PEM.

    It is for this machine's loopback address and the IP ``addresses``.
    """
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
    known = ["127.0.0.1", *addresses]
    hosts = [x509.DNSName("localhost"), *(x509.IPAddress(ipaddress.ip_address(address)) for address in known)]
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
    return _pem(root), private + _pem(leaf)
