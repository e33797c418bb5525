"""Closed channels between SeaweedFS's parts: every port but S3's speaks to holders of one certificate alone.

Master, volume server and filer have no keys of their own, and they listen on ports of the machine. With mutual TLS a
stranger's request ends in the handshake, over HTTP and over gRPC.
"""

from __future__ import annotations

import ipaddress
import json
from datetime import UTC, datetime

from visionloop.pipelines.services.folder import Folder, write_private
from visionloop.pipelines.services.ports import LOOPBACK

#: The parts that listen, as SeaweedFS's security.toml names them: by gRPC, and by HTTP beside it.
_GRPC = ("master", "volume", "filer", "s3", "client")
_HTTP = ("master", "volume", "filer", "client")

#: Wide, so that no clock is wrong enough: what ends a certificate is the next start, which makes another one.
_VALID = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))


def close(folder: Folder) -> None:
    """Makes a new certificate and names it in the ``security.toml`` that SeaweedFS reads in its working folder.

    Called before each start, while no server of the folder runs: what an earlier one knew is worth nothing afterwards.
    """
    certificate, key = _certificate()
    write_private(folder.channel_certificate, certificate)
    write_private(folder.channel_key, key)
    write_private(folder.security, _security(folder).encode())


def _security(folder: Folder) -> str:
    # A JSON text is a basic string of TOML.
    certificate, key = (json.dumps(str(path)) for path in (folder.channel_certificate, folder.channel_key))
    pair = f"cert = {certificate}\nkey = {key}\n"
    # The certificate is its own authority.
    sections = [f"[grpc]\nca = {certificate}\n"]
    sections += [f"[grpc.{name}]\n{pair}" for name in _GRPC]
    for name in _HTTP:
        enabled = "enabled = true\n" if name == "client" else ""
        sections.append(f"[https.{name}]\n{enabled}{pair}ca = {certificate}\n")
    return "\n".join(sections)


def _certificate() -> tuple[bytes, bytes]:
    """A certificate for loopback that signs itself, and its key, both as PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "visionloop")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_VALID[0])
        .not_valid_after(_VALID[1])
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(LOOPBACK))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
