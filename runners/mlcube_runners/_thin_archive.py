"""Leaves out of an image's archive the layers that another host has: a step of plans that send images.

    python -m mlcube_runners._thin_archive archive|directory

Reads a line with the image's id and a JSON list of its layers, a line with such a list for each image that is there,
an empty line, and then what `docker save` or `podman save` prints. Writes a line with the id and the form, and then a
tar archive: in the form `archive` what was read, for `docker load`; in the form `directory` the image as `podman pull
dir:` finds it in `image`, and its names in `names`. Layers are known by the digests of their content.
"""

import hashlib
import io
import json
import re
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from typing import IO, Any

__all__ = ["main", "thin"]

_NAMED = re.compile(r"(?:blobs/sha256/)?([0-9a-f]{64})(?:\.tar)?")
_LARGEST_DOCUMENT = 16 << 20
_MANIFEST, _LAYER, _CONFIGURATION = (
    f"application/vnd.docker.{kind}"
    for kind in ("distribution.manifest.v2+json", "image.rootfs.diff.tar", "container.image.v1+json")
)


def thin(source: IO[bytes], target: IO[bytes], form: str) -> None:
    """Copy an image without the layers that are there. Raises ValueError or TarError when it is not understood."""
    identity, _, layers = source.readline().decode().partition(" ")
    left_out = _left_out(json.loads(layers), [json.loads(line) for line in iter(source.readline, b"\n") if line])
    target.write(f"{identity} {form}\n".encode())
    with (
        tarfile.open(fileobj=source, mode="r|") as packed,
        tarfile.open(fileobj=target, mode="w|") as written,
    ):
        (_as_directory if form == "directory" else _as_archive)(packed, written, left_out)


def _left_out(layers: list[str], there: list[list[str] | None]) -> set[str]:
    """Engines keep a layer together with those below it, so it is there if another image begins like this one."""
    shared = 0
    for others in there:
        same = 0
        for own, other in zip(layers, others or (), strict=False):
            if own != other:
                break
            same += 1
        shared = max(shared, same)
    digests = set(layers[:shared]) - set(layers[shared:])  # the same content above is another layer
    return {digest.removeprefix("sha256:") for digest in digests}


def _as_archive(packed: tarfile.TarFile, written: tarfile.TarFile, left_out: set[str]) -> None:
    whole = False
    for member in packed:
        content = packed.extractfile(member) if member.isfile() else None
        whole = whole or member.name == "manifest.json"
        if _digest(member.name) in left_out:
            continue
        if content is not None and left_out and member.name.endswith("/layer.tar"):  # before Docker 25
            with tempfile.TemporaryFile() as kept:
                if _copy(content, kept) not in left_out:
                    kept.seek(0)
                    written.addfile(member, kept)
            continue
        written.addfile(member, content)
    if not whole:
        raise ValueError("the archive has no end")


def _as_directory(packed: tarfile.TarFile, written: tarfile.TarFile, left_out: set[str]) -> None:
    documents: dict[str, bytes] = {}
    sizes: dict[str, int] = {}
    for member in packed:
        content = packed.extractfile(member) if member.isfile() else None
        if content is None:
            continue
        if member.name.endswith(".json") and member.size <= _LARGEST_DOCUMENT:
            documents[member.name] = content.read()
        elif digest := _digest(member.name):
            sizes[f"{digest}.tar"] = member.size
            if digest not in left_out:
                _add(written, f"image/{digest}", content, member.size)
    for name, text in _documents(documents, sizes):
        _add(written, name, io.BytesIO(text), len(text))


def _documents(documents: dict[str, bytes], sizes: dict[str, int]) -> Iterator[tuple[str, bytes]]:
    """What describes the image: its configuration as it is, and a manifest of layers that are not compressed."""
    described: dict[str, Any] = json.loads(documents["manifest.json"])[0]
    configuration = documents[described["Config"]]
    digests = json.loads(configuration)["rootfs"]["diff_ids"]
    if [f"{digest.removeprefix('sha256:')}.tar" for digest in digests] != described["Layers"]:
        raise ValueError("the layers are not named by their digests")
    digest = hashlib.sha256(configuration).hexdigest()
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": {"mediaType": _CONFIGURATION, "size": len(configuration), "digest": f"sha256:{digest}"},
        "layers": [
            {"mediaType": _LAYER, "size": sizes[name], "digest": f"sha256:{name.removesuffix('.tar')}"}
            for name in described["Layers"]
        ],
    }
    yield f"image/{digest}", configuration
    yield "image/version", b"Directory Transport Version: 1.1\n"
    yield "names", "".join(f"{name}\n" for name in described["RepoTags"] or ()).encode()
    yield "image/manifest.json", json.dumps(manifest).encode()


def _add(written: tarfile.TarFile, name: str, content: IO[bytes], size: int) -> None:
    member = tarfile.TarInfo(name)
    member.size = size
    written.addfile(member, content)


def _digest(name: str) -> str | None:
    """The digest that a file of an archive has for its name."""
    found = _NAMED.fullmatch(name)
    return found[1] if found else None


def _copy(source: IO[bytes], target: IO[bytes]) -> str:
    """Copy, and give the digest of what was copied."""
    digest = hashlib.sha256()
    while block := source.read(1 << 20):
        digest.update(block)
        target.write(block)
    return digest.hexdigest()


def main(words: list[str]) -> str | None:
    """Copy from standard input to standard output; what went wrong, in one sentence."""
    try:
        thin(sys.stdin.buffer, sys.stdout.buffer, words[0])
        sys.stdout.buffer.flush()
    except (tarfile.TarError, ValueError, LookupError, OSError) as error:
        return f"the image cannot be sent in part: {error}"
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
