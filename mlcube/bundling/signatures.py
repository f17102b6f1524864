"""The signatures that travel in a bundle, and what the policy of this machine says of its cube."""

import os
from typing import TYPE_CHECKING

from mlcube import trust
from mlcube.bundling.layout import CUBE, Entry
from mlcube.bundling.reading import Bundle

if TYPE_CHECKING:
    from mlcube.trust.policy import Admission
    from mlcube.trust.signing import Signature

__all__ = ["admitted", "signatures_in"]


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


def admitted(bundle: Bundle, cube: Entry) -> "Admission | None":
    """That the policy allows the cube, which is known by its digest; None without a policy. Raises Untrusted.

    What was signed since the bundle was written may be kept here.
    """
    if not trust.in_force():
        return None
    from mlcube.trust.policy import Subject, admit
    from mlcube.trust.registries import kept

    subject = Subject(kind="bundle", name=os.path.realpath(bundle.path), digest=cube.digest)
    return admit(subject, lambda: (*kept(cube.digest), *signatures_in(bundle)))
