"""Files of private keys: written in cosign's format, read in that and as any PKCS 8 file."""

import base64
import binascii
import os
from collections.abc import Callable
from typing import Any

import msgspec

from mlcube import files
from mlcube.errors import CubeError, MissingInput
from mlcube.trust import secretbox
from mlcube.trust.keys import PrivateKey, PublicKey, kind, require
from mlcube.withheld import PASSWORD

__all__ = ["create", "no_key", "read_private"]

_LABEL = "ENCRYPTED SIGSTORE PRIVATE KEY"
_LABELS = (_LABEL, "ENCRYPTED COSIGN PRIVATE KEY")
_MOST_BYTES = 64 << 10
_COST = 1 << 16
_MOST_COST = 1 << 20
"""scrypt with this takes 1 GiB; a file that asks for more is not one that somebody made to sign with."""


class _Cost(msgspec.Struct):
    N: int
    r: int
    p: int


class _Derivation(msgspec.Struct):
    name: str
    params: _Cost
    salt: str


class _Cipher(msgspec.Struct):
    name: str
    nonce: str


class _Sealed(msgspec.Struct):
    """What cosign's key file says under its armour."""

    kdf: _Derivation
    cipher: _Cipher
    ciphertext: str


def create(path: str, passphrase: str) -> PublicKey:
    """Make a key pair: `path + ".key"`, which only its owner may read, and `path + ".pub"`. Overwrites nothing."""
    require()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    if not passphrase:
        raise CubeError("a key needs a passphrase", hint=f"type one, or set {PASSWORD}")
    key = ec.generate_private_key(ec.SECP256R1())
    encoded = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = PublicKey(key.public_key())
    names = (f"{path}.key", f"{path}.pub")
    for name in names:
        if os.path.lexists(name):
            raise CubeError(f"`{name}` is there already, and a key is never overwritten", hint="choose another name")
    _write_new(names[0], _armoured(encoded, passphrase), 0o600)
    try:
        _write_new(names[1], public.pem, 0o644)
    except BaseException:
        os.unlink(names[0])
        raise
    return public


def read_private(path: str, passphrase: Callable[[], str]) -> PrivateKey:
    """The private key in a file; the passphrase is asked for only if it is encrypted.

    Raises MissingInput, and CubeError with one sentence when it is no key that can sign, or the passphrase is wrong.
    """
    require()
    content = _content(path)
    if any(f"-----BEGIN {label}-----".encode() in content for label in _LABELS):
        return _private(_loaded(_unsealed(content, passphrase(), path), None, path, der=True), path)
    if b"-----BEGIN CERTIFICATE-----" in content or b"PUBLIC KEY-----" in content:
        kind = "a certificate" if b"CERTIFICATE" in content else "a public key"
        raise CubeError(f"`{path}` is {kind}, and a private key is needed", hint="cube key create")
    if b"PRIVATE KEY-----" not in content:
        raise CubeError(f"`{path}` is no key", hint="cube key create")
    encrypted = b"ENCRYPTED" in content
    return _private(_loaded(content, passphrase() if encrypted else None, path), path)


def _content(path: str) -> bytes:
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            return file.read(_MOST_BYTES)
    except FileNotFoundError:
        raise no_key(path, ".key") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise MissingInput(f"the key `{path}` cannot be read: {reason}") from None


def no_key(path: str, ending: str) -> MissingInput:
    """The error for a key that is not there; `ending` is what the name of such a key ends in."""
    near = files.beside(path, ending, ".pem")
    hint = f"did you mean `{near}`?" if near else "cube key create lab makes `lab.key` and `lab.pub`"
    if not near and ending == ".pub":
        hint = "who signed it gives it, as `cube key show --key lab.key` prints it"
    return MissingInput(f"there is no key `{path}`", hint=hint)


def _write_new(path: str, text: str, mode: int) -> None:
    """All of it, or nothing: half a key would be found out about when it is needed."""
    created = False
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        created = True
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        if created:
            os.unlink(path)
        if not isinstance(error, OSError):
            raise
        raise CubeError(f"`{path}` cannot be written: {(error.strerror or str(error)).lower()}") from None


def _armoured(key: bytes, passphrase: str) -> str:
    """An encrypted key as cosign writes it."""
    salt, nonce = os.urandom(32), os.urandom(secretbox.NONCE_BYTES)
    box = secretbox.sealed(key, nonce, _derived(passphrase, salt, _Cost(_COST, 8, 1)))
    document = _Sealed(
        _Derivation("scrypt", _Cost(_COST, 8, 1), _text(salt)),
        _Cipher("nacl/secretbox", _text(nonce)),
        _text(box),
    )
    body = _text(msgspec.json.encode(document))
    lines = [body[start : start + 64] for start in range(0, len(body), 64)]
    return "\n".join([f"-----BEGIN {_LABEL}-----", *lines, f"-----END {_LABEL}-----", ""])


def _unsealed(content: bytes, passphrase: str, path: str) -> bytes:
    try:
        body = content.split(b"PRIVATE KEY-----", 1)[1].split(b"-----END", 1)[0]
        document = msgspec.json.decode(base64.b64decode(b"".join(body.split()), validate=True), type=_Sealed)
        salt, nonce, box = (
            base64.b64decode(text, validate=True)
            for text in (document.kdf.salt, document.cipher.nonce, document.ciphertext)
        )
        cost = document.kdf.params
        known = (document.kdf.name, document.cipher.name) == ("scrypt", "nacl/secretbox")
        if not known or not 1 < cost.N <= _MOST_COST or cost.N & (cost.N - 1) or (cost.r, cost.p) != (8, 1):
            raise ValueError
    except (ValueError, IndexError, RecursionError, binascii.Error, msgspec.MsgspecError):
        raise CubeError(f"`{path}` is no key: its content is damaged", hint="cube key create") from None
    key = secretbox.opened(box, nonce, _derived(passphrase, salt, cost))
    if key is None:
        raise CubeError(f"the passphrase does not open `{path}`", hint=f"it is asked for, or taken from {PASSWORD}")
    return key


def _derived(passphrase: str, salt: bytes, cost: _Cost) -> bytes:
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    return Scrypt(salt=salt, length=32, n=cost.N, r=cost.r, p=cost.p).derive(passphrase.encode())


def _loaded(content: bytes, passphrase: str | None, path: str, *, der: bool = False) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    load = serialization.load_der_private_key if der else serialization.load_pem_private_key
    try:
        return load(content, passphrase.encode() if passphrase is not None else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        if passphrase is not None:
            hint = f"it is asked for, or taken from {PASSWORD}"
            raise CubeError(f"the passphrase does not open `{path}`, or its content is damaged", hint=hint) from None
        raise CubeError(f"`{path}` is no key: its content is damaged", hint="cube key create") from None


def _private(key: Any, path: str) -> PrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CubeError(f"`{path}` is {kind(key)}, and only ECDSA keys over P-256 sign cubes", hint="cube key create")
    return PrivateKey(key)


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
