"""The signatures that travel in a bundle, and what the policy of this machine says of its cube."""

import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from mlcube import files, trust
from mlcube.bundling.layout import CUBE, Entry, SealSignature
from mlcube.bundling.reading import Bundle
from mlcube.errors import Untrusted

if TYPE_CHECKING:
    from mlcube.trust.keys import PrivateKey
    from mlcube.trust.policy import Admission
    from mlcube.trust.policy_file import Policy
    from mlcube.trust.signing import Signature

__all__ = ["SUFFIX", "admitted", "sign_whole", "signatures_in", "signing"]

SUFFIX = ".sig"
"""What the file of the signatures over a whole bundle has after the bundle's name."""


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


def admitted(bundle: Bundle, cube: Entry, policy: "Policy | None" = None) -> "Admission | None":
    """That the policy allows the cube, which is known by its digest; None without a policy. Raises Untrusted.

    A signature over the whole bundle, in its seal or beside it, says more than those of the cube in it, and is looked
    at first. What was signed since the bundle was written may be kept here.
    """
    if policy is None and not trust.in_force():
        return None
    from mlcube.trust.policy import Subject, admit
    from mlcube.trust.policy_file import read_policy
    from mlcube.trust.registries import kept

    policy = policy or read_policy()
    name = os.path.realpath(bundle.path)
    if over_all := (*_in_seal(bundle), *_beside(bundle)):
        with suppress(Untrusted):
            whole = Subject(kind="bundle", name=name, digest=bundle.digest)
            found = admit(whole, lambda: over_all, policy=policy)
            return msgspec.structs.replace(found, digest=cube.digest, whole=found.signed)
    subject = Subject(kind="bundle", name=name, digest=cube.digest)
    return admit(subject, lambda: (*kept(cube.digest), *signatures_in(bundle)), policy=policy)


def signing(key: "PrivateKey", name: str) -> "Callable[[str], SealSignature]":
    """What signs the index of a bundle while it is written, and with it everything in it."""
    from base64 import b64encode

    from mlcube.trust.signing import sign

    def signed(digest: str) -> SealSignature:
        found = sign(key, name, digest)
        return SealSignature(payload=b64encode(found.payload).decode(), signature=found.signature)

    return signed


def _in_seal(bundle: Bundle) -> "tuple[Signature, ...]":
    """The signatures over the index that the bundle was written with, as far as they can be read."""
    import binascii

    from mlcube.trust.signing import Signature

    found = []
    for each in bundle.seal.signatures:
        with suppress(binascii.Error, ValueError):
            found.append(Signature(binascii.a2b_base64(each.payload), each.signature))
    return tuple(found)


def _beside(bundle: Bundle) -> "tuple[Signature, ...]":
    """The signatures over the index in the file beside the bundle. What cannot be read is none."""
    from mlcube.trust.signing import Signature

    try:
        return msgspec.json.decode(files.read_small(f"{bundle.path}{SUFFIX}"), type=tuple[Signature, ...])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ()


def sign_whole(path: str, key: "PrivateKey") -> tuple[str, str]:
    """Sign all of a bundle, after every byte of it was verified. The file of the signature, and what was signed."""
    from mlcube.bundling.verifying import verify
    from mlcube.trust.signing import sign, signed_digest, verified_by

    verify(path)
    with Bundle(path) as bundle:
        digest, before = bundle.digest, _beside(bundle)
        target = f"{bundle.path}{SUFFIX}"
        valid = tuple(each for each in before if signed_digest(each) == digest)
        if not any(verified_by(each, digest, (("own", key.public),)) for each in valid):
            valid = (*valid, sign(key, os.path.basename(bundle.path), digest))
        files.write(target, msgspec.json.encode(valid))
    return target, digest
