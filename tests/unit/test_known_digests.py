"""Digests that are remembered: only of files that cannot have changed since."""

import os
import time
from pathlib import Path

import pytest

from mlcube.known_digests import KnownDigests
from mlcube.oci import digest_of


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file that nobody has touched lately, as far as its modification time says."""
    path = tmp_path / "file"
    path.write_bytes(b"content")
    return path


def reads(known: KnownDigests, path: Path) -> int:
    """How many bytes it reads to know the digest; the whole file counts as one piece when it is remembered."""
    pieces: list[int] = []
    checked: list[int] = []
    digest, size = known.of_file(str(path), lambda: checked.append(1), pieces.append)
    assert (digest, size) == (digest_of(path.read_bytes()), path.stat().st_size)
    assert sum(pieces) == size
    return len(checked)


def test_a_file_that_was_changed_a_moment_ago_is_read_again(old: Path, tmp_path: Path) -> None:
    with KnownDigests(str(tmp_path / "known")) as known:
        assert reads(known, old) == 1
        assert reads(known, old) == 1


def test_an_unchanged_file_is_not_read_again_and_a_changed_one_is(old: Path, tmp_path: Path) -> None:
    with KnownDigests(str(tmp_path / "known")) as known:
        stat = old.stat()
        known.note(f"file:{os.path.realpath(old)}", [stat], digest_of(b"content"), 7, begun=stat.st_ctime + 3)
        assert reads(known, old) == 0
    with KnownDigests(str(tmp_path / "known")) as known:
        assert reads(known, old) == 0
        old.write_bytes(b"CONTENT")
        os.utime(old, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # the time of the change of its inode still tells
        assert reads(known, old) == 1


def test_a_file_from_the_future_is_not_trusted(old: Path, tmp_path: Path) -> None:
    with KnownDigests(str(tmp_path / "known")) as known:
        known.note("file:x", [old.stat()], "sha256:0", 7, begun=old.stat().st_mtime - 100)
        assert known.look("file:x", [old.stat()]) is None


def test_who_notes_for_long_shuts_nobody_out_and_is_not_kept_afterwards(old: Path, tmp_path: Path) -> None:
    place, stat = str(tmp_path / "known"), old.stat()
    later = stat.st_ctime + 3
    with KnownDigests(place) as long, KnownDigests(place) as short:
        assert long.look("a", [stat]) is None
        long.note("a", [stat], "sha256:a", 7, begun=later)
        assert long.look("a", [stat]) == ("sha256:a", 7)
        begun = time.monotonic()
        short.note("b", [stat], "sha256:b", 7, begun=later)
        short.close()
        assert time.monotonic() - begun < 4, "it waited for the other's transaction"
        short.note("c", [stat], "sha256:c", 7, begun=later)
    with KnownDigests(place) as known:
        assert known.look("a", [stat]) == ("sha256:a", 7)
        assert known.look("b", [stat]) == ("sha256:b", 7)
        assert known.look("c", [stat]) is None


def test_many_notes_are_kept_meanwhile(old: Path, tmp_path: Path) -> None:
    place, stat = str(tmp_path / "known"), old.stat()
    held = KnownDigests(place)  # of somebody who could be killed at any time
    for number in range(1500):
        held.note(f"file:{number}", [stat], f"sha256:{number}", 7, begun=stat.st_ctime + 3)
    with KnownDigests(place) as known:
        found = [known.look(f"file:{number}", [stat]) for number in range(1500)]
    held.close()
    assert 1000 <= sum(each is not None for each in found) < 1500


@pytest.mark.parametrize("damage", ["text", "folder"])
def test_a_cache_that_cannot_be_read_is_an_empty_one(damage: str, old: Path, tmp_path: Path) -> None:
    place = tmp_path / "known"
    place.write_text("no database " * 100) if damage == "text" else place.mkdir()
    with KnownDigests(str(place)) as known:
        assert reads(known, old) == 1
