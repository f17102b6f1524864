"""Asks the policy of this machine about what is about to be brought, kept or run; without a policy it asks nothing."""

from typing import TYPE_CHECKING

from mlcube import trust

if TYPE_CHECKING:
    from mlcube.registry import Registry
    from mlcube.trust.policy import Admission, Subject

__all__ = ["admit_address", "admit_path", "admit_published", "subject_of_address", "subjects_of_path"]


def admit_path(path: str) -> None:
    """A folder or file of this machine."""
    if trust.in_force():
        from mlcube.trust.policy import admit

        for subject in subjects_of_path(path):
            admit(subject)


def admit_address(kind: str, url: str) -> None:
    """A git repository, or an archive."""
    if trust.in_force():
        from mlcube.trust.policy import admit

        admit(subject_of_address(kind, url))


def subjects_of_path(path: str) -> "tuple[Subject, ...]":
    """What is asked about a path: every one must be admitted."""
    from mlcube.trust.policy import Subject
    from mlcube.trust.spellings import path_names

    return tuple(Subject(kind="path", name=name, aliases=tuple(others)) for name, *others in path_names(path))


def subject_of_address(kind: str, url: str) -> "Subject":
    """What is asked about a git repository or an archive. Raises Untrusted for an address that is not plain."""
    from mlcube.trust.policy import Subject
    from mlcube.trust.spellings import address_names

    name, *others = address_names(url)
    return Subject(kind=kind, name=name, aliases=tuple(others))


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
