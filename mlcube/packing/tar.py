"""A tar file that is the same each time: no clock, no owner, no names, and modes of two kinds."""

__all__ = ["END_BYTES", "header", "padding", "plain", "size_of"]

END_BYTES = 1024
"""Two empty blocks."""

_BLOCK = 512
_LONGEST_NAME = 100
_MODES = ("644", "755")


def size_of(path: str, size: int, target: str | None) -> int:
    """The bytes that a member takes."""
    plainly = len(path) <= _LONGEST_NAME and path.isascii() and target is None
    return (_BLOCK if plainly else len(header(path, size, "644", target))) + size + -size % _BLOCK


def padding(size: int) -> bytes:
    """What fills a member's last block."""
    return bytes(-size % _BLOCK)


def header(path: str, size: int, mode: str, target: str | None = None) -> bytes:
    """The header of a file of that size, or of a link to `target`; preceded by an extended one if names are long."""
    name, link = path.encode(), (target or "").encode()
    records = b""
    if len(name) > _LONGEST_NAME or not path.isascii():
        records += _record("path", name)
    if len(link) > _LONGEST_NAME or not link.isascii():
        records += _record("linkpath", link)
    extended = (
        _block(b"pax_header", len(records), "644", b"x", b"") + records + padding(len(records)) if records else b""
    )
    kind = b"0" if target is None else b"2"
    return extended + _block(_ascii(name), size, mode if target is None else "777", kind, _ascii(link))


def plain(content: bytes) -> list[tuple[str, str, memoryview]] | None:
    """Name, mode and content of each member of a tar file, if `header` makes it of nothing but files with short names.

    None for every other: that one is to be read by who knows all kinds of tar files, and of members.
    """
    found = []
    whole, place, end = memoryview(content), 0, len(content) - END_BYTES
    while place < end:
        block = content[place : place + _BLOCK]
        try:
            path, mode = block[:100].rstrip(b"\0").decode("ascii"), block[104:107].decode()
            size = int(block[124:135], 8)
        except ValueError:
            return None
        begin, place = place + _BLOCK, place + _BLOCK + size + -size % _BLOCK
        if (
            mode not in _MODES
            or place > end
            or size < 0
            or block != header(path, size, mode)
            or any(content[begin + size : place])
        ):
            return None
        found.append((path, mode, whole[begin : begin + size]))
    return found if place == end and content.endswith(bytes(END_BYTES)) else None


def _ascii(name: bytes) -> bytes:
    """What stands in the field where the extended header has the name itself."""
    return name.decode().encode("ascii", "replace")[:_LONGEST_NAME]


def _record(key: str, value: bytes) -> bytes:
    """A record of an extended header, which begins with its own length."""
    rest = b" " + key.encode() + b"=" + value + b"\n"
    length = len(rest)
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest


def _block(name: bytes, size: int, mode: str, kind: bytes, link: bytes) -> bytes:
    zero = b"0000000\0"
    fields = (
        *(name.ljust(100, b"\0"), f"0000{mode}\0".encode(), zero, zero),
        *(f"{size:011o}\0".encode(), b"00000000000\0", b" " * 8, kind, link.ljust(100, b"\0")),
        *(b"ustar\x0000", bytes(64), zero, zero, bytes(167)),
    )
    block = b"".join(fields)
    return block[:148] + f"{sum(block):06o}\0 ".encode() + block[156:]
