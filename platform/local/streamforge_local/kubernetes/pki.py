"""Certificates of a cluster: an authority that signs for servers and clients. Writes no file.

A client's certificate is its log-in: Kubernetes takes the user from the common name, the groups from the organizations.
"""

import datetime
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = datetime.timedelta(days=365)
_SIGNS_CERTIFICATES = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
_SIGNS_MESSAGES = x509.KeyUsage(True, False, False, False, False, False, False, False, False)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate (or a public key) and its private key; PEM."""

    public: str
    private: str = field(repr=False)


class Authority:
    """Signs certificates that those who trust ``certificate`` accept."""

    def __init__(self, name: str) -> None:
        self._name = _name(name)
        self._key = _new_key()
        root = (
            _valid(x509.CertificateBuilder())
            .issuer_name(self._name)
            .subject_name(self._name)
            .public_key(self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_SIGNS_CERTIFICATES, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate = _pem(root)
        """What clients and servers trust; PEM."""

    def issue(self, name: str, *, groups: Iterable[str] = (), hosts: Iterable[str] = ()) -> Pair:
        """A client's certificate; with hosts (DNS names and addresses) a server's too."""
        key = _new_key()
        alternatives = [_host(host) for host in hosts]
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH] + [ExtendedKeyUsageOID.SERVER_AUTH] * bool(alternatives)
        issuer_key = self._key.public_key()
        builder = (
            _valid(x509.CertificateBuilder())
            .issuer_name(self._name)
            .subject_name(_name(name, groups))
            .public_key(key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_SIGNS_MESSAGES, critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
        )
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        return Pair(_pem(builder.sign(self._key, hashes.SHA256())), _private_pem(key))


def token_pair() -> Pair:
    """The keys with which tokens of service accounts are checked and signed."""
    key = _new_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return Pair(key.public_key().public_bytes(serialization.Encoding.PEM, form).decode(), _private_pem(key))


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _valid(builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
    # An hour back: a clock that is set right later must not make them invalid.
    begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    return builder.serial_number(x509.random_serial_number()).not_valid_before(begin).not_valid_after(begin + LIFETIME)


def _name(common_name: str, organizations: Iterable[str] = ()) -> x509.Name:
    groups = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in organizations]
    return x509.Name([*groups, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _private_pem(key: ec.EllipticCurvePrivateKey) -> str:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
