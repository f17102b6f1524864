"""What will be published, as data: layers, configuration and manifest. The same input gives the same digest."""

import os
from collections.abc import Callable
from typing import Any

import msgspec

from mlcube import oci
from mlcube.artifact import ARTIFACT, CONFIG, CREATED, MOST_CONFIG_BYTES, SMALL_BYTES, CubeConfig, PublishedImage
from mlcube.cube import Cube
from mlcube.errors import MissingInput, Refused
from mlcube.known_digests import KnownDigests
from mlcube.oci import Descriptor, Manifest
from mlcube.packing import Layer, layers
from mlcube.publishing.folder import published_entries
from mlcube.publishing.source import Source

__all__ = ["DIRTY", "Content", "Publication", "compose", "read_content"]

DIRTY = "io.mlcube.source.dirty"
"""The annotation that says that the content is not that of the revision."""
_PREFIX = "org.opencontainers.image"
_HOME_LINKS = ("homepage", "home", "website", "url", "project")
_SOURCE_LINKS = ("source", "code", "repository", "git")
_HIDDEN = ("refused",)
_MOST_MANIFEST_BYTES = 4 << 20


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """What lies in the cube's folder."""

    layers: tuple[Layer, ...]
    paths: frozenset[str]


class Publication(msgspec.Struct, frozen=True, kw_only=True):
    """What will be published."""

    config: bytes
    config_descriptor: Descriptor
    layers: tuple[Layer, ...]
    manifest: bytes
    descriptor: Descriptor


def read_content(
    cube: Cube,
    *,
    inputs: bool = False,
    compress: bool = False,
    check: Callable[[], None] = lambda: None,
    progress: Callable[[int], None] = lambda _count: None,
    report: Callable[[str], None] = lambda _message: None,
) -> Content:
    """The layers of a cube's folder. Raises InvalidFile and MissingInput for what cannot be published.

    `report` is told of what is left out and may have been meant.
    """
    entries = published_entries(cube, inputs=inputs, check=check, report=report)
    paths = frozenset(entry.path for entry in entries)
    if (file := os.path.relpath(cube.file, cube.root)) not in paths:
        raise MissingInput(f"the cube's own file `{file}` would not be published", hint="mend the `.cubeignore`")
    with KnownDigests() as known:
        found = layers(cube.root, entries, known=known, compress=compress, check=check, progress=progress)
    return Content(layers=found, paths=paths)


def compose(
    cube: Cube, content: Content, *, name: str, image: PublishedImage | None = None, source: Source | None = None
) -> Publication:
    """Configuration and manifest; `name` is that of a cube whose file has none."""
    config = oci.canonical(_config(cube, name, image))
    if len(config) > MOST_CONFIG_BYTES:
        raise Refused(
            f"what the cube says of itself has {len(config):,} bytes, and nobody reads more than {MOST_CONFIG_BYTES:,}",
            hint="put long lists and texts into files of their own",
        )
    config_descriptor = Descriptor(media_type=CONFIG, digest=oci.digest_of(config), size=len(config))
    manifest = oci.canonical(
        Manifest(
            schema_version=2,
            media_type=oci.MANIFEST,
            artifact_type=ARTIFACT,
            config=config_descriptor,
            layers=tuple(layer.descriptor for layer in content.layers),
            annotations=_annotations(cube, name, source or Source()),
        )
    )
    if len(manifest) > _MOST_MANIFEST_BYTES:
        raise Refused(
            f"{len(content.layers)} large files are more than registries take in one cube",
            hint=f"put files of {SMALL_BYTES >> 10} KiB and more into archives, or leave some out in `.cubeignore`",
        )
    return Publication(
        config=config,
        config_descriptor=config_descriptor,
        layers=content.layers,
        manifest=manifest,
        descriptor=Descriptor(
            media_type=oci.MANIFEST, digest=oci.digest_of(manifest), size=len(manifest), artifact_type=ARTIFACT
        ),
    )


def _config(cube: Cube, name: str, image: PublishedImage | None) -> CubeConfig:
    with open(cube.file, "rb") as file:
        digest = oci.digest_of(file.read())
    tasks = msgspec.to_builtins(list(cube.tasks.values()))
    return CubeConfig(
        name=name,
        file=os.path.relpath(cube.file, cube.root),
        digest=digest,
        version=cube.version,
        description=cube.description,
        authors=cube.authors,
        license=cube.license,
        links=dict(cube.links),
        tasks=tuple({key: value for key, value in task.items() if key not in _HIDDEN} for task in tasks),
        image=image,
        python=_python(cube),
    )


def _python(cube: Cube) -> dict[str, Any] | None:
    if cube.python is None:
        return None
    plain: dict[str, Any] = msgspec.to_builtins(cube.python)
    return {**plain, "source": os.path.relpath(cube.python.source, cube.root)}


def _annotations(cube: Cube, name: str, source: Source) -> dict[str, str]:
    links = {key.lower(): value for key, value in cube.links.items()}
    found = {
        f"{_PREFIX}.title": name,
        f"{_PREFIX}.version": cube.version,
        f"{_PREFIX}.description": cube.description,
        f"{_PREFIX}.authors": ", ".join(cube.authors),
        f"{_PREFIX}.licenses": cube.license,
        f"{_PREFIX}.url": next((links[key] for key in _HOME_LINKS if key in links), None),
        f"{_PREFIX}.source": source.url or next((links[key] for key in _SOURCE_LINKS if key in links), None),
        f"{_PREFIX}.revision": source.revision,
        CREATED: source.created,
        DIRTY: "true" if source.dirty else None,
    }
    return {key: value for key, value in found.items() if value}
