"""Reads container images out of files: what `docker save`, `podman save` and skopeo write, packed or as a directory.

Needs nothing but the standard library, because it is run as a step of a plan.
"""

import contextlib
import gzip
import hashlib
import json
import os
import tarfile
from collections.abc import Iterator
from typing import IO, Any

__all__ = ["Archive", "BadImage", "Image", "Layer", "open_archive"]

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "ppc64le": "ppc64le", "s390x": "s390x"}
_LARGEST_DOCUMENT = 16 << 20


class BadImage(Exception):
    """An image that cannot be unpacked, with the reason."""


class Archive:
    """The files of an image, by their names in it."""

    def open(self, name: str) -> IO[bytes]:
        """A file's content. Raises BadImage when there is none of that name."""
        raise NotImplementedError

    def has(self, name: str) -> bool:
        """Whether there is a file of that name."""
        raise NotImplementedError

    def document(self, name: str) -> tuple[Any, bytes]:
        """A JSON file, decoded and as it is."""
        with self.open(name) as file:
            text = file.read(_LARGEST_DOCUMENT + 1)
        if len(text) > _LARGEST_DOCUMENT:
            raise BadImage(f"`{name}` is too large to be a description of an image")
        try:
            return json.loads(text), text
        except (ValueError, RecursionError):
            raise BadImage(f"`{name}` is no JSON") from None


class _Packed(Archive):
    def __init__(self, packed: tarfile.TarFile) -> None:
        self._packed = packed
        self._members = {
            os.path.normpath(member.name): member for member in packed if member.isfile() or member.issym()
        }

    def has(self, name: str) -> bool:
        return os.path.normpath(name) in self._members

    def open(self, name: str) -> IO[bytes]:
        member = self._members.get(os.path.normpath(name))
        if member is not None and member.issym():  # Docker once linked layers that several images share
            member = self._members.get(os.path.normpath(os.path.join(os.path.dirname(member.name), member.linkname)))
        found = self._packed.extractfile(member) if member is not None and member.isfile() else None
        if found is None:
            raise BadImage(f"there is no file `{name}` in it")
        return found


class _Directory(Archive):
    def __init__(self, path: str) -> None:
        self._path = path

    def has(self, name: str) -> bool:
        return os.path.isfile(self._place(name))

    def open(self, name: str) -> IO[bytes]:
        if not self.has(name):
            raise BadImage(f"there is no file `{name}` in it")
        return open(self._place(name), "rb")

    def _place(self, name: str) -> str:
        place = os.path.normpath(name)
        if place.startswith(("/", "..")):
            raise BadImage(f"it names the file `{name}`, which is outside of it")
        return os.path.join(self._path, place)


class Layer:
    """One layer: the digest of its uncompressed content, and where it lies."""

    def __init__(self, archive: Archive, name: str, digest: str) -> None:
        self.digest = digest
        self._archive = archive
        self._name = name

    @contextlib.contextmanager
    def open(self) -> Iterator["Verified"]:
        """Its content, uncompressed; whoever has read it all asks `verify`."""
        with self._archive.open(self._name) as file:
            start = file.read(4)
            file.seek(0)
            if start.startswith(b"\x1f\x8b"):
                with gzip.GzipFile(fileobj=file) as unpacked:
                    yield Verified(unpacked, self.digest)
            elif start == b"\x28\xb5\x2f\xfd":
                with _zstd(file) as unpacked:
                    yield Verified(unpacked, self.digest)
            else:
                yield Verified(file, self.digest)


class Verified:
    """A stream that knows what its content should have been."""

    def __init__(self, source: Any, digest: str) -> None:
        self._source = source
        self._digest = digest
        self._hash = hashlib.sha256()

    def read(self, size: int) -> bytes:
        """The next bytes."""
        try:
            content: bytes = self._source.read(size)
        except (OSError, EOFError) as error:
            raise BadImage(f"layer `{self._digest}` cannot be read: {error}") from None
        self._hash.update(content)
        return content

    def verify(self) -> None:
        """Read what is left. Raises BadImage when the content was not what the image says."""
        while self.read(1 << 20):
            pass
        if f"sha256:{self._hash.hexdigest()}" != self._digest:
            raise BadImage(f"layer `{self._digest}` is damaged: its content has another digest")


