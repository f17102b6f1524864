"""Where the cube of a new bundle comes from: a folder here, or what was published."""

import os
from collections.abc import Sequence

import msgspec

from mlcube import oci
from mlcube.artifact import ARTIFACT, CONFIG, FILE, MODE, TITLE, CubeConfig
from mlcube.bundling.creating import Artifact, Piece
from mlcube.bundling.layout import CUBE
from mlcube.cli import console
from mlcube.cli.arguments import overrides
from mlcube.cube import Cube
from mlcube.reading import read_cube

__all__ = ["Source", "find_source"]


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A cube, and its artifact."""

    cube: Cube
    artifact: Artifact
    referrers: tuple[Artifact, ...] = ()
    pinned: str | None = None
    """The image by digest, where it was published."""


def find_source(reference: str, override: Sequence[str], *, with_data: bool, trust: bool) -> Source:
    """The cube that a reference names."""
    of_cube, _ = overrides(list(override))
    cube, warnings = read_cube(reference, overrides=of_cube, strict=True, trust=trust)
    console.warnings(warnings)
    return Source(cube=cube, artifact=_of_folder(cube, with_data))


def _of_folder(cube: Cube, with_data: bool) -> Artifact:
    pieces = []
    for directory, folders, names in os.walk(cube.root):
        folders[:] = sorted(each for each in folders if each not in (".git", "__pycache__", "workspace"))
        for name in sorted(names):
            path = os.path.join(directory, name)
            with open(path, "rb") as file:
                content = file.read()
            told = {TITLE: os.path.relpath(path, cube.root), MODE: "644"}
            layer = oci.Descriptor(media_type=FILE, digest=oci.digest_of(content), size=len(content), annotations=told)
            pieces.append(Piece(layer, lambda path=path: open(path, "rb")))
    with open(cube.file, "rb") as file:
        config = CubeConfig(name=cube.name, digest=oci.digest_of(file.read()), python={} if cube.python else None)
    text = oci.canonical(config)
    told_config = oci.Descriptor(media_type=CONFIG, digest=oci.digest_of(text), size=len(text))
    layers = tuple(piece.descriptor for piece in pieces)
    import io

    pieces.append(Piece(told_config, lambda: io.BytesIO(text)))
    manifest = oci.Manifest(
        schema_version=2, media_type=oci.MANIFEST, config=told_config, layers=layers, artifact_type=ARTIFACT
    )
    name = f"{cube.name}:{cube.version}" if cube.version else cube.name
    return Artifact(
        name=name, role=CUBE, manifest=oci.canonical(manifest), artifact_type=ARTIFACT, pieces=tuple(pieces)
    )
