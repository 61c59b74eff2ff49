"""Certificates: who they are for, who signed them, what a TLS connection makes of them."""

import datetime
import ipaddress
import ssl

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from streamforge_local.kubernetes.api import tls_context
from streamforge_local.kubernetes.kubeconfig import Access
from streamforge_local.kubernetes.pki import Authority, token_pair


def parsed(pem):
    return x509.load_pem_x509_certificate(pem.encode())


def names(certificate, kind):
    return [attribute.value for attribute in certificate.subject.get_attributes_for_oid(kind)]


def extension(certificate, kind):
    return certificate.extensions.get_extension_for_class(kind).value


def test_a_client_s_certificate_bears_its_user_and_its_groups():
    authority = Authority("ca")
    certificate = parsed(authority.issue("someone", groups=["one", "two"]).public)
    assert names(certificate, NameOID.COMMON_NAME) == ["someone"]
    assert names(certificate, NameOID.ORGANIZATION_NAME) == ["one", "two"]
    assert list(extension(certificate, x509.ExtendedKeyUsage)) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    with pytest.raises(x509.ExtensionNotFound):
        extension(certificate, x509.SubjectAlternativeName)


def test_a_server_s_certificate_bears_its_names_and_addresses():
    certificate = parsed(Authority("ca").issue("server", hosts=["localhost", "127.0.0.1"]).public)
    alternatives = extension(certificate, x509.SubjectAlternativeName)
    assert alternatives.get_values_for_type(x509.DNSName) == ["localhost"]
    assert alternatives.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("127.0.0.1")]
    assert ExtendedKeyUsageOID.SERVER_AUTH in extension(certificate, x509.ExtendedKeyUsage)


def test_certificates_are_signed_by_their_authority_and_no_other():
    authority, other = Authority("ca"), Authority("ca")
    certificate = parsed(authority.issue("someone").public)
    certificate.verify_directly_issued_by(parsed(authority.certificate))
    with pytest.raises(InvalidSignature):
        certificate.verify_directly_issued_by(parsed(other.certificate))


def test_certificates_are_valid_now_and_for_months():
    certificate = parsed(Authority("ca").issue("someone").public)
    now = datetime.datetime.now(datetime.UTC)
    assert certificate.not_valid_before_utc < now
    assert certificate.not_valid_after_utc > now + datetime.timedelta(days=90)


def test_the_keys_of_tokens_belong_together():
    pair = token_pair()
    private = serialization.load_pem_private_key(pair.private.encode(), None)
    public = serialization.load_pem_public_key(pair.public.encode())
    assert private.public_key().public_numbers() == public.public_numbers()


def test_a_private_key_is_not_shown():
    assert "PRIVATE" not in repr(Authority("ca").issue("someone"))


def handshake(client, server):
    """Both sides without a network; the server's view of the client."""
    inputs, outputs = [ssl.MemoryBIO(), ssl.MemoryBIO()], []
    near = client.wrap_bio(inputs[0], inputs[1], server_hostname="127.0.0.1")
    far = server.wrap_bio(inputs[1], inputs[0], server_side=True)
    for _ in range(4):
        for side in (near, far):
            try:
                side.do_handshake()
                outputs.append(side)
            except ssl.SSLWantReadError:
                continue
    assert {near, far} <= set(outputs)
    return far


def test_client_and_server_of_one_authority_trust_each_other(tmp_path):
    authority = Authority("ca")
    pair = authority.issue("server", hosts=["127.0.0.1"])
    (tmp_path / "server.pem").write_text(pair.public + pair.private)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "server.pem")
    server.load_verify_locations(cadata=authority.certificate)
    server.verify_mode = ssl.CERT_REQUIRED
    access = Access("https://127.0.0.1:1", authority.certificate, "someone", authority.issue("someone"))
    seen = handshake(tls_context(access), server).getpeercert()
    assert ((("commonName", "someone"),),) == seen["subject"]
    stranger = Access("https://127.0.0.1:1", Authority("ca").certificate, "someone", authority.issue("someone"))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tls_context(stranger), server)
