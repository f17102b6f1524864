"""Reads archives, tar and zip, into a folder that refuses what would harm."""

import stat
from typing import TYPE_CHECKING, Any, cast

from mlcube.errors import Damaged
from mlcube.unpacking.folder import Readable, Unpacking, refused

if TYPE_CHECKING:
    from tarfile import TarFile, TarInfo
    from typing import IO
    from zipfile import ZipFile

__all__ = ["unpack_tar", "unpack_zip"]

_LONGEST_TARGET = 4096
_LONGEST_HEADER = 1 << 20
_BLOCK_BYTES = 1 << 18


def unpack_tar(unpacking: Unpacking, stream: Readable) -> None:
    """Everything in a tar file, which is read once from its beginning to its end."""
    import tarfile

    try:
        with tarfile.open(
            fileobj=cast("IO[bytes]", stream), mode="r|", bufsize=_BLOCK_BYTES, tarinfo=_bounded()
        ) as archive:
            for member in archive:
                _tar_member(unpacking, archive, member)
                cast(Any, archive).members = []  # its memory of what it has read would grow with the archive
    except (tarfile.TarError, UnicodeError, EOFError, ValueError) as error:
        raise Damaged(f"the archive is no tar file, or it is cut: {error}") from None


def unpack_zip(unpacking: Unpacking, archive: "ZipFile") -> None:
    """Everything in a zip file."""
    import zipfile
    import zlib

    declared = sum(member.file_size for member in archive.infolist())
    if declared > unpacking.most_bytes or len(archive.infolist()) > unpacking.most_members:
        raise Damaged(f"the archive declares {len(archive.infolist())} entries of {declared} bytes: that is too much")
    for member in archive.infolist():
        mode = member.external_attr >> 16
        name = member.filename
        kind = stat.S_IFMT(mode)
        if member.is_dir():
            unpacking.directory(name)
        elif kind not in (0, stat.S_IFREG, stat.S_IFLNK):
            raise refused(name, "is a device or a named pipe")
        elif member.flag_bits & 1:
            raise refused(name, "is encrypted")
        else:
            try:
                with archive.open(member) as content:
                    if kind == stat.S_IFLNK:
                        unpacking.link(name, content.read(_LONGEST_TARGET + 1).decode())
                    else:
                        unpacking.file(name, mode, member.file_size, content)
            except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeError) as error:
                raise Damaged(f"the entry `{name}` of the archive cannot be read: {error}") from None


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


def _bounded() -> "type[TarInfo]":
    """An entry whose extended header, which is read into memory whatever its length, is of a reasonable one."""
    import tarfile

    class Bounded(tarfile.TarInfo):
        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "Bounded":
            found = super().frombuf(buf, encoding, errors)
            content = found.isfile() or found.isdir() or found.issym() or found.islnk() or found.isdev()
            if not content and found.size > _LONGEST_HEADER:
                raise refused(found.name, "has a header that is longer than any name")
            return found

    return Bounded
