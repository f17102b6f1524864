"""A cube as an OCI artifact: its media types, the configuration that describes it, and the annotations of its parts."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from mlcube import oci
from mlcube.errors import Damaged, lowered

__all__ = [
    "ARTIFACT",
    "CARD",
    "CONFIG",
    "CREATED",
    "FILE",
    "FILE_ZSTD",
    "MODE",
    "MOST_CONFIG_BYTES",
    "PACK",
    "PACKED",
    "PUBLICATION",
    "SBOM",
    "SMALL_BYTES",
    "TITLE",
    "CubeConfig",
    "PublishedImage",
    "read_config",
]

ARTIFACT = "application/vnd.mlcube.cube.v1"
"""The artifact type of a cube's manifest."""
CONFIG = "application/vnd.mlcube.cube.config.v1+json"
"""What the manifest's config is: a `CubeConfig`."""
CARD = "application/vnd.mlcube.cube.card.v1+markdown"
"""A layer: the cube's README, as it is."""
PACK = "application/vnd.oci.image.layer.v1.tar"
"""A layer: a tar of small files."""
FILE = "application/vnd.mlcube.cube.file.v1"
"""A layer: one large file, as it is."""
FILE_ZSTD = "application/vnd.mlcube.cube.file.v1+zstd"
"""A layer: one large file, packed with zstd."""
SBOM = "application/vnd.cyclonedx+json"
"""A referrer: the bill of materials."""
PUBLICATION = "application/vnd.mlcube.publication.v1+json"
"""A referrer: what published the cube, and out of what."""

TITLE = "org.opencontainers.image.title"
"""The annotation of a large file's layer, and of the card's: the path within the cube."""
CREATED = "org.opencontainers.image.created"
MODE = "io.mlcube.mode"
"""The annotation of a large file's layer: `644` or `755`."""
PACKED = "io.mlcube.pack"
"""The annotation that tells a pack from a layer of something else."""

SMALL_BYTES = 256 << 10
"""Files below this size travel in packs, others as layers of their own."""
MOST_CONFIG_BYTES = 4 << 20
"""No longer configuration is read: millions of values would fill the memory."""


class PublishedImage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The container image of a published cube."""

    reference: Annotated[str, Meta(description="The name by which the cube's file asks for it.")]
    pinned: Annotated[
        str | None, Meta(description="`host/name@sha256:...`: what is run. Null: it was not pushed or found.")
    ] = None


class CubeConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a published cube says of itself without being unpacked. No path or clock of the publisher is in it."""

    schema: Annotated[int, Meta(description="The version of this format.")] = 1
    name: Annotated[str, Meta(description="The cube's name.")]
    file: Annotated[str, Meta(description="The cube's file, within the cube.")] = "mlcube.yaml"
    digest: Annotated[str, Meta(description="`sha256:...` of that file's content.")]
    version: Annotated[str | None, Meta(description="The version that the cube gives itself.")] = None
    description: Annotated[str | None, Meta(description="What it is, in a sentence.")] = None
    authors: Annotated[tuple[str, ...], Meta(description="Who made it.")] = ()
    license: Annotated[str | None, Meta(description="An SPDX expression.")] = None
    links: Annotated[dict[str, str], Meta(description="Names and addresses.")] = {}
    tasks: Annotated[
        tuple[dict[str, Any], ...], Meta(description="The tasks as `cube describe --json` shows them, without paths.")
    ] = ()
    image: Annotated[PublishedImage | None, Meta(description="The container image, if the cube has one.")] = None
    python: Annotated[dict[str, Any] | None, Meta(description="The Python environment, if the cube has one.")] = None


def read_config(content: bytes) -> CubeConfig:
    """The configuration in a blob. Raises Damaged when it is none."""
    wrong = f"`{oci.digest_of(content)}` is no configuration of a cube"
    if len(content) > MOST_CONFIG_BYTES:
        raise Damaged(f"{wrong}: it has {len(content):,} bytes")
    try:
        found = msgspec.json.decode(content, type=CubeConfig)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError, UnicodeDecodeError) as error:
        raise Damaged(f"{wrong}: {lowered(str(error))}") from None
    if found.schema != 1:
        raise Damaged(
            f"the cube `{found.name}` is published in format {found.schema}, which this `cube` does not know",
            hint="a newer `cube` reads it",
        )
    return found
