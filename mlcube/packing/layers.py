"""The layers of a cube: packs of small files, and each large file by itself."""

import hashlib
import io
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import BinaryIO

import msgspec

from mlcube import files
from mlcube.artifact import CARD, FILE, FILE_ZSTD, MODE, PACK, PACKED, SMALL_BYTES, TITLE
from mlcube.compression import most_unpacked
from mlcube.errors import CubeError, InvalidFile, MissingInput, Problem
from mlcube.known_digests import KnownDigests
from mlcube.oci import Descriptor
from mlcube.packing import tar
from mlcube.packing.compressing import Changed, Compressed, compressed
from mlcube.packing.contents import Entry
from mlcube.parallel import by_processors, in_parallel, stopping

__all__ = ["CARD_FILE", "Layer", "layers"]

CARD_FILE = "README.md"
_PACK_BYTES = 512 << 10
_USUAL_BYTES = 256 << 10
"""A pack ends after so many bytes on average, at files that their paths and sizes choose, whatever lies around them."""


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

    Large files are read at the same time: `progress` is told, in any of their threads, how many bytes of them were
    read, and `check` is asked there too. Raises MissingInput for what cannot be read, InvalidFile for a private key,
    CubeError for what is changed meanwhile.
    """
    small = [entry for entry in entries if entry.size < SMALL_BYTES]
    card = [entry for entry in small if entry.path == CARD_FILE and entry.target is None]
    found = [_card(root, entry) for entry in card]
    for members in _packs(small):
        check()
        found.append(_pack(root, members, known))
    large = [entry for entry in entries if entry.size >= SMALL_BYTES]
    jobs = {
        entry.path: partial(_large, root, entry, known, compress, stopping(check), progress)
        for entry in sorted(large, key=lambda entry: -entry.size)  # those first that take longest
    }
    read = dict(zip(jobs, in_parallel(list(jobs.values()), workers=by_processors(), check=check), strict=True))
    return (*found, *(read[entry.path] for entry in large))


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
    """Members of each pack. Where one ends depends on paths and sizes, so that a change touches few."""
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
    with _told(entry):
        content = files.read_small(os.path.join(root, entry.path))
        if len(content) != entry.size:
            raise Changed
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
    with _told(entry):
        digest, size = known.of_file(path, check, progress)
        if size != entry.size:
            raise Changed
        packed = compressed(path, digest, known, check) if compress else None
    if packed and size <= most_unpacked(packed.size):
        descriptor = Descriptor(media_type=FILE_ZSTD, digest=packed.digest, size=packed.size, annotations=annotations)
        opened = partial(_packed_once_more, entry, packed)
        return Layer(descriptor=descriptor, open=opened, paths=(entry.path,), discard=packed.discard)
    if packed:
        packed.discard()  # nobody would unpack it
    descriptor = Descriptor(media_type=FILE, digest=digest, size=size, annotations=annotations)
    return Layer(descriptor=descriptor, open=lambda: _opened(root, entry), paths=(entry.path,))


def _packed_once_more(entry: Entry, packed: Compressed) -> BinaryIO:
    with _told(entry):
        return packed.open()


def _opened(root: str, entry: Entry) -> BinaryIO:
    """Whatever came to lie there since it was looked at: neither a link is followed, nor a pipe waited for."""
    path = os.path.join(root, entry.path)
    with _told(entry):
        return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")


@contextmanager
def _told(entry: Entry) -> Iterator[None]:
    """What is wrong with a file is told with its name."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise MissingInput(
            f"`{entry.path}` cannot be read: {reason}", hint="name it in `.cubeignore` to leave it out"
        ) from None
    except Changed:
        raise CubeError(
            f"`{entry.path}` was changed while it was read", hint="try again when nothing writes there"
        ) from None
