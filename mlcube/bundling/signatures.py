"""The signatures that travel in a bundle, and what the policy of this machine says of its cube."""

import os
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from mlcube import files, trust
from mlcube.bundling.layout import Entry
from mlcube.bundling.reading import Bundle, cube_entry
from mlcube.errors import Untrusted

if TYPE_CHECKING:
    from mlcube.trust.keys import PrivateKey
    from mlcube.trust.policy import Admission
    from mlcube.trust.policy_file import Policy
    from mlcube.trust.signing import Signature

__all__ = ["SUFFIX", "Beside", "admitted", "beside", "real_name", "sign_whole", "signatures_in"]

SUFFIX = ".sig"
"""What the file of the signatures over a whole bundle has after the bundle's name."""


def signatures_in(bundle: Bundle) -> "tuple[Signature, ...]":
    """The signatures of the bundle's cube."""
    from mlcube.trust.signing import read, tag_of

    tag = tag_of(cube_entry(bundle).digest)
    found: list[Signature] = []
    for entry in bundle.index.manifests:
        if entry.name == tag and bundle.has(entry.digest):
            found += read(bundle.manifest(entry.digest), lambda layer: bundle.blob(layer.digest))
    return tuple(found)


def admitted(bundle: Bundle, cube: Entry, policy: "Policy | None" = None) -> "Admission | None":
    """That the policy allows the cube, which is known by its digest; None without a policy. Raises Untrusted.

    A signature over the whole bundle, beside it, says more than those of the cube in it, and is looked at first. What
    was signed since the bundle was written may be kept here.
    """
    if policy is None and not trust.in_force():
        return None
    from mlcube.trust.policy import Subject, admit
    from mlcube.trust.policy_file import read_policy
    from mlcube.trust.registries import kept

    policy = policy or read_policy()
    name = real_name(bundle)
    over_all, remark = beside(bundle)
    if over_all:
        with suppress(Untrusted):
            whole = Subject(kind="bundle", name=name, digest=bundle.seal.checksum)
            found = admit(whole, lambda: over_all, policy=policy)
            return msgspec.structs.replace(found, digest=cube.digest, whole=found.signed)
    subject = Subject(kind="bundle", name=name, digest=cube.digest)

    def signatures() -> "tuple[Signature, ...]":
        # Those over all of it, which are over another digest, only tell that somebody has signed it.
        return (*kept(cube.digest), *signatures_in(bundle), *over_all)

    return admit(subject, signatures, policy=policy, remark=remark)


def real_name(bundle: Bundle) -> str:
    """What a policy calls the bundle: where the file lies that is read. Raises Untrusted where that cannot be told."""
    name = bundle.real_path()
    if name is None:
        message = f"`{bundle.path}` leads by now to another file than was opened, and a policy goes by where it lies"
        raise Untrusted(message, hint="once more, where nobody changes it meanwhile; or name the file behind the link")
    return name


class Beside(NamedTuple):
    """What the file beside a bundle holds."""

    signatures: "tuple[Signature, ...]" = ()
    """Those over all of this bundle."""
    remark: str = ""
    """Where there is a file and none of these in it: what it is instead."""


def beside(bundle: Bundle) -> Beside:
    """The signatures over all of the bundle, in the file beside it. What cannot be read is none."""
    from mlcube.trust.signing import Signature, signed_digest

    name = f"{bundle.path}{SUFFIX}"
    unreadable = Beside(remark=f"`{name}` cannot be read as a signature")
    try:
        found = msgspec.json.decode(files.read_small(name), type=tuple[Signature, ...])
    except FileNotFoundError:
        return Beside()
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return unreadable
    digests = [signed_digest(each) for each in found]
    if bundle.seal.checksum in digests:
        own = zip(found, digests, strict=True)
        return Beside(tuple(each for each, digest in own if digest == bundle.seal.checksum))
    return Beside(remark=f"`{name}` is the signature of another bundle") if any(digests) else unreadable


def sign_whole(path: str, key: "PrivateKey") -> tuple[str, str]:
    """Sign all of a bundle, after every byte of it was verified. The file of the signature, and what was signed."""
    from mlcube.bundling.verifying import verify
    from mlcube.trust.signing import sign, verified_by

    verify(path)
    with Bundle(path) as bundle:
        digest, valid = bundle.seal.checksum, beside(bundle).signatures
        target = f"{bundle.path}{SUFFIX}"
        if not any(verified_by(each, digest, (("own", key.public),)) for each in valid):
            valid = (*valid, sign(key, os.path.basename(bundle.path), digest))
        files.write(target, msgspec.json.encode(valid))
    return target, digest
