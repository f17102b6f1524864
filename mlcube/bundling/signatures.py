"""The signatures that travel in a bundle, and what the policy of this machine says of its cube."""

import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from mlcube import trust
from mlcube.bundling.layout import CUBE, Entry, SealSignature
from mlcube.bundling.reading import Bundle

if TYPE_CHECKING:
    from mlcube.trust.keys import PrivateKey
    from mlcube.trust.policy import Admission
    from mlcube.trust.signing import Signature

__all__ = ["admitted", "signatures_in", "signing", "wholly_signed"]


def signatures_in(bundle: Bundle) -> "tuple[Signature, ...]":
    """The signatures of the bundle's cube."""
    from mlcube.trust.signing import read, tag_of

    (cube,) = bundle.entries(CUBE)
    tag = tag_of(cube.digest)
    found: list[Signature] = []
    for entry in bundle.index.manifests:
        if entry.name == tag and bundle.has(entry.digest):
            found += read(bundle.manifest(entry.digest), lambda layer: bundle.blob(layer.digest))
    return tuple(found)


def signing(key: "PrivateKey", name: str) -> "Callable[[str], SealSignature]":
    """What signs the index of a bundle, and with it everything in it."""
    from base64 import b64encode

    from mlcube.trust.signing import sign

    def signed(digest: str) -> SealSignature:
        found = sign(key, name, digest)
        return SealSignature(payload=b64encode(found.payload).decode(), signature=found.signature)

    return signed


def seal_signatures(bundle: Bundle) -> "tuple[Signature, ...]":
    """The signatures over the index, as far as they can be read."""
    import binascii

    from mlcube.trust.signing import Signature

    found = []
    for each in bundle.seal.signatures:
        with suppress(binascii.Error, ValueError):
            found.append(Signature(binascii.a2b_base64(each.payload), each.signature))
    return tuple(found)


def wholly_signed(bundle: Bundle) -> "Admission | None":
    """That the bundle itself carries the signature that the policy asks for; None if not, or if none is asked for."""
    if not bundle.seal.signatures or not trust.in_force():
        return None
    from mlcube.errors import Untrusted
    from mlcube.trust.policy import Subject, admit

    subject = Subject(kind="bundle", name=os.path.realpath(bundle.path), digest=bundle.digest)
    try:
        admission = admit(subject, lambda: seal_signatures(bundle))
    except Untrusted:
        return None
    return admission if admission.signed else None


def admitted(bundle: Bundle, cube: Entry) -> "Admission | None":
    """That the policy allows the cube, which is known by its digest; None without a policy. Raises Untrusted.

    What was signed since the bundle was written may be kept here.
    """
    if not trust.in_force():
        return None
    from mlcube.trust.policy import Subject, admit
    from mlcube.trust.registries import kept

    subject = Subject(kind="bundle", name=os.path.realpath(bundle.path), digest=cube.digest)
    if (admission := wholly_signed(bundle)) is not None:
        return msgspec.structs.replace(admission, digest=cube.digest)
    return admit(subject, lambda: (*kept(cube.digest), *signatures_in(bundle)))
