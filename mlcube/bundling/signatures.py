"""The signatures that travel in a bundle, and what the policy of this machine says of its cube."""

import os
from typing import TYPE_CHECKING

from mlcube.bundling.layout import CUBE, Entry
from mlcube.bundling.reading import Bundle

if TYPE_CHECKING:
    from mlcube.trust import Admission
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


def admitted(bundle: Bundle, cube: Entry) -> "Admission":
    """Why the cube, which is known by its digest, may run. Raises Untrusted when the policy forbids it."""
    from mlcube.trust import Subject, admit

    subject = Subject(kind="bundle", name=os.path.realpath(bundle.path), digest=cube.digest)
    return admit(subject, lambda: signatures_in(bundle))
