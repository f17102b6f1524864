"""Archives of all kinds are unpacked whole, or refused with the name of the entry and without a trace."""

import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mlcube.errors import CubeError, Damaged
from mlcube.unpacking import Unpacking, remove, unpack_tar, unpack_zip

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
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_leaves_nothing(kind: str, tmp_path: Path) -> None:
    root = tmp_path / "inner" / "root"
    with pytest.raises(Damaged, match="the entry `") as caught, Unpacking(str(root)) as unpacking:
        unpack_tar(unpacking, tar(("before", {}), *HOSTILE[kind]))
    assert any(f"`{name}`" in str(caught.value) for name, _ in HOSTILE[kind])
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


@pytest.mark.parametrize("cut", [lambda content: content[:700], lambda content: b"\1" + content[1:]])
def test_a_cut_or_changed_archive_is_damaged(cut: Callable[[bytes], bytes], tmp_path: Path) -> None:
    content = tar(("a", {}), content=b"y" * 1000).getvalue()
    with pytest.raises(Damaged), Unpacking(str(tmp_path / "root")) as unpacking:
        unpack_tar(unpacking, io.BytesIO(cut(content)))


def test_zip_files_are_held_to_the_same(tmp_path: Path) -> None:
    def packed(*entries: tuple[str, int]) -> zipfile.ZipFile:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, mode in entries:
                entry = zipfile.ZipInfo(name)
                entry.external_attr = mode << 16
                archive.writestr(entry, "a.txt")
        return zipfile.ZipFile(stream)

    with Unpacking(str(tmp_path / "good")) as unpacking, packed(("a.txt", 0), ("d/l", stat.S_IFLNK | 0o777)) as found:
        unpack_zip(unpacking, found)
        unpacking.finish()
    assert (tmp_path / "good/d/l").readlink() == Path("a.txt")
    for name, mode in (("../x", 0), ("/x", 0), ("a", stat.S_IFIFO), ("s", stat.S_IFREG | 0o4755)):
        with (
            pytest.raises(Damaged, match="the entry"),
            packed((name, mode)) as found,
            Unpacking(str(tmp_path / "bad")) as unpacking,
        ):
            unpack_zip(unpacking, found)
        assert not (tmp_path / "bad").exists()


def test_a_full_or_forbidden_disk_is_told_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CubeError, match="cannot be written: file name too long"), Unpacking(str(tmp_path / "r")) as u:
        unpack_tar(u, tar(("n" * 300, {})))
    assert not (tmp_path / "r").exists()
