"""Small bundles for tests: a cube's artifact out of bytes, and tars that somebody with bad intent has made."""

import io
from functools import partial
from pathlib import Path

from mlcube import oci
from mlcube.artifact import ARTIFACT, CONFIG, FILE, MODE, TITLE
from mlcube.bundling.creating import Artifact, Gathered, Piece, create_bundle
from mlcube.bundling.layout import CUBE

YAML = b"name: little\nversion: '1.0'\npython: {source: .}\ntasks: {hello: {entrypoint: python hello.py}}\n"


def cube_artifact(contents: dict[str, bytes], name: str = "little:1.0") -> Artifact:
    """The artifact of a cube whose files are all layers of their own."""
    told = oci.canonical({"schema": 1, "name": "little", "digest": oci.digest_of(contents.get("mlcube.yaml", b""))})
    config = oci.Descriptor(media_type=CONFIG, digest=oci.digest_of(told), size=len(told))
    layers = tuple(
        oci.Descriptor(
            media_type=FILE, digest=oci.digest_of(content), size=len(content), annotations={TITLE: path, MODE: "644"}
        )
        for path, content in contents.items()
    )
    manifest = oci.Manifest(
        schema_version=2, media_type=oci.MANIFEST, config=config, layers=layers, artifact_type=ARTIFACT
    )
    blobs = [*zip(layers, contents.values(), strict=True), (config, told)]
    pieces = tuple(Piece(descriptor, partial(io.BytesIO, content)) for descriptor, content in blobs)
    return Artifact(
        name=name, role=CUBE, manifest=oci.canonical(manifest), artifact_type=ARTIFACT, pieces=pieces
    )  # fmt: skip


def make(path: Path, contents: dict[str, bytes] | None = None, **options: object) -> Path:
    """A bundle with nothing but a cube."""
    gathered = Gathered(cube=cube_artifact(contents or {"mlcube.yaml": YAML, "weights.bin": bytes(range(256)) * 40}))
    create_bundle(str(path), gathered, **options)  # type: ignore[arg-type]
    return path
