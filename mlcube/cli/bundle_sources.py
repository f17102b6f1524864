"""Where the cube of a new bundle comes from: a folder here, or what was published."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from mlcube import oci
from mlcube.artifact import ARTIFACT, CONFIG, FILE, MODE, SMALL_BYTES, TITLE, CubeConfig
from mlcube.bundling.creating import Artifact, Making, Pending, Piece
from mlcube.bundling.layout import CUBE
from mlcube.cli import console
from mlcube.cli.arguments import overrides
from mlcube.cube import Cube
from mlcube.errors import CubeError
from mlcube.known_digests import KnownDigests
from mlcube.packing import Entry, contents, layers, read_rules
from mlcube.reading import read_cube

__all__ = ["Source", "find_source"]


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A cube, and its artifact."""

    cube: Cube
    artifact: Artifact | Making
    referrers: tuple[Artifact, ...] = ()
    pinned: str | None = None
    """The image by digest, where it was published."""


def find_source(reference: str, override: Sequence[str], *, with_data: bool, trust: bool) -> Source:
    """The cube that a reference names."""
    of_cube, _ = overrides(list(override))
    cube, warnings = read_cube(reference, overrides=of_cube, trust=trust)
    console.warnings(warnings)
    return Source(cube=cube, artifact=of_folder(cube, with_data=with_data))


def of_folder(cube: Cube, *, with_data: bool) -> Making:
    """The artifact of a cube that lies in a folder. Large files are hashed when they are written, and read once."""
    entries = contents(cube.root, read_rules(cube.root))
    if with_data:
        entries = tuple(sorted((*entries, *sample_inputs(cube)), key=lambda entry: entry.path))
    with KnownDigests() as known:
        small = layers(cube.root, [entry for entry in entries if entry.size < SMALL_BYTES], known=known)
    pieces = tuple(Piece(layer.descriptor, layer.open) for layer in small)
    large = tuple(_pending(cube.root, entry) for entry in entries if entry.size >= SMALL_BYTES)
    with open(cube.file, "rb") as file:
        config = CubeConfig(name=cube.name, digest=oci.digest_of(file.read()), python={} if cube.python else None)
    return Making(
        name=f"{cube.name}:{cube.version}" if cube.version else cube.name,
        role=CUBE,
        artifact_type=ARTIFACT,
        layers=(*pieces, *large),
        config=oci.canonical(config),
        config_type=CONFIG,
    )


def sample_inputs(cube: Cube) -> tuple[Entry, ...]:
    """What the cube's own workspace holds of the inputs that its tasks declare."""
    named = set()
    made = {str(output.default or output.name) for task in cube.tasks.values() for output in task.outputs}
    for task in cube.tasks.values():
        for each in task.inputs:
            path = os.path.normpath(str(each.default if each.default is not None else each.name))
            if not each.scalar and path not in {os.path.normpath(name) for name in made}:
                named.add(os.path.join("workspace", path))

    def ignored(path: str, _directory: bool) -> bool:
        return not any(_related(path, name) for name in named)

    return contents(cube.root, ignored) if os.path.isdir(cube.internal_workspace) else ()


def _related(path: str, name: str) -> bool:
    """Whether one is the other, or lies in it."""
    return path == name or path.startswith(f"{name}/") or name.startswith(f"{path}/")


def _pending(root: str, entry: Entry) -> Pending:
    path = os.path.join(root, entry.path)

    def opened() -> Any:
        try:
            file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb", buffering=0)
        except OSError as error:
            raise CubeError(f"`{entry.path}` cannot be read: {(error.strerror or '').lower()}") from None
        return file

    return Pending(FILE, entry.size, {TITLE: entry.path, MODE: entry.mode}, opened, _noting(path, entry))


def _noting(path: str, entry: Entry) -> Callable[[str], None]:
    """What publishing the same file would find out again."""
    import time

    begun = time.time()

    def noted(digest: str) -> None:
        with KnownDigests() as known:
            known.note("file:" + os.path.realpath(path), [entry.stat], digest, entry.size, begun)

    return noted
