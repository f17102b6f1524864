"""The members of a bundle's tar: only those that a bundle has, each exactly as it is written, or it is refused."""

import re

from mlcube.bundling.layout import BLOBS, BLOCK, END, INDEX, INSTALL, LARGEST_DOCUMENT, LAYOUT, header, padding
from mlcube.bundling.parts import Input
from mlcube.errors import Damaged, escaped

__all__ = ["Member", "first_member", "members"]

Member = tuple[int, int]
"""Where the content begins, and its size."""

_MOST_MEMBERS = 1_000_000
_BLOB = re.compile(rf"{BLOBS}[0-9a-f]{{64}}")
_KINDS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"5": "a directory",
    b"6": "a named pipe",
    b"S": "a sparse file",
    b"L": "a long name",
    b"K": "a long link",
    b"x": "an extended header",
    b"g": "an extended header",
}


def members(source: Input) -> dict[str, Member]:
    """Every member by its name, in the order of the file; no content is read.

    Raises Damaged, which names the member, for one that a bundle cannot have, and for a file that does not end as it
    must.
    """
    _check_begin(source)
    found: dict[str, Member] = {}
    place = 0
    while (head := source.read(place, BLOCK)) != bytes(BLOCK):
        name, size = _read(source, head, first=not found)
        if name in found:
            raise Damaged(f"`{source.path}` holds `{name}` twice")
        if len(found) >= _MOST_MEMBERS:
            raise Damaged(f"`{source.path}` holds more than {_MOST_MEMBERS:,} members")
        found[name] = (place + BLOCK, size)
        after = place + BLOCK + size
        gap = padding(size)
        if after + gap + len(END) > source.size:
            raise Damaged(f"`{source.path}` ends within `{name}`", hint=source.hint())
        if gap and source.read(after, gap) != bytes(gap):
            raise Damaged(f"`{source.path}` was changed behind `{name}`, where nothing but zeros may be")
        place = after + gap
    if source.read(place, len(END)) != END or source.size != place + len(END):
        raise Damaged(f"`{source.path}` was changed at its end: after byte {place:,} nothing but an end may follow")
    for needed in (LAYOUT, INDEX):
        if needed not in found:
            raise Damaged(f"`{source.path}` is no bundle: it has no `{needed}`", hint=_HOW)
    return found


def first_member(source: Input) -> tuple[str, Member]:
    """The name of the first one, and where it lies; nothing behind it is looked at. Raises Damaged."""
    _check_begin(source)
    name, size = _read(source, source.read(0, BLOCK), first=True)
    return name, (BLOCK, size)


_HOW = "`cube bundle create` makes bundles"
_SHOWN = 32


def _check_begin(source: Input) -> None:
    """Raise Damaged for what is no bundle at all, with what it is as far as its beginning tells."""
    head = source.read(0, min(BLOCK, source.size))
    if head[257:262] == b"ustar" or (len(head) < BLOCK and head.startswith(LAYOUT.encode())):
        return
    hint = source.hint() if source.is_later_part else _HOW
    if not head:
        raise Damaged(f"`{source.path}` is no bundle: it is empty", hint=hint)
    line = head.partition(b"\n")[0].decode(errors="replace").strip()[:_SHOWN]
    text = line.isprintable() and "\ufffd" not in line and line != ""
    begin = f"`{line}`" if text else f"the bytes {head[:4].hex(' ')}"
    raise Damaged(f"`{source.path}` is no bundle: it begins with {begin}", hint=hint)


def _read(source: Input, head: bytes, *, first: bool) -> tuple[str, int]:
    """Name and size out of a header."""
    if head[257:262] != b"ustar":
        raise Damaged(f"`{source.path}` was changed: a header of its tar cannot be read")
    prefix = head[345:500].split(b"\0")[0] if head[257:265] == b"ustar\x0000" else b""
    whole = b"/".join(part for part in (prefix, head[:100].split(b"\0")[0]) if part)
    name = escaped(whole.decode(errors="backslashreplace"), lines=False)
    if reason := _objection(head, name):
        raise Damaged(f"`{source.path}` holds `{name}`, {reason}", hint=_HOW if first else None)
    size = _size(head)
    if size is None or head != header(name, size):
        raise Damaged(f"`{source.path}` holds `{name}` with a header that no bundle has: it was changed, or is none")
    if name in (LAYOUT, INDEX, INSTALL) and size > LARGEST_DOCUMENT:
        raise Damaged(f"`{source.path}` holds `{name}` of {size:,} bytes, which is too large to be what it is called")
    return name, size


def _objection(head: bytes, name: str) -> str | None:
    """Why a bundle cannot have this member."""
    if kind := _KINDS.get(head[156:157]):
        return f"which is {kind}: a bundle has plain files"
    if name.startswith("/"):
        return "an absolute path"
    if ".." in name.split("/"):
        return "a path that leads out"
    mode = head[100:108].strip(b" \0")
    if mode[-4:-3] in (b"2", b"4", b"6", b"7", b"3", b"5", b"1"):
        return "which has a set-id or sticky bit"
    if name not in (LAYOUT, INDEX, INSTALL) and not _BLOB.fullmatch(name):
        return "which has no place in a bundle"
    return None


def _size(head: bytes) -> int | None:
    field = head[124:136]
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    try:
        return int(field[:11], 8)
    except ValueError:
        return None
