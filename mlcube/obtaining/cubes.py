"""Every kind of reference, and who brings what it names."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from mlcube import references
from mlcube.artifact import CubeConfig
from mlcube.errors import MissingInput, closest
from mlcube.references import Reference

if TYPE_CHECKING:
    from mlcube.obtaining.asking import Asking
    from mlcube.pinning import Lock

__all__ = ["Obtained", "near", "obtain"]


def _nothing(*_: object) -> None:
    """Neither a reason to stop, nor anybody to tell."""


class Obtained(msgspec.Struct, frozen=True, kw_only=True):
    """A cube that is there and was verified."""

    path: str
    """What `read_cube` takes."""
    reference: Reference
    root: str | None = None
    """The folder in which it is kept; None: it is a path."""
    overrides: tuple[str, ...] = ()
    """What `-P` would say so that the published image runs; weaker than the user's own."""
    workspace: str | None = None
    """Where parameters lie unless the user says otherwise; None: in the cube's own workspace."""
    digest: str | None = None
    """By which it is kept: `sha256:...` of the manifest, `git:COMMIT`, `archive:sha256:...`; None: it is a path."""
    config: CubeConfig | None = None
    """What was published of it."""
    repository: str | None = None
    """`host/name` from which it was brought."""
    zoo: str | None = None
    """The zoo that knew the name."""
    bundle: str | None = None
    """The bundle it is in."""
    admission: Any = None
    """The `Admission` of this machine's policy; None: there is no policy, or none is asked about its kind."""


def obtain(
    text: str,
    *,
    locked: "Lock | None" = None,
    report: Callable[[str], None] = _nothing,
    progress: Callable[[int, int], None] = _nothing,
    check: Callable[[], None] = _nothing,
    mend: bool = False,
) -> Obtained:
    """The cube that `text` names: a path is itself, everything else lies in this machine's store when this returns.

    With `locked` it is the cube of that lock, whatever the name leads to by now. `mend` brings a kept cube anew that
    was damaged. Raises UsageError, MissingInput, Unreachable, Denied, Damaged, Untrusted, Refused.
    """
    reference = references.parse(text)
    if locked is not None:
        locked.check_reference(reference)
    if reference.kind == "path":
        return Obtained(path=text, reference=reference)
    from mlcube.obtaining.asking import Asking
    from mlcube.store import Store

    asking = Asking(store=Store(check=check, report=report), report=report, progress=progress, check=check, mend=mend)
    digest = locked.cube.digest if locked else None
    match reference.kind:
        case "oci":
            found = _published(reference, asking, digest)
        case "zoo":
            found = _in_zoo(reference, asking, digest)
        case "bundle":
            found = _bundled(reference, asking)
        case "git":
            from mlcube.obtaining.repositories import from_git

            root, digest = from_git(reference, asking, digest)
            found = Obtained(path=root, root=root, reference=reference, digest=digest)
        case "archive":
            from mlcube.obtaining.archives import from_archive

            root, digest = from_archive(reference, asking)
            found = Obtained(path=root, root=root, reference=reference, digest=digest)
    if locked is not None:
        locked.check_digest(found.digest)
    return msgspec.structs.replace(found, workspace=os.path.abspath("workspace"))


def pinned(config: CubeConfig | None) -> tuple[str, ...]:
    """What makes the published image run, and none that a build here would make; none for Python environments."""
    if config is None or config.python is not None or config.image is None or config.image.pinned is None:
        return ()
    return f"docker.image={config.image.pinned}", "docker.build_strategy=pull"


def _published(
    reference: Reference, asking: "Asking", digest: str | None, *, name: str | None = None, zoo: str | None = None
) -> Obtained:
    from mlcube.obtaining.registries import from_registry

    kept, admission = from_registry(reference, asking, digest, name=name, zoo=zoo)
    path = os.path.join(kept.root, kept.config.file) if kept.config else kept.root
    return Obtained(
        path=path,
        root=kept.root,
        reference=reference,
        overrides=pinned(kept.config),
        digest=kept.digest,
        config=kept.config,
        repository=reference.repository,
        admission=admission,
    )


def _in_zoo(reference: Reference, asking: "Asking", digest: str | None) -> Obtained:
    from mlcube.zoo import find

    name = reference.name or ""
    try:
        found = find(name, reference.version, report=asking.report)
    except MissingInput as error:
        hint = error.hint or ""
        if not hint.startswith("did") and (found_near := near(reference.text)):
            hint = f"did you mean `{found_near}`?"
        raise MissingInput(f"there is no cube at `{reference.text}`, and {error.args[0]}", hint=hint or None) from None
    there = references.parse(found.reference)
    obtained = _published(there, asking, digest, name=found.name, zoo=found.zoo)
    return msgspec.structs.replace(obtained, reference=reference, zoo=found.zoo)


def near(text: str) -> str | None:
    """A cube or a bundle in the current folder that has nearly that name."""
    try:
        names = os.listdir(".")
    except OSError:
        return None
    return closest(text, [each for each in names if each.endswith(".cube") or os.path.isfile(f"{each}/mlcube.yaml")])


def _bundled(reference: Reference, asking: "Asking") -> Obtained:
    from mlcube.bundling import opened

    found = opened(reference.path or reference.text, mend=asking.mend, report=asking.report, check=asking.check)
    return Obtained(
        path=os.path.join(found.kept.root, found.config.file),
        root=found.kept.root,
        reference=reference,
        overrides=pinned(found.config),
        digest=found.digest,
        config=found.config,
        bundle=found.path,
        admission=found.admission,
    )
