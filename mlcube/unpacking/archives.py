"""Reads archives, tar and zip, into a folder that refuses what would harm."""

import stat
from typing import TYPE_CHECKING, Any, cast

from mlcube.errors import Damaged
from mlcube.unpacking.folder import Readable, Unpacking, refused, shown

if TYPE_CHECKING:
    from tarfile import TarFile, TarInfo
    from typing import IO

__all__ = ["bounded", "unpack_tar", "unpack_zip"]

_LONGEST_TARGET = 4096
_LONGEST_HEADER = 64 << 10
"""Of an extended header, which is read into memory; of those that hold for all that follows, all together."""
_MOST_HEADERS = 4 << 20
"""What is read of an archive for the headers of one entry, and ahead."""
_BLOCK_BYTES = 1 << 18
_LARGEST_DIRECTORY = 256 << 20
"""Of a zip file: it is read into memory."""
_ZIP_ENTRY = b"PK\1\2"
"""Begins each entry of it."""


def unpack_tar(unpacking: Unpacking, stream: Readable) -> None:
    """Everything in a tar file, which is read once from its beginning to its end."""
    import tarfile

    metered = _Metered(stream)
    try:
        with tarfile.open(
            fileobj=cast("IO[bytes]", metered), mode="r|", bufsize=_BLOCK_BYTES, tarinfo=bounded()
        ) as archive:
            for member in archive:
                metered.grant(member.size if member.isreg() else 0)
                _tar_member(unpacking, archive, member)
                cast(Any, archive).members = []  # its memory of what it has read would grow with the archive
    except RecursionError:
        raise Damaged("the archive has an entry with more headers than any needs: nothing was unpacked") from None
    except (tarfile.TarError, UnicodeError, EOFError, ValueError) as error:
        raise Damaged(f"the archive is no tar file, or it is cut: {error}") from None


def unpack_zip(unpacking: Unpacking, file: "IO[bytes]") -> None:
    """Everything in a zip file."""
    import zipfile
    import zlib

    try:
        archive = zipfile.ZipFile(cast("IO[bytes]", _Directory(file, unpacking.most_members)))
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError) as error:
        raise Damaged(f"the archive is no zip file that can be read: {error}") from None
    declared = sum(member.file_size for member in archive.infolist())
    if declared > unpacking.most_bytes:
        raise Damaged(f"the archive declares {len(archive.infolist())} entries of {declared} bytes: that is too much")
    for member in archive.infolist():
        mode = member.external_attr >> 16
        name = member.filename
        kind = stat.S_IFMT(mode)
        if not name:
            raise refused(name, "has no name")
        if member.is_dir():
            unpacking.directory(name)
        elif kind not in (0, stat.S_IFREG, stat.S_IFLNK):
            raise refused(name, "is a device or a named pipe")
        elif member.flag_bits & 1:
            raise refused(name, "is encrypted")
        elif member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # Of the others the library would have in memory at once whatever a few bytes mean.
            raise refused(name, "is compressed in another way than by `deflate`")
        else:
            try:
                with archive.open(member) as content:
                    if kind == stat.S_IFLNK:
                        unpacking.link(name, content.read(_LONGEST_TARGET + 1).decode())
                    else:
                        unpacking.file(name, mode, member.file_size, content)
            except (
                zipfile.BadZipFile,
                zlib.error,
                EOFError,
                NotImplementedError,
                ValueError,
                OSError,
            ) as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise  # of the disk
                raise Damaged(f"the entry `{shown(name)}` of the archive cannot be read: {error}") from None


def _tar_member(unpacking: Unpacking, archive: "TarFile", member: "TarInfo") -> None:
    unpacking.check()
    name = member.name
    if member.issparse() or any("sparse" in key.lower() for key in member.pax_headers):
        raise refused(name, "is a sparse file")
    if member.mode & (stat.S_ISUID | stat.S_ISGID):
        raise refused(name, "has a set-id bit")
    if member.isdir():
        unpacking.directory(name)
    elif member.isreg():
        unpacking.file(name, member.mode, member.size, cast(Readable, archive.extractfile(member)))
    elif member.issym():
        unpacking.link(name, member.linkname)
    elif member.islnk():
        unpacking.hard_link(name, member.linkname)
    else:
        raise refused(name, "is a device or a named pipe" if member.isdev() else "is of an unknown kind")


class _Directory:
    """A zip file of which the library reads the directory in one piece, and makes objects of all its entries."""

    def __init__(self, file: "IO[bytes]", most_members: int) -> None:
        self._file, self._most_members = file, most_members
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes."""
        if size > _LARGEST_DIRECTORY:
            raise Damaged(f"the archive has a directory of {size:,} bytes, more than any needs: nothing was unpacked")
        piece = self._file.read(size)
        if piece.startswith(_ZIP_ENTRY) and piece.count(_ZIP_ENTRY) > self._most_members:
            raise Damaged(f"the archive has more than {self._most_members:,} entries: nothing was unpacked")
        return piece


class _Metered:
    """A stream of which only so much may be read for headers: some kinds of them grow in memory as they are read."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._left = _MOST_HEADERS

    def grant(self, size: int) -> None:
        """An entry with so many bytes of content comes next, and then the headers of another."""
        self._left = _MOST_HEADERS + size

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes."""
        piece = self._stream.read(size)
        self._left -= len(piece)
        if self._left < 0:
            raise Damaged("the archive has an entry with more headers than any needs: nothing was unpacked")
        return piece


def bounded() -> "type[TarInfo]":
    """An entry whose extended header, which is read into memory whatever its length, is of a reasonable one."""
    import tarfile

    of_all = 0

    class Bounded(tarfile.TarInfo):
        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "Bounded":
            nonlocal of_all
            found = super().frombuf(buf, encoding, errors)
            if found.size < 0:
                raise refused(found.name, "has a size below zero")
            content = found.isfile() or found.isdir() or found.issym() or found.islnk() or found.isdev()
            of_all += found.size if found.type == tarfile.XGLTYPE else 0
            if not content and max(found.size, of_all) > _LONGEST_HEADER:
                raise refused(found.name, "has a header that is longer than any name")
            return found

    return Bounded
