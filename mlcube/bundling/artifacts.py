"""The smaller things in a bundle, each an artifact whose layers are files with names: wheels, SIF files."""

import os
from collections.abc import Callable, Iterable, Mapping

from mlcube import oci
from mlcube.artifact import TITLE
from mlcube.bundling.layout import ROLE, Entry, brief
from mlcube.bundling.reading import Bundle
from mlcube.bundling.writing import Writer
from mlcube.errors import CubeError, Damaged
from mlcube.known_digests import KnownDigests
from mlcube.unpacking.folder import LONGEST_NAME

__all__ = ["SIF", "TOOL", "WHEELS", "add", "entry", "extract", "named_layers"]

SIF, TOOL, WHEELS = "sif", "tool", "wheels"
"""Roles: an image as a SIF file, what `cube` itself is installed from, and what a `python:` cube is."""

KINDS = {
    SIF: ("application/vnd.sylabs.sif.layer.v1.sif", "application/vnd.sylabs.sif.layer.v1.sif"),
    TOOL: ("application/vnd.mlcube.tool.v1", "application/vnd.mlcube.wheel.v1+zip"),
    WHEELS: ("application/vnd.mlcube.wheels.v1", "application/vnd.mlcube.wheel.v1+zip"),
}
"""The type of the artifact and that of its layers, by role."""


def entry(role: str, name: str, annotations: Mapping[str, str] | None = None) -> Entry:
    """What the index will say of it, but for digest and size."""
    told = {"org.opencontainers.image.ref.name": name, ROLE: role, **(annotations or {})}
    return Entry(media_type=oci.MANIFEST, digest="", size=0, artifact_type=KINDS[role][0], annotations=told)


def add(writer: Writer, blank: Entry, paths: Iterable[str]) -> Entry:
    """Write files and the manifest that names them; gives the entry for the index."""
    import msgspec

    artifact_type, media_type = KINDS[blank.role]
    layers = tuple(_file(writer, path, media_type) for path in sorted(paths, key=os.path.basename))
    config = writer.small(b"{}", oci.EMPTY)
    manifest = oci.Manifest(
        schema_version=2, media_type=oci.MANIFEST, config=config, layers=layers, artifact_type=artifact_type
    )
    written = writer.manifest(manifest)
    return msgspec.structs.replace(blank, digest=written.digest, size=written.size)


def _file(writer: Writer, path: str, media_type: str) -> oci.Descriptor:
    try:
        with open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            return writer.file(file, size, media_type, annotations={TITLE: os.path.basename(path)})
    except OSError as error:
        raise CubeError(f"`{path}` cannot be read: {(error.strerror or '').lower()}") from error


def named_layers(bundle: Bundle, which: Entry) -> dict[str, oci.Descriptor]:
    """The files of an artifact by name. Raises Damaged for a name that is no plain one, or that comes twice."""
    found: dict[str, oci.Descriptor] = {}
    folded: set[str] = set()
    for layer in bundle.manifest(which.digest).layers:
        name = layer.annotations.get(TITLE, "")
        if not name or name in (".", "..") or "/" in name or "\0" in name or not name.isprintable():
            raise Damaged(f"`{bundle.path}` holds a file named `{brief(name)}`, which is no plain name")
        if len(name.encode()) > LONGEST_NAME:
            raise Damaged(f"`{bundle.path}` holds a file named `{brief(name)}`, which is too long a name for a file")
        if name.casefold() in folded:
            raise Damaged(f"`{bundle.path}` holds two files named `{name}`, or alike but for upper and lower case")
        folded.add(name.casefold())
        found[name] = layer
    return found


def extract(bundle: Bundle, which: Entry, folder: str, check: Callable[[], None] = lambda: None) -> list[str]:
    """Write the files of an artifact into a folder; gives their paths. What is there and right is left as it is."""
    paths = []
    with KnownDigests() as known:
        for name, layer in named_layers(bundle, which).items():
            path = os.path.join(folder, name)
            paths.append(path)
            if _right(path, layer.digest, known, check):
                continue
            try:
                os.makedirs(folder, exist_ok=True)
            except OSError as error:
                raise CubeError(f"`{folder}` cannot be made: {(error.strerror or '').lower()}") from error
            bundle.extract(layer.digest, path, check)
    return paths


def _right(path: str, digest: str, known: KnownDigests, check: Callable[[], None]) -> bool:
    try:
        return known.of_file(path, check)[0] == digest
    except OSError:
        return False
