"""A cube as registries and bundles have it, in its smallest form: blobs and a manifest."""

import io
import tarfile
from collections.abc import Mapping

from mlcube import oci
from mlcube.artifact import ARTIFACT, CONFIG, FILE, MODE, PACK, PACKED, TITLE, CubeConfig
from mlcube.oci import Descriptor, Manifest

CUBE_FILE = b"name: tiny\ndocker: {image: 'tiny:1'}\ntasks: {train: {}}\n"


def packed(members: Mapping[str, bytes]) -> bytes:
    """A tar of files."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def artifact(
    small: Mapping[str, bytes], large: Mapping[str, bytes], **about: object
) -> tuple[bytes, dict[str, bytes], Manifest]:
    """The manifest of a cube, its blobs by digest, and what the manifest says."""
    pack = packed({"mlcube.yaml": CUBE_FILE, **small})
    config = oci.canonical(CubeConfig(name="tiny", digest=oci.digest_of(CUBE_FILE), **about))  # type: ignore[arg-type]
    blobs = {oci.digest_of(content): content for content in (config, pack, *large.values())}
    layers = [Descriptor(media_type=PACK, digest=oci.digest_of(pack), size=len(pack), annotations={PACKED: "1"})]
    layers += [
        Descriptor(
            media_type=FILE,
            digest=oci.digest_of(content),
            size=len(content),
            annotations={TITLE: name, MODE: "644"},
        )
        for name, content in large.items()
    ]
    manifest = Manifest(
        schema_version=2,
        media_type=oci.MANIFEST,
        artifact_type=ARTIFACT,
        config=Descriptor(media_type=CONFIG, digest=oci.digest_of(config), size=len(config)),
        layers=tuple(layers),
    )
    content = oci.canonical(manifest)
    blobs[oci.digest_of(content)] = content
    return content, blobs, manifest
