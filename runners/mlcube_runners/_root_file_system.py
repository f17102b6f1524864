"""Makes root file systems out of images, in a directory that keeps each layer once: a step of the sandbox's plans.

    python -m mlcube_runners._root_file_system ARCHIVE STORE NAME REFERENCE

    STORE/layers/sha256-.../files         a layer as it was packed, with `removed.json`: what it hides of lower ones
    STORE/images/sha256-.../root          an image: hard links into its layers; beside it `launch` and `image.json`
    STORE/references/NAME                 a link to the image that a reference means now

Everything appears at its place complete, by a rename. What is not complete yet is called `.new-HOST-PID-...`, goes when
the process ends, and is removed by the next one if that was killed.
"""

import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mlcube_runners._layer import unpack_layer
from mlcube_runners._oci_layout import BadImage, Image, Layer, open_archive
from mlcube_runners._sandbox_launcher import launcher

__all__ = ["main", "unpack"]

_PLACES = ("tmp", "proc", "dev", "sys")
"""What every sandbox mounts something at, and what must therefore be no link."""
_OLD_SECONDS = 86400.0
"""What another host has not completed after this time it never will."""


def unpack(archive: str, store: str, name: str, reference: str) -> str:
    """Unpack the image in `archive` unless it is there, let `name` mean it, and give its id. Raises BadImage."""
    for folder in ("layers", "images", "references"):
        os.makedirs(os.path.join(store, folder), mode=0o700, exist_ok=True)
        _sweep(os.path.join(store, folder))
    with open_archive(archive) as image:
        place = os.path.join(store, "images", image.id.replace(":", "-"))
        if not os.path.isdir(place):
            layers = [_provide(layer, store) for layer in image.layers]
            _assemble(image, layers, place, reference)
    link = os.path.join(store, "references", f".{name}-{os.getpid()}")
    with suppress(FileNotFoundError):
        os.unlink(link)
    os.symlink(os.path.join("..", "images", os.path.basename(place)), link)
    os.replace(link, os.path.join(store, "references", name))
    return image.id


@contextmanager
def _partial(folder: str) -> Iterator[str]:
    """Where something is put together, named after who does it."""
    partial = tempfile.mkdtemp(prefix=f".new-{os.uname().nodename}-{os.getpid()}-", dir=folder)
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _sweep(folder: str) -> None:
    """Remove what processes were putting together that were killed."""
    for entry in os.scandir(folder):
        if entry.name.startswith(".new-"):
            with suppress(FileNotFoundError):
                if _is_left(entry.name, entry.stat(follow_symlinks=False).st_mtime):
                    shutil.rmtree(entry.path, ignore_errors=True)


def _is_left(name: str, modified: float) -> bool:
    host, _, process = name.removeprefix(".new-").rpartition("-")[0].rpartition("-")
    if host != os.uname().nodename or not process.isdecimal():
        return time.time() - modified > _OLD_SECONDS
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def _provide(layer: Layer, store: str) -> str:
    """The directory of a layer, unpacked unless an image before had it too."""
    place = os.path.join(store, "layers", layer.digest.replace(":", "-"))
    if os.path.isdir(place):
        return place
    with _partial(os.path.dirname(place)) as partial:
        files = os.path.join(partial, "files")
        os.mkdir(files)
        with layer.open() as content:
            removed = unpack_layer(content, files)
            content.verify()
        with open(os.path.join(partial, "removed.json"), "w", encoding="utf-8") as file:
            json.dump({"names": removed.names, "opaque": removed.opaque}, file)
        _publish(partial, place)
    return place


def _assemble(image: Image, layers: list[str], place: str, reference: str) -> None:
    """An image out of its layers, with what starts programs in it."""
    with _partial(os.path.dirname(place)) as partial:
        root = os.path.join(partial, "root")
        os.mkdir(root)
        for layer in layers:
            _hide(layer, root)
            _link(os.path.join(layer, "files"), root)
        for name in _PLACES:
            there = os.path.join(root, name)
            if os.path.islink(there) or not os.path.isdir(there):
                _remove(there)
                os.mkdir(there)
        links = {f"/{entry.name}": os.readlink(entry.path) for entry in os.scandir(root) if entry.is_symlink()}
        with open(os.path.join(partial, "launch"), "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(launcher(image.configuration, links))
        with open(os.path.join(partial, "image.json"), "w", encoding="utf-8") as file:
            json.dump({"id": image.id, "digests": [], "reference": reference}, file)
        _publish(partial, place)


def _hide(layer: str, root: str) -> None:
    """Take away what a layer says is gone. Every directory in `root` was made here, so none of them is a link."""
    with open(os.path.join(layer, "removed.json"), encoding="utf-8") as file:
        removed = json.load(file)
    for path in removed["names"]:
        if _is_inside(root, os.path.dirname(path)):
            _remove(os.path.join(root, path))
    for path in removed["opaque"]:
        if _is_inside(root, path):
            for entry in os.listdir(os.path.join(root, path)):
                _remove(os.path.join(root, path, entry))


def _is_inside(root: str, path: str) -> bool:
    """Whether a path of the image is a directory that no link leads to."""
    parts = [part for part in path.split("/") if part]
    places = [os.path.join(root, *parts[: depth + 1]) for depth in range(len(parts))]
    return all(os.path.isdir(place) and not os.path.islink(place) for place in places)


def _link(source: str, target: str) -> None:
    """Put a layer's files above what is there, as hard links, without following any link."""
    with os.scandir(source) as entries:
        for entry in entries:
            place = os.path.join(target, entry.name)
            if entry.is_dir(follow_symlinks=False):
                if os.path.islink(place) or not os.path.isdir(place):
                    _remove(place)
                    os.mkdir(place)
                _link(entry.path, place)
                continue
            try:
                os.link(entry.path, place, follow_symlinks=False)
            except FileExistsError:
                _remove(place)
                _link_or_copy(entry.path, place)
            except OSError:
                _link_or_copy(entry.path, place)
    shutil.copystat(source, target, follow_symlinks=False)


def _link_or_copy(source: str, place: str) -> None:
    """A file system may have no hard links, or no more of them for this file."""
    try:
        os.link(source, place, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, place, follow_symlinks=False)


def _remove(place: str) -> None:
    if os.path.islink(place) or not os.path.isdir(place):
        with suppress(FileNotFoundError):
            os.unlink(place)
    else:
        shutil.rmtree(place)


def _publish(partial: str, place: str) -> None:
    """Give it its name. Whoever was faster has made the same."""
    try:
        os.rename(partial, place)
    except OSError:
        if not os.path.isdir(place):
            raise


def main(words: list[str]) -> str | None:
    """Unpack as the words say; what went wrong, in one sentence."""
    archive, store, name, reference = words
    try:
        unpack(archive, store, name, reference)
    except BadImage as error:
        return f"the image `{reference}` cannot be unpacked: {error}"
    except OSError as error:
        return f"the image `{reference}` cannot be unpacked to `{store}`: {error.strerror}"
    return None


def _end(number: int, _frame: object) -> None:
    """End in order, so that what is not complete is removed."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


if __name__ == "__main__":
    for ending in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, _end)
    sys.exit(main(sys.argv[1:]))
