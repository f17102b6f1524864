"""Writes a zoo: the index and its pages, beside what was there before, and then in its place in one step."""

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from mlcube.errors import CubeError, Unreachable, UsageError
from mlcube.zoo.decoding import INDEX_BYTES, decoded
from mlcube.zoo.entries import FORMAT, Entry, Index
from mlcube.zoo.pages import ASSETS, SITE, Pages, of_index
from mlcube.zoo.sources import Described

__all__ = ["build"]

_OURS = ("index.html", "index.json", "all.html", "assets", "cubes")
_MARK = msgspec.json.encode({"format": FORMAT})[:-1]
_OLD_BYTES = 256
_ELSEWHERE = "-o names another place"


def build(
    cubes: Sequence[Described],
    target: str,
    *,
    title: str = "Zoo",
    url: str | None = None,
    check: Callable[[], None] = lambda: None,
) -> Index:
    """Write the site of these cubes to the folder `target`. The same cubes give the same bytes.

    A zoo that lies there is replaced when the new one is whole, and never in part; any other folder is left alone.
    """
    from mlcube.locks import exclusive

    target = os.path.abspath(target)
    _refuse_what_is_no_zoo(target)
    index = of_index([each.entry for each in cubes], title)
    beside = os.path.join(os.path.dirname(target), f".{os.path.basename(target)}.new")
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with exclusive(f"{beside}.lock", wait_seconds=10, target=target, hint=_ELSEWHERE):
            shutil.rmtree(beside, ignore_errors=True)  # what one left that was killed
            try:
                _write(beside, index, cubes, url, check)
                check()
                _replace(target, beside)
            finally:
                shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CubeError(f"`{target}` cannot be written: {reason}", hint=_ELSEWHERE) from None
    return index


def _refuse_what_is_no_zoo(target: str) -> None:
    """A folder with anything else in it is somebody's, and would be gone."""
    if not os.path.lexists(target):
        return
    if os.path.islink(target) or not os.path.isdir(target):
        raise UsageError(f"`{target}` is no folder that a zoo can be written to", hint="-o site")
    names = os.listdir(target)
    if other := sorted(set(names) - set(_OURS)):
        raise UsageError(
            f"`{target}` holds `{other[0]}`, which is no part of a zoo, and would be lost",
            hint="write to a folder of its own, as `-o site`, and copy it from there",
        )
    if not names:
        return
    try:
        with open(os.path.join(target, "index.json"), "rb") as file:
            begins = file.read(_OLD_BYTES)
    except OSError:
        begins = b""
    if not begins.startswith(_MARK):
        raise UsageError(f"`{target}` is no zoo, and would be lost", hint="-o names a folder of its own, as `-o site`")


def _write(folder: str, index: Index, cubes: Sequence[Described], url: str | None, check: Callable[[], None]) -> None:
    content = encoded(index)
    _read_back(content, index)
    pages = Pages(index, url=url)
    os.makedirs(os.path.join(folder, "cubes"))
    os.makedirs(os.path.join(folder, "assets"))
    for name in ASSETS:
        with open(os.path.join(SITE, name), "rb") as file:
            _put(os.path.join(folder, "assets", name), file.read())
    for each, entry in zip(cubes, index.cubes, strict=True):
        check()
        _put(os.path.join(folder, entry.page or ""), pages.cube(entry, each.card).encode("utf-8", "replace"))
    _put(os.path.join(folder, "assets", "index.js"), pages.found().encode("utf-8", "replace"))
    _put(os.path.join(folder, "all.html"), pages.all().encode("utf-8", "replace"))
    _put(os.path.join(folder, "index.html"), pages.search().encode("utf-8", "replace"))
    _put(os.path.join(folder, "index.json"), content)


def encoded(index: Index) -> bytes:
    """The index as a file: a cube in each line, so that a change of one is a change of one line."""
    head = msgspec.json.encode({"format": index.format, "schema": index.schema, "title": index.title})
    lines = b",\n".join(msgspec.json.encode(each) for each in index.cubes)
    return head[:-1] + b',"cubes":[\n' + lines + b"\n]}\n"


def _read_back(content: bytes, index: Index) -> None:
    """Raises CubeError for an index that no `cube` could read, and tells which of its cubes is the reason."""
    if len(content) > INDEX_BYTES:
        raise CubeError(
            f"the index would be longer than the {INDEX_BYTES >> 20} MiB that are read", hint="make several zoos of it"
        )
    try:
        decoded("this zoo", content, Index)
        return
    except Unreachable as error:
        reason = error.problems[0].message
    for each in index.cubes:
        try:
            msgspec.json.decode(msgspec.json.encode(each), type=Entry)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:  # noqa: PERF203 - the first tells enough
            name = f"{each.name} {each.version or ''}".rstrip()
            raise CubeError(f"`{name}` says what no index can hold: {str(error).lower()}") from None
    raise CubeError(f"the index could be read by no `cube`: {reason}")


def _put(path: str, content: bytes) -> None:
    with open(path, "xb") as file:
        file.write(content)


def _replace(target: str, beside: str) -> None:
    """The new folder in place of the old one: in one step where the system can exchange two names."""
    try:
        os.rename(beside, target)  # there is none, or an empty one
        return
    except OSError:
        if not os.path.isdir(target):
            raise
    if _exchanged(target, beside):
        return
    old = f"{beside}.old"
    shutil.rmtree(old, ignore_errors=True)
    os.rename(target, old)
    try:
        os.rename(beside, target)
    except OSError:
        os.rename(old, target)
        raise
    with suppress(OSError):
        shutil.rmtree(old)


def _exchanged(one: str, other: str) -> bool:
    """Whether Linux has exchanged the two names."""
    import ctypes

    here, exchange = -100, 2
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    return bool(rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)
