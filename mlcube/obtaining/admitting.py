"""Asks the policy of this machine about what is about to be brought, kept or run; without a policy it asks nothing."""

import os
from typing import TYPE_CHECKING

from mlcube import trust

if TYPE_CHECKING:
    from mlcube.registry import Registry
    from mlcube.trust.policy import Admission

__all__ = ["admit_address", "admit_path", "admit_published"]


def admit_path(path: str) -> None:
    """A folder or file of this machine."""
    if trust.in_force():
        from mlcube.trust.policy import Subject, admit

        admit(Subject(kind="path", name=os.path.realpath(os.path.expanduser(path))))


def admit_address(kind: str, url: str) -> None:
    """A git repository, or an archive."""
    if trust.in_force():
        from mlcube.trust.patterns import plain_address
        from mlcube.trust.policy import Subject, admit

        admit(Subject(kind=kind, name=plain_address(url)))


def admit_published(registry: "Registry", digest: str, *, name: str | None, zoo: str | None) -> "Admission | None":
    """A cube in a registry, known by its digest; `name` is what it is called in a zoo."""
    if not trust.in_force():
        return None
    from mlcube.trust.policy import Subject, admit
    from mlcube.trust.registries import signatures

    where = registry.repository
    subject = Subject(
        kind="zoo" if zoo else "oci", name=name or where.name, repository=str(where), digest=digest, zoo=zoo
    )
    return admit(subject, lambda: signatures(registry, digest))
