"""`cube publish`: a cube in a registry, with its image beside it, under a tag that is put last."""

import os
import shlex
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

from mlcube.artifact import PUBLICATION, SBOM, PublishedImage
from mlcube.cli import console
from mlcube.cli.arguments import Json
from mlcube.cli.declared import argument, option
from mlcube.cli.interruption import is_hinted
from mlcube.cli.meter import Meter
from mlcube.cli.naming import cube_of
from mlcube.cli.publish_report import note_version, show_plan, show_result
from mlcube.cube import Cube
from mlcube.errors import PreparationFailed, Unreachable, UsageError
from mlcube.oci import Descriptor
from mlcube.offline import offline
from mlcube.publishing import (
    Content,
    Destination,
    FoundImage,
    Source,
    compose,
    find_image,
    find_source,
    former,
    missing,
    push_image,
    read_content,
    send,
)
from mlcube.publishing.accompanying import bill_of_materials, record
from mlcube.publishing.destination import split
from mlcube.publishing.source import public_address
from mlcube.reading import read_layers
from mlcube.registry import Registry

EXAMPLE = """\b
Examples:
  cube publish . oci://registry.example.org/group/digits:1.0
  cube publish examples/digits oci://127.0.0.1:5000/digits --dry-run
"""

CubeArgument = Annotated[
    str, argument(metavar="CUBE", help="the cube: a directory, its file, or any other name of a cube")
]
DestinationArgument = Annotated[str, argument(metavar="oci://HOST/NAME:TAG", help="where to, and under which tag")]
WithInputs = Annotated[
    bool, option("--with-inputs", "--with-data", help="also the sample inputs in the cube's own workspace")
]
NoImage = Annotated[bool, option("--no-image", help="leave the container image where it is, and do not pin it")]
Compress = Annotated[bool, option("--compress", help="pack large files with zstd")]
Sign = Annotated[bool, option("--sign", help="sign it with `--key`, before the tag leads to it")]
KeyFile = Annotated[str | None, option("--key", metavar="FILE", help="the private key, whose passphrase is asked for")]
DryRun = Annotated[bool, option("--dry-run", help="print what would be sent, and send nothing")]


