"""What of an invocation is sent to another host, where it lies there, and what comes back."""

import os.path

import msgspec

from mlcube.invocation import Invocation, Mount

__all__ = ["Parcel", "Staging", "stage"]


class Parcel(msgspec.Struct, frozen=True, kw_only=True):
    """A directory here and the one that stands for it there."""

    source: str
    target: str
    names: tuple[str, ...] = ()
    """What of it is sent; empty: everything."""
    back: tuple[str, ...] | None = ()
    """What of it comes back; empty: everything, None: nothing."""
    follow: bool = False
    """Whether links are sent as what they lead to, because that may be elsewhere."""


class Staging(msgspec.Struct, frozen=True, kw_only=True):
    """The invocation as it is there, and what has to be carried for it."""

    invocation: Invocation
    directory: str
    """The directory of the run there; everything lies in it."""
    parcels: tuple[Parcel, ...]
    """What the task reads and writes."""
    code: tuple[Parcel, ...]
    """What is sent only where a plan names it: the cube's code, the context of a build."""

    def named(self, text: str) -> tuple[Parcel, ...]:
        """The code that a script names."""
        return tuple(parcel for parcel in self.code if parcel.target in text)


def stage(invocation: Invocation, directory: str) -> Staging:
    """Lay the run out in a directory of another host. The names that are chosen there need no quoting anywhere."""
    places: dict[str, str] = {}
    parcels: list[Parcel] = []
    for number, mount in enumerate(_outermost(invocation)):
        found = _parcels(invocation, mount, f"{directory}/{number}")
        within = os.path.relpath(mount.source, found[0].source)
        places[mount.source] = os.path.normpath(os.path.join(found[0].target, within))
        parcels += found
    code = []
    for name, path in _code(invocation):
        if not any(_within(path, place) for place in places):
            places[path] = f"{directory}/{name}"
            code.append(Parcel(source=path, target=places[path], back=None))
    places |= {invocation.scratch: f"{directory}/scratch"}
    for path in (invocation.workspace, *(each.path for each in invocation.parameters)):
        if not any(_within(path, place) for place in places):  # nothing is there, and nothing asks for it
            places[path] = f"{directory}/workspace"

    def moved(path: str) -> str:
        nearest = max((place for place in places if _within(path, place)), key=len, default=None)
        return path if nearest is None else places[nearest] + path[len(nearest) :]

    return Staging(
        invocation=invocation.relocated(moved), directory=directory, parcels=tuple(parcels), code=tuple(code)
    )


def _outermost(invocation: Invocation) -> tuple[Mount, ...]:
    """Each mounted path that lies in no other one, once."""
    found: dict[str, Mount] = {}
    for mount in invocation.mounts:
        others = (other.source for other in invocation.mounts if other.source != mount.source)
        outermost = not any(_within(mount.source, other) for other in others)
        if outermost and (mount.access == "rw" or mount.source not in found):
            found[mount.source] = mount
    return tuple(found.values())


def _parcels(invocation: Invocation, mount: Mount, target: str) -> tuple[Parcel, ...]:
    """Of a folder that is mounted because files lie in it, only the files that the task was given are sent."""
    source, writable = mount.source, mount.access == "rw"
    files = {each.path for each in invocation.parameters if each.type == "file"}
    if source in files:
        folder, name = os.path.split(source)
        return (Parcel(source=folder, target=target, names=(name,), back=(name,) if writable else None, follow=True),)
    within = [other for other in invocation.mounts if other.source != source and _within(other.source, source)]
    told = {path for each in invocation.parameters for path in (each.path, os.path.dirname(each.staged or "/"))}
    given = sorted(path for path in files if os.path.dirname(path) == source)
    base = source if given or source in told else os.path.dirname(source)
    written = dict.fromkeys(os.path.relpath(other.source, base) for other in within if other.access == "rw")
    if base != source:  # nothing tells whether it is a file
        itself = (os.path.basename(source),)
        return (Parcel(source=base, target=target, names=itself, back=itself if writable else tuple(written) or None),)
    back = () if writable else tuple(written) or None
    if not given or any(each.path == source for each in invocation.parameters):
        return (Parcel(source=source, target=target, back=back),)
    names = tuple(os.path.basename(path) for path in given)
    inner = tuple(dict.fromkeys(os.path.relpath(other.source, source) for other in within))
    others = (Parcel(source=source, target=target, names=inner, back=None),) if inner else ()
    return (Parcel(source=source, target=target, names=names, back=back, follow=True), *others)


def _code(invocation: Invocation) -> list[tuple[str, str]]:
    found = []
    if invocation.python:
        found.append(("source", invocation.python.source))
    if invocation.recipe:
        found.append(("context", invocation.recipe.context))
        found.append(("recipe", os.path.dirname(invocation.recipe.file)))
    if invocation.root:
        found.append(("cube", invocation.root))
    return found


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
