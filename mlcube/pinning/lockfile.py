"""The file `mlcube.lock`: what it holds, and what `--locked` refuses because of it."""

import os
from collections.abc import Iterable, Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from mlcube import oci
from mlcube.cube import Cube
from mlcube.errors import InvalidFile, MissingInput, Position, Problem, Refused, lowered
from mlcube.references import Reference, parse

__all__ = ["FILE_NAME", "Lock", "LockedCube", "LockedData", "LockedImage", "read_lock", "refused"]

FILE_NAME = "mlcube.lock"
_MOST_BYTES = 16 << 20
_AGAIN = "`cube lock` writes it anew, if the difference is meant"


class LockedCube(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The cube."""

    name: Annotated[str, Meta(description="The cube's name.")]
    digest: Annotated[
        str,
        Meta(
            description="By which it is obtained: `sha256:...` of the manifest, `git:COMMIT` or `archive:sha256:...`;"
            " of a folder, `sha256:...` of its cube file."
        ),
    ]
    version: Annotated[str | None, Meta(description="The version that it gives itself.")] = None
    source: Annotated[str | None, Meta(description="Of a folder with Python code: `sha256:...` of that code.")] = None


class LockedImage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The image on one platform."""

    reference: Annotated[str | None, Meta(description="What it is called there.")] = None
    digest: Annotated[str | None, Meta(description="`sha256:...` by which a registry knows it.")] = None
    id: Annotated[str | None, Meta(description="By which the platform tells it from others.")] = None


class LockedData(msgspec.Struct, frozen=True, kw_only=True):
    """An input that a task declares and that was there."""

    path: Annotated[str, Meta(description="Where it lay, within the workspace.")]
    sha256: Annotated[str, Meta(description="Of the file; of a folder, as `cube runs show --json` tells it.")]
    bytes: int
    files: int


class Requirements(msgspec.Struct, frozen=True, kw_only=True):
    """What a `python:` cube asks for, and what that is exactly."""

    asked: Annotated[str, Meta(description="`sha256:...` of the requirements as the cube states them.")]
    python: Annotated[str, Meta(description="The version of Python for which they were resolved, as `3.11`.")]
    exact: Annotated[tuple[str, ...], Meta(description="Lines `name==version --hash=sha256:...`.")]


class Lock(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Exactly what is run."""

    schema: Annotated[int, Meta(description="The version of this format.")] = 1
    reference: Annotated[str, Meta(description="What named the cube.")]
    cube: LockedCube
    images: Annotated[dict[str, LockedImage], Meta(description="The image on each platform that was here.")] = {}
    bases: Annotated[
        dict[str, str | None], Meta(description="The images on which the cube's own is built, and their digests.")
    ] = {}
    data: Annotated[dict[str, LockedData], Meta(description="Inputs, by `task.parameter`.")] = {}
    requirements: Requirements | None = None

    def check_reference(self, reference: Reference) -> None:
        """Raise Refused when another cube is asked for than the one that was locked."""
        locked = parse(self.reference)
        same = (locked.kind, locked.repository, locked.url, locked.subfolder, locked.name) == (
            reference.kind,
            reference.repository,
            reference.url,
            reference.subfolder,
            reference.name,
        )
        differs = [
            f"{what} is `{now}`, and was `{before}`"
            for what, now, before in (
                ("the tag", reference.tag, locked.tag),
                ("the ref", reference.ref, locked.ref),
                ("the version", reference.version, locked.version),
                ("the digest", reference.digest, locked.digest),
            )
            if now != before
        ]
        if reference.digest == self.cube.digest:
            differs = []
        if not same:
            differs = [f"the cube is `{reference.text}`, and was `{self.reference}`"]
        if differs:
            raise refused(differs)

    def check_digest(self, digest: str | None) -> None:
        """Raise Refused when another cube was found than the one that was locked."""
        if digest is not None and digest != self.cube.digest:
            raise refused([f"the cube is `{digest}`, and was `{self.cube.digest}`"])

    def check_cube(self, cube: Cube, digest: str | None) -> None:
        """Raise Refused, with each difference, when a cube that was read is not the one that was locked."""
        from mlcube.pinning.making import bases_of, digest_of_file, source_of

        found = []
        if digest is not None:
            self.check_digest(digest)
        elif (now := digest_of_file(cube)) != self.cube.digest:
            found.append(f"the cube's file `{cube.file}` is `{now}`, and was `{self.cube.digest}`")
        if digest is None and (now := source_of(cube) or "") != (self.cube.source or ""):
            found.append(f"the code in `{cube.root}` is `{now}`, and was `{self.cube.source}`")
        asked = digest_of_requirements(cube)
        if asked != (self.requirements.asked if self.requirements else None):
            found.append("the requirements are other ones")
        names = set(bases_of(cube))
        if names != set(self.bases):
            found.append(f"the base images are {_listed(names)}, and were {_listed(self.bases)}")
        if found:
            raise refused(found)

    def applied(self, cube: Cube) -> Cube:
        """The cube with the exact requirements in place of those that it states."""
        if cube.python is None or self.requirements is None:
            return cube
        text = "".join(f"{line}\n" for line in self.requirements.exact)
        return msgspec.structs.replace(cube, python=msgspec.structs.replace(cube.python, requirements=text))

    def check_data(self, found: Mapping[str, LockedData], tasks: Iterable[str]) -> None:
        """Raise Refused, with each difference, when inputs of these tasks are not what they were."""
        tasks = tuple(tasks)
        differences = []
        for name, before in self.data.items():
            if name.rpartition(".")[0] not in tasks:
                continue
            now = found.get(name)
            if now is None:
                differences.append(f"the input `{name}` is not at `{before.path}` any more")
            elif (now.path, now.sha256) != (before.path, before.sha256):
                differences.append(f"the input `{name}` (`{now.path}`) is {now.sha256}, and was {before.sha256}")
        if differences:
            raise refused(differences)

    def check_image(self, platform: str, found: LockedImage | None) -> None:
        """Raise Refused when the image on a platform is another one than it was.

        A platform that has none in the lock may have the same image of a registry, or make an environment of the exact
        requirements.
        """
        before = self.images.get(platform)
        if before is None:
            digests = [each.digest for each in self.images.values() if each.digest]
            if self.requirements is not None or (found is not None and found.digest in digests):
                return
            known = ", ".join(f"`{name}`" for name in self.images) or "none"
            raise refused([f"the image on `{platform}` is not locked; it is on {known}"])
        if found is None:
            raise refused([f"the image on `{platform}` is not there, and was `{before.digest or before.id}`"])
        pairs = ((before.id, found.id), (before.digest, found.digest))
        if not any(one is not None and one == other for one, other in pairs):
            raise refused(
                [f"the image on `{platform}` is `{found.digest or found.id}`, and was `{before.digest or before.id}`"]
            )


def digest_of_requirements(cube: Cube) -> str | None:
    """Of the requirements as the cube states them."""
    return None if cube.python is None else oci.digest_of(cube.python.requirements.encode())


def read_lock(path: str = FILE_NAME) -> Lock:
    """The lock in a file. Raises MissingInput when there is none, InvalidFile when it is none."""
    try:
        with open(path, "rb") as file:
            content = file.read(_MOST_BYTES)
    except FileNotFoundError:
        raise MissingInput(f"there is no `{path}`", hint="`cube lock` writes it") from None
    except OSError as error:
        raise MissingInput(f"`{path}` cannot be read: {(error.strerror or str(error)).lower()}") from None
    try:
        found = msgspec.json.decode(content, type=Lock)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        hint = f"`cube lock` writes `{os.path.abspath(path)}` anew"
        problem = Problem(message=f"it is no lock: {lowered(str(error))}", position=Position(path), hint=hint)
        raise InvalidFile((problem,)) from None
    if found.schema != 1:
        message = f"format {found.schema} is none that this `cube` knows"
        raise InvalidFile((Problem(message=message, position=Position(path), hint="a newer `cube` reads it"),))
    return found


def refused(differences: Iterable[str]) -> Refused:
    """The error that names each difference."""
    problems = tuple(Problem(message=f"{text} in `{FILE_NAME}`" if "was" in text else text) for text in differences)
    error = Refused(f"it differs from `{FILE_NAME}`", hint=_AGAIN)
    error.problems = (*problems[:-1], msgspec.structs.replace(problems[-1], hint=_AGAIN))
    return error


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names)) or "none"


def write_lock(lock: Lock, path: str = FILE_NAME) -> None:
    """Write a lock, the same each time that it says the same."""
    from mlcube import files

    files.write(os.path.abspath(path), msgspec.json.format(msgspec.json.encode(lock, order="sorted"), indent=2) + b"\n")
