"""The layers of a cube: packs of small files, and each large file by itself."""

import hashlib
import io
import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import BinaryIO

import msgspec

from mlcube import files
from mlcube.artifact import CARD, FILE, FILE_ZSTD, MODE, PACK, PACKED, SMALL_BYTES, TITLE
from mlcube.errors import CubeError, InvalidFile, MissingInput, Problem
from mlcube.known_digests import KnownDigests
from mlcube.oci import Descriptor
from mlcube.packing import tar
from mlcube.packing.compressing import compressed
from mlcube.packing.contents import Entry
from mlcube.parallel import check_stopped, in_parallel

__all__ = ["CARD_FILE", "Layer", "layers"]

CARD_FILE = "README.md"
_PACK_BYTES = 512 << 10
_USUAL_BYTES = 256 << 10
"""A pack ends after so many bytes on average, at files that their paths and sizes choose, whatever lies around them."""
_MOST_AT_ONCE = 4
"""How many large files are read at the same time, if there are as many processors."""


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """A blob that can be made at any time of what lies in the folder; nothing of it is held in memory."""

    descriptor: Descriptor
    open: Callable[[], BinaryIO]
    paths: tuple[str, ...]
    """What is in it."""
    discard: Callable[[], None] = lambda: None
    """Remove what was made beside the folder, as what zstd has packed: it can be made again."""


def layers(
    root: str,
    entries: Sequence[Entry],
    *,
    known: KnownDigests,
    compress: bool = False,
    check: Callable[[], None] = lambda: None,
    progress: Callable[[int], None] = lambda _count: None,
) -> tuple[Layer, ...]:
    """The card if there is one, then packs, then large files: the same for the same content, wherever it lies.

    Large files are read at the same time; `progress` is told how many bytes of them were read, and `check` is asked, in
    any of their threads. Raises MissingInput for what cannot be read, InvalidFile
    for a private key.
    """
    small = [entry for entry in entries if entry.size < SMALL_BYTES]
    card = [entry for entry in small if entry.path == CARD_FILE and entry.target is None]
    found = [_card(root, entry) for entry in card]
    for members in _packs(small):
        check()
        found.append(_pack(root, members, known))
    large = [entry for entry in entries if entry.size >= SMALL_BYTES]

    def look() -> None:
        check_stopped()
        check()

    jobs = [partial(_large, root, entry, known, compress, look, progress) for entry in large]
    found += in_parallel(jobs, workers=min(_MOST_AT_ONCE, os.cpu_count() or 1), check=check)
    return tuple(found)


def _card(root: str, entry: Entry) -> Layer:
    content = _content(root, entry)
    descriptor = Descriptor(
        media_type=CARD,
        digest=f"sha256:{hashlib.sha256(content).hexdigest()}",
        size=len(content),
        annotations={TITLE: entry.path},
    )
    return Layer(descriptor=descriptor, open=lambda: io.BytesIO(_content(root, entry)), paths=(entry.path,))


def _packs(entries: Sequence[Entry]) -> Iterator[tuple[Entry, ...]]:
    """Members of each pack. Where one ends depends on paths and sizes, so that a change stays within its pack."""
    members: list[Entry] = []
    size = tar.END_BYTES
    for entry in entries:
        more = tar.size_of(entry.path, entry.size, entry.target)
        if members and size + more > _PACK_BYTES:
            yield tuple(members)
            members, size = [], tar.END_BYTES
        members.append(entry)
        size += more
        if int.from_bytes(hashlib.sha256(entry.path.encode()).digest()[:4], "big") * _USUAL_BYTES < more << 32:
            yield tuple(members)
            members, size = [], tar.END_BYTES
    if members:
        yield tuple(members)


def _pack(root: str, members: tuple[Entry, ...], known: KnownDigests) -> Layer:
    names = "\0".join(f"{entry.path}\0{entry.mode}\0{entry.target or ''}" for entry in members)
    key = f"pack:1:{hashlib.sha256(f'{os.path.realpath(root)}{chr(0)}{names}'.encode(errors='replace')).hexdigest()}"
    stats = [entry.stat for entry in members]
    begun = time.time()
    found = known.look(key, stats)
    if found is None:
        content = _packed(root, members)
        found = f"sha256:{hashlib.sha256(content).hexdigest()}", len(content)
        known.note(key, stats, *found, begun)
    descriptor = Descriptor(media_type=PACK, digest=found[0], size=found[1], annotations={PACKED: "1"})
    return Layer(
        descriptor=descriptor,
        open=lambda: io.BytesIO(_packed(root, members)),
        paths=tuple(entry.path for entry in members),
    )


def _packed(root: str, members: Sequence[Entry]) -> bytes:
    parts = []
    for entry in members:
        content = _content(root, entry) if entry.target is None else b""
        parts += [tar.header(entry.path, len(content), entry.mode, entry.target), content, tar.padding(len(content))]
    return b"".join((*parts, bytes(tar.END_BYTES)))


def _content(root: str, entry: Entry) -> bytes:
    try:
        content = files.read_small(os.path.join(root, entry.path))
    except OSError as error:
        raise _unreadable(entry, error) from None
    if len(content) != entry.size:
        raise _changed(entry)
    if content.startswith(b"-----BEGIN ") and b"PRIVATE KEY" in content[:64]:
        message = f"`{entry.path}` is a private key, which is for nobody else"
        raise InvalidFile((Problem(message=message, hint="name it in `.cubeignore` to leave it out"),))
    return content


def _large(
    root: str,
    entry: Entry,
    known: KnownDigests,
    compress: bool,
    check: Callable[[], None],
    progress: Callable[[int], None],
) -> Layer:
    path = os.path.join(root, entry.path)
    annotations = {TITLE: entry.path, MODE: entry.mode}
    try:
        if compress:
            packed = compressed(path, known, check, progress)
            descriptor = Descriptor(
                media_type=FILE_ZSTD, digest=packed.digest, size=packed.size, annotations=annotations
            )
            return Layer(descriptor=descriptor, open=packed.open, paths=(entry.path,), discard=packed.discard)
        digest, size = known.of_file(path, check, progress)
    except OSError as error:
        raise _unreadable(entry, error) from None
    if size != entry.size:
        raise _changed(entry)
    descriptor = Descriptor(media_type=FILE, digest=digest, size=size, annotations=annotations)
    return Layer(descriptor=descriptor, open=lambda: _opened(root, entry), paths=(entry.path,))


def _opened(root: str, entry: Entry) -> BinaryIO:
    """Whatever came to lie there since it was looked at: neither a link is followed, nor a pipe waited for."""
    path = os.path.join(root, entry.path)
    try:
        return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
    except OSError as error:
        raise _unreadable(entry, error) from None


def _unreadable(entry: Entry, error: OSError) -> MissingInput:
    reason = (error.strerror or str(error)).lower()
    return MissingInput(f"`{entry.path}` cannot be read: {reason}", hint="name it in `.cubeignore` to leave it out")


def _changed(entry: Entry) -> CubeError:
    return CubeError(f"`{entry.path}` was changed while it was read", hint="try again when nothing writes there")