def command(
    cube: CubeArgument,
    destination: DestinationArgument,
    with_inputs: WithInputs = False,
    no_image: NoImage = False,
    compress: Compress = False,
    sign: Sign = False,
    key: KeyFile = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> int:
    """Check a cube strictly and put it into a registry: unchanged files are never sent again, the tag is put last."""
    from mlcube.signals import catching

    if cube.startswith("oci://") and "://" not in destination:
        hint = f"cube publish {shlex.quote(destination)} {cube}"
        raise UsageError(f"`{destination}` is no place to publish to, and `{cube}` is one", hint=hint)
    place = Destination.parse(destination)
    if split(destination)[1] is None:
        console.note(f"no tag is given, so that it is `{place.tag}`: {place}")
    if sign != (key is not None):
        raise UsageError("`--sign` and `--key` belong together", hint="--sign --key FILE")
    if offline() and not dry_run:
        raise Unreachable(f"nothing can be published to `{place}` without a network", hint="unset CUBE_OFFLINE")
    named = cube_of(cube, told=False)
    found, warnings = named.read(strict=True)
    console.warnings(warnings)
    note_version(place, found)
    signed = _signing(None if dry_run else key)  # before signals are caught, which a prompt must not outlive
    with is_hinted("the same command sends only what is still missing"), catching() as signals:
        asked = _Asked(place, found, named.obtained, _name(found, place), signals.check, signed)
        content = _content(asked, inputs=with_inputs, compress=compress)
        source = _source(asked, content)
        image = _image(asked, wanted=not no_image, build=not dry_run)
        if dry_run:
            publication = compose(
                asked.cube, content, name=asked.name, image=image.published if image else None, source=source
            )
            show_plan(place, publication, source, image, as_json=as_json)
            return 0
        return _publish(asked, content, source, image, as_json=as_json)


class _Asked(NamedTuple):
    """What is to be published, and where to."""

    place: Destination
    cube: Cube
    obtained: Any
    """The `Obtained` of a cube that was brought from elsewhere; None: it lies here."""
    name: str
    check: Callable[[], None]
    signed: Callable[[Registry, Descriptor], None]
    """Signs the manifest, if it is to be signed."""


def _publish(asked: _Asked, content: Content, source: Source, found: FoundImage | None, *, as_json: bool) -> int:
    place, cube, name = asked.place, asked.cube, asked.name
    with Registry(place.repository, write=True, check=asked.check, report=console.note) as registry:
        before = former(registry, place.tag)
        image = _pushed(found, place)
        publication = compose(cube, content, name=name, image=image, source=source)
        documents = (
            (SBOM, lambda: bill_of_materials(cube, publication, name=name, image=image)),
            (PUBLICATION, lambda: record(publication, name=name, image=image, source=source)),
        )
        total = sum(blob.descriptor.size for blob in missing(publication, before.blobs))
        with Meter("sent", total) as meter:
            sent = send(
                registry,
                publication,
                place.tag,
                before,
                documents,
                check=asked.check,
                progress=meter.advance,
                sign=asked.signed,
            )
    for layer in publication.layers:
        layer.discard()
    show_result(place, publication, sent, before.digest, image, as_json=as_json)
    return 0


def _signing(key: str | None) -> Callable[[Registry, Descriptor], None]:
    """What signs the manifest, if it is to be signed: the passphrase is asked for before anything is sent."""
    if key is None:
        return lambda _registry, _descriptor: None
    from mlcube.cli.sign import key_of, signing

    return signing(key_of(key))


def _name(cube: Cube, place: Destination) -> str:
    """The cube's own name; for one without, that of the repository, not of the folder where it lies today."""
    data = read_layers(cube.file).documents[0].data
    named = isinstance(data, dict) and bool(data.get("name"))
    return cube.name if named else place.repository.name.rpartition("/")[2]


def _content(asked: _Asked, *, inputs: bool, compress: bool) -> Content:
    with Meter("read", 0) as meter:
        return read_content(
            asked.cube,
            inputs=inputs,
            compress=compress,
            check=asked.check,
            progress=meter.advance,
            report=console.note,
        )


def _source(asked: _Asked, content: Content) -> Source:
    """Where the cube comes from: what git says of its folder, or where it was brought from."""
    if asked.obtained is None:
        return find_source(asked.cube.root, os.path.relpath(asked.cube.file, asked.cube.root), content.paths)
    kind, _, commit = (asked.obtained.digest or "").partition(":")
    url = public_address(asked.obtained.reference.url or "")
    return Source(url=url, revision=commit) if kind == "git" else Source(url=url)


def _image(asked: _Asked, *, wanted: bool, build: bool) -> FoundImage | None:
    """Where the image is; one that can be built and is nowhere is built now."""
    cube, place = asked.cube, asked.place
    published = asked.obtained.config if asked.obtained else None
    if published is not None and published.image is not None and published.image.pinned:
        return FoundImage(published=published.image)
    try:
        return find_image(cube, place, wanted=wanted, check=asked.check, report=console.note)
    except PreparationFailed:
        image = cube.image
        if image is None or image.recipe is None or image.strategy == "pull":
            raise
        if not build:
            return FoundImage(published=PublishedImage(reference=image.reference), engine="docker")
    from mlcube.cli.configure import command as configure

    configure(cube.file, platform="docker")
    return find_image(cube, place, wanted=wanted, check=asked.check, report=console.note)


def _pushed(found: FoundImage | None, place: Destination) -> PublishedImage | None:
    if found is None or found.engine is None:
        return found.published if found else None
    console.note(f"pushing the image `{found.published.reference}` as `{place.image}`")
    with console.progress() as descriptor:
        return push_image(found, place, stderr=descriptor)