class Image:
    """An image: its configuration, its id and its layers, the lowest first."""

    def __init__(self, archive: Archive, configuration: str, layers: list[str]) -> None:
        found, text = archive.document(configuration)
        try:
            self.configuration: dict[str, Any] = found.get("config") or {}
            digests = list(found["rootfs"]["diff_ids"])
        except (KeyError, TypeError, AttributeError):
            raise BadImage("its configuration names no layers") from None
        if len(digests) != len(layers) or not all(_is_digest(digest) for digest in digests):
            raise BadImage("its configuration and its list of layers disagree")
        self.id = f"sha256:{hashlib.sha256(text).hexdigest()}"
        self.layers = [Layer(archive, name, digest) for name, digest in zip(layers, digests, strict=True)]


@contextlib.contextmanager
def open_archive(path: str) -> Iterator[Image]:
    """The image in a file or directory. Raises BadImage when there is none that fits this machine."""
    if os.path.isdir(path):
        yield _image(_Directory(path))
        return
    try:
        with tarfile.open(path, encoding="utf-8", errors="surrogateescape") as packed:
            yield _image(_Packed(packed))
    except (tarfile.TarError, OSError) as error:
        raise BadImage(f"it cannot be read: {error}") from None


def _image(archive: Archive) -> Image:
    if archive.has("manifest.json"):
        found, _ = archive.document("manifest.json")
        try:
            return Image(archive, found[0]["Config"], found[0]["Layers"])
        except (KeyError, TypeError, IndexError, AttributeError):
            raise BadImage("its `manifest.json` describes no image") from None
    if archive.has("index.json"):
        found, _ = archive.document("index.json")
        manifest = _choose(archive, found)
        try:
            layers = [_blob(layer) for layer in manifest["layers"]]
            return Image(archive, _blob(manifest["config"]), layers)
        except (KeyError, TypeError, AttributeError):
            raise BadImage("its manifest names no configuration or no layers") from None
    raise BadImage("it holds no image: neither `manifest.json` nor `index.json` is in it")


def _choose(archive: Archive, index: Any, depth: int = 0) -> Any:
    """The manifest for this machine."""
    entries = index.get("manifests") if isinstance(index, dict) else None
    if not isinstance(entries, list) or not entries or depth > 3:
        raise BadImage("its index names no manifest")
    machine = _MACHINES.get(os.uname().machine, os.uname().machine)
    fitting = [entry for entry in entries if (entry.get("platform") or {}).get("architecture") == machine]
    if len(entries) > 1 and not fitting:
        raise BadImage(f"it holds no image for this machine (`{machine}`)")
    found, _ = archive.document(_blob((fitting or entries)[0]))
    return _choose(archive, found, depth + 1) if isinstance(found, dict) and "manifests" in found else found


def _blob(descriptor: Any) -> str:
    digest = descriptor["digest"]
    if not _is_digest(digest):
        raise BadImage(f"`{digest}` is no digest")
    return f"blobs/sha256/{digest.partition(':')[2]}"


def _is_digest(text: Any) -> bool:
    """Whether it is a digest, and can so be a name of a file."""
    if not isinstance(text, str) or not text.startswith("sha256:"):
        return False
    return len(text) == 71 and all(character in "0123456789abcdef" for character in text[7:])


@contextlib.contextmanager
def _zstd(file: IO[bytes]) -> Iterator[Any]:
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]  # since Python 3.14
    except ImportError:
        try:
            from backports import zstd  # type: ignore[import-not-found,unused-ignore]
        except ImportError:
            raise BadImage("its layers are packed with zstd, for which this Python needs `backports.zstd`") from None
    with zstd.ZstdFile(file) as unpacked:
        yield unpacked
