"""Keys for signatures: ECDSA over P-256."""

import re
from typing import Any

from mlcube.errors import CubeError

__all__ = ["PrivateKey", "PublicKey", "available", "kind", "read_public", "require"]

_ALONE = re.compile(r"[ \t\r\n]*-----BEGIN [A-Z ]+-----[^-]*-----END [A-Z ]+-----[ \t\r\n]*")
"""A key in PEM text, with nothing before and behind it."""


class PublicKey:
    """What verifies signatures."""

    __slots__ = ("_key",)

    def __init__(self, key: Any) -> None:
        self._key = key

    @property
    def pem(self) -> str:
        """The key as PEM text."""
        from cryptography.hazmat.primitives import serialization

        encoded: bytes = self._key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return encoded.decode()

    @property
    def fingerprint(self) -> str:
        """`sha256:` and the digest of the key, by which it is told from others."""
        from cryptography.hazmat.primitives import serialization

        from mlcube import oci

        return oci.digest_of(
            self._key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        )

    def verifies(self, content: bytes, signature: bytes) -> bool:
        """Whether the signature is this key's over the content."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        try:
            self._key.verify(signature, content, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True


class PrivateKey:
    """What makes signatures. Never printed: neither it nor its passphrase has a text."""

    __slots__ = ("_key",)

    def __init__(self, key: Any) -> None:
        self._key = key

    @property
    def public(self) -> PublicKey:
        """The key that verifies what this one signs."""
        return PublicKey(self._key.public_key())

    def sign(self, content: bytes) -> bytes:
        """A signature over the content."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        signature: bytes = self._key.sign(content, ec.ECDSA(hashes.SHA256()))
        return signature


def available() -> bool:
    """Whether signatures can be made and verified here."""
    from importlib.util import find_spec

    return find_spec("cryptography") is not None


def require() -> None:
    """Raises CubeError when the library that signs is not installed."""
    if not available():
        raise CubeError("signatures need the library `cryptography`", hint="pip install 'mlcube[sign]'")


def read_public(text: str, name: str) -> PublicKey:
    """The public key in PEM text; `name` is what messages call it. Raises CubeError with one sentence."""
    require()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    if "PRIVATE KEY-----" in text:
        raise CubeError(f"{name} is a private key, which is nobody else's", hint="give the public key, `.pub`")
    if "-----BEGIN CERTIFICATE-----" in text:
        raise CubeError(f"{name} is a certificate, and a public key is needed", hint="-----BEGIN PUBLIC KEY-----")
    try:
        key = serialization.load_pem_public_key(text.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CubeError(f"{name} is no public key", hint="-----BEGIN PUBLIC KEY-----") from None
    if not _ALONE.fullmatch(text):  # the library reads the first key, and nothing else
        what = "several keys, and one is read" if text.count("-----BEGIN ") > 1 else "something besides the public key"
        raise CubeError(f"{name} holds {what}", hint="a file of its own for each key, with nothing else in it")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CubeError(f"{name} is {kind(key)}, and only ECDSA keys over P-256 verify cubes", hint="cube key create")
    return PublicKey(key)


def kind(key: Any) -> str:
    """A key's kind in a few words."""
    name = type(key).__name__.upper()
    if "RSA" in name:
        return "an RSA key"
    if "ELLIPTICCURVE" in name or hasattr(key, "curve"):
        return f"a key over {key.curve.name}"
    return "a key of another kind"
