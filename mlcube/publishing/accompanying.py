"""What accompanies a published cube, as referrers: a bill of materials, and a record of its publication."""

import platform
import re
import time
from typing import Any

from mlcube import __version__, oci
from mlcube.artifact import FILE, FILE_ZSTD, TITLE, PublishedImage
from mlcube.cube import Cube
from mlcube.oci import Descriptor, Manifest
from mlcube.publishing.preparing import Publication
from mlcube.publishing.source import Source

__all__ = ["EMPTY_BLOB", "bill_of_materials", "record", "referrer"]

EMPTY_BLOB = b"{}"
"""The config of an artifact that has none."""
_REQUIREMENT = re.compile(
    r"(?P<name>[A-Za-z0-9][\w.-]*)\s*(?:\[[^\]]*\])?\s*(?:==\s*(?P<version>[\w.!+-]+)\s*(?:;|$))?"
)
_COVERS = (
    "the container image as a whole, the Python requirements as the cube declares them, and the large files;"
    " not the packages inside the image, nor what the requirements themselves need"
)


def referrer(kind: str, content: bytes, subject: Descriptor) -> bytes:
    """The manifest of a document that refers to a cube's."""
    empty = Descriptor(media_type=oci.EMPTY, digest=oci.digest_of(EMPTY_BLOB), size=len(EMPTY_BLOB))
    layer = Descriptor(media_type=kind, digest=oci.digest_of(content), size=len(content))
    named = Descriptor(media_type=subject.media_type, digest=subject.digest, size=subject.size)
    return oci.canonical(
        Manifest(
            schema_version=2,
            media_type=oci.MANIFEST,
            artifact_type=kind,
            config=empty,
            layers=(layer,),
            subject=named,
        )
    )


def bill_of_materials(cube: Cube, publication: Publication, *, name: str, image: PublishedImage | None) -> bytes:
    """What the cube is made of, as CycloneDX; the same for the same cube."""
    components: list[dict[str, Any]] = []
    if image is not None:
        components.append(_image(image))
    components += _requirements(cube)
    for layer in publication.layers:
        descriptor = layer.descriptor
        if descriptor.media_type in (FILE, FILE_ZSTD):
            path = descriptor.annotations[TITLE]
            packed = [{"name": "mlcube:digest-of", "value": "the file packed with zstd"}]
            components.append(
                {
                    "type": "file",
                    "bom-ref": f"file:{path}",
                    "name": path,
                    "hashes": [{"alg": "SHA-256", "content": descriptor.digest.removeprefix("sha256:")}],
                    **({"properties": packed} if descriptor.media_type == FILE_ZSTD else {}),
                }
            )
    about: dict[str, Any] = {
        "type": "application",
        "bom-ref": publication.descriptor.digest,
        "name": name,
        "hashes": [{"alg": "SHA-256", "content": publication.descriptor.digest.removeprefix("sha256:")}],
    }
    if cube.version:
        about["version"] = cube.version
    if cube.description:
        about["description"] = cube.description
    if cube.license:
        about["licenses"] = [{"expression": cube.license}]
    return oci.canonical(
        {
            "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "version": 1,
            "metadata": {"component": about, "properties": [{"name": "mlcube:covers", "value": _COVERS}]},
            "components": components,
            "dependencies": [{"ref": about["bom-ref"], "dependsOn": [each["bom-ref"] for each in components]}],
        }
    )


def record(publication: Publication, *, name: str, image: PublishedImage | None, source: Source) -> bytes:
    """What published the cube, and out of what. It names no person and no machine."""
    return oci.canonical(
        {
            "schema": 1,
            "cube": {"name": name, "digest": publication.descriptor.digest},
            "published": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "tool": {"name": "cube", "version": __version__, "python": platform.python_version()},
            "system": f"{platform.system()} {platform.machine()}",
            "source": source,
            "image": image,
            "layers": len(publication.layers),
            "bytes": sum(layer.descriptor.size for layer in publication.layers),
        }
    )


def _image(image: PublishedImage) -> dict[str, Any]:
    pinned = image.pinned
    found: dict[str, Any] = {"type": "container", "bom-ref": f"image:{pinned or image.reference}"}
    found["name"] = pinned.partition("@")[0] if pinned else image.reference
    if pinned:
        digest = pinned.partition("@")[2]
        last = found["name"].rpartition("/")[2]
        found["version"] = digest
        found["purl"] = f"pkg:oci/{last}@{digest.replace(':', '%3A')}?repository_url={found['name']}"
    return found


def _requirements(cube: Cube) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for line in (cube.python.requirements if cube.python else "").splitlines():
        text = re.sub(r"(^|\s)#.*", "", line).strip()
        match = _REQUIREMENT.match(text)
        if match is None:
            continue
        name = re.sub(r"[-_.]+", "-", match["name"]).lower()
        component: dict[str, Any] = {"type": "library", "bom-ref": f"python:{name}", "name": name}
        if version := match["version"]:
            component["version"] = version
        component["purl"] = f"pkg:pypi/{name}{f'@{version}' if version else ''}"
        component["properties"] = [{"name": "mlcube:requirement", "value": text}]
        found.setdefault(name, component)
    return list(found.values())
