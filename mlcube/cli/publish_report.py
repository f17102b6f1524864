"""What `cube publish` prints: what it would send, or what became of it."""

import re
from typing import Any

from mlcube.artifact import PublishedImage
from mlcube.cli import console
from mlcube.cli.meter import amount
from mlcube.cube import Cube
from mlcube.errors import CubeError, Refused
from mlcube.publishing import Destination, Former, FoundImage, Publication, Sent, Source, former, missing
from mlcube.registry import Registry

__all__ = ["note_version", "show_plan", "show_result"]


_VERSION = re.compile(r"v?[0-9][A-Za-z0-9._-]*")


def note_version(place: Destination, cube: Cube) -> None:
    """Say where the tag reads like a version and the cube says that it has another one: zoos go by the cube's."""
    tag, version = place.tag.removeprefix("v"), (cube.version or "").removeprefix("v")
    if _VERSION.fullmatch(tag) and version and tag != version and not version.startswith((f"{tag}.", f"{tag}+")):
        console.note(f"the tag is `{place.tag}`, but the cube's `version` is `{cube.version}`, which a zoo shows")


def show_plan(
    place: Destination, publication: Publication, source: Source, found: FoundImage | None, *, as_json: bool
) -> None:
    """What would be sent. The digest is not known before an image has been pushed."""
    pushes = found is not None and found.engine is not None
    before, reason = _former(place)
    there = before.blobs if before else frozenset()
    rows = [_row(each.descriptor.digest, each.descriptor.size, each.paths, there) for each in publication.layers]
    to_send = sum(blob.descriptor.size for blob in missing(publication, there))
    if as_json:
        console.document(
            {
                "reference": str(place),
                "digest": None if pushes else publication.descriptor.digest,
                "layers": rows,
                "config": {"digest": None if pushes else publication.config_descriptor.digest},
                "bytes": to_send,
                "registry": reason or "asked",
                "image": _plain(found.published) if found else None,
                "pushes": place.image if pushes else None,
                "source": _plain(source),
            }
        )
        return
    table = [
        (row["digest"][:19], amount(row["size"]), "there" if row["there"] else "to send", _named(row["paths"]))
        for row in rows
    ]
    if table:
        console.table([("layer", "size", "", "content"), *table])
    if found is not None:
        pinned = found.published.pinned
        console.result(f"image     {pinned or found.published.reference}")
        if pushes:
            console.result(f"          would be pushed as {place.image}, and pinned by the digest that it then has")
        elif not pinned:
            console.result("          is neither pushed nor pinned")
    console.result(f"manifest  {'not known before the image is pushed' if pushes else publication.descriptor.digest}")
    console.result(f"to send   at most {amount(to_send)}, to {place}")
    if reason:
        console.note(f"what the registry has is not known: {reason}")


def _former(place: Destination) -> tuple[Former | None, str | None]:
    """What the tag leads to; or why that cannot be known now."""
    try:
        with Registry(place.repository) as registry:
            return former(registry, place.tag), None
    except Refused:
        raise
    except CubeError as error:
        return None, error.problems[0].message


def _row(digest: str, size: int, paths: tuple[str, ...], there: frozenset[str]) -> dict[str, Any]:
    return {"digest": digest, "size": size, "there": digest in there, "paths": list(paths)}


def _named(paths: list[str]) -> str:
    return paths[0] if len(paths) == 1 else f"{len(paths)} files, {paths[0]} to {paths[-1]}"


def show_result(
    place: Destination,
    publication: Publication,
    sent: Sent,
    before: str | None,
    image: PublishedImage | None,
    *,
    as_json: bool,
) -> None:
    """What was published; stdout has the one name that leads to exactly that."""
    pinned = f"oci://{place.repository}@{sent.digest}"
    if as_json:
        console.document(
            {
                "reference": str(place),
                "digest": sent.digest,
                "pinned": pinned,
                "unchanged": sent.unchanged,
                "former": before,
                "sent_bytes": sent.bytes,
                "bytes": sum(layer.descriptor.size for layer in publication.layers),
                "image": _plain(image),
                "referrers": [{"type": kind, "digest": digest} for kind, digest in sent.referrers],
            }
        )
        return
    console.note(f"{'it was published before' if sent.unchanged else 'published'}, {amount(sent.bytes)} sent")
    if before and not sent.unchanged:
        console.note(f"the tag led to {before} before")
    if image is not None and image.pinned is None:
        console.note(f"the image `{image.reference}` is not pinned: it can be another one tomorrow")
    console.result(pinned)


def _plain(value: Any) -> Any:
    import msgspec

    return msgspec.to_builtins(value)
