"""X.509 for the cluster: one certificate authority, one certificate per node. Pure: bytes in, bytes out."""

from __future__ import annotations

import datetime
import ipaddress
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_DAYS = 3650
NODE_DAYS = 1825
RENEW_DAYS = 365
# Boards without a real-time clock may be a little behind the master that signs.
BACKDATE = datetime.timedelta(days=1)


def _utcnow() -> datetime.datetime:
    # cryptography before 42 knows only naive UTC times.
    return datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None, microsecond=0)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _pem_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def new_ca(cluster: str) -> tuple[bytes, bytes]:
    """Make a certificate authority for ``cluster`` (a name). Return ``(certificate, key)`` as PEM bytes."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = _utcnow()
    subject = _name(f"rpiomega CA {cluster}")
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + datetime.timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM), _pem_key(key)


def new_certificate(
    ca_pem: bytes, ca_key_pem: bytes, common_name: str, dns_names: list[str], addresses: list[str]
) -> tuple[bytes, bytes]:
    """Make a certificate signed by the CA, good for TLS servers and clients.

    :param ca_pem: the authority's certificate, PEM bytes
    :param ca_key_pem: the authority's private key, PEM bytes
    :param common_name: the node's name
    :param dns_names: DNS names it may speak for
    :param addresses: IP addresses it may speak for
    :return: ``(certificate, key)`` as PEM bytes
    """
    ca = x509.load_pem_x509_certificate(ca_pem)
    ca_key = cast(ec.EllipticCurvePrivateKey, serialization.load_pem_private_key(ca_key_pem, password=None))
    key = ec.generate_private_key(ec.SECP256R1())
    now = _utcnow()
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in dns_names]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + datetime.timedelta(days=NODE_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM), _pem_key(key)


def still_good(certificate_pem: bytes, ca_pem: bytes, dns_names: list[str], addresses: list[str]) -> bool:
    """Say whether a certificate is whole, is of this CA, names exactly these names, and lives for another year."""
    ca = x509.load_pem_x509_certificate(ca_pem)
    ours = x509.AuthorityKeyIdentifier.from_issuer_public_key(cast(ec.EllipticCurvePublicKey, ca.public_key()))
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        issuer = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return False
    left = _expiry(certificate) - _utcnow()
    return (
        issuer.key_identifier == ours.key_identifier
        and set(names.get_values_for_type(x509.DNSName)) == set(dns_names)
        and {str(address) for address in names.get_values_for_type(x509.IPAddress)} == set(addresses)
        and left > datetime.timedelta(days=RENEW_DAYS)
    )


def _expiry(certificate: x509.Certificate) -> datetime.datetime:
    # not_valid_after warns since cryptography 42, which brought the aware twin.
    aware = getattr(certificate, "not_valid_after_utc", None)
    return aware.replace(tzinfo=None) if aware else certificate.not_valid_after
