"""A folder as layers: the same bytes wherever it lies, whoever owns it, and whatever the clock says."""

import io
import os
import resource
import signal
import stat
import tarfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlcube import directories
from mlcube.artifact import CARD, FILE, FILE_ZSTD, MODE, PACK, SMALL_BYTES, TITLE
from mlcube.compression import zstd
from mlcube.errors import CubeError, Interrupted, InvalidFile, MissingInput
from mlcube.known_digests import KnownDigests
from mlcube.oci import digest_of
from mlcube.packing import Layer, contents, layers, tar

NAMES = st.text(st.sampled_from("abcäλ .-_$'\"\n雪"), min_size=1, max_size=12).filter(
    lambda name: name not in (".", "..")
)
TREES = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=3).map("/".join),
    st.tuples(st.binary(max_size=600), st.booleans()),
    min_size=1,
    max_size=12,
)


def fill(root: Path, tree: Mapping[str, tuple[bytes, bool]]) -> dict[str, tuple[bytes, bool]]:
    """Write what can lie side by side."""
    written = {}
    for path, (content, executable) in tree.items():
        places = ["/".join(path.split("/")[: end + 1]) for end in range(path.count("/") + 1)]
        if any(place in written for place in places) or (root / path).exists():
            continue
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
        (root / path).chmod(0o755 if executable else 0o644)
        written[path] = (content, executable)
    return written


def packed(root: Path, *, known: KnownDigests | None = None, compress: bool = False) -> tuple[Layer, ...]:
    with known or KnownDigests(str(root.parent / f"{root.name}.sqlite")) as kept:
        return layers(str(root), contents(str(root)), known=kept, compress=compress)


def members(layer: Layer) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    found: dict[str, tuple[tarfile.TarInfo, bytes]] = {}
    with layer.open() as file, tarfile.open(fileobj=io.BytesIO(file.read())) as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isreg() else None
            found[member.name] = (member, content.read() if content else b"")
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=TREES, umask=st.sampled_from([0o022, 0o077, 0o002]), clock=st.integers(0, 2**33))
def test_same_content_has_the_same_layers_and_comes_out_as_it_went_in(
    tree: dict[str, tuple[bytes, bool]], umask: int, clock: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    here, there = tmp_path_factory.mktemp("here"), tmp_path_factory.mktemp("there")
    written = fill(here, tree)
    before = os.umask(umask)
    try:
        fill(there, dict(reversed(written.items())))
        for path in written:
            os.chmod(there / path, stat.S_IMODE((there / path).stat().st_mode) & ~umask)
            os.utime(there / path, (clock, clock))
    finally:
        os.umask(before)
    ours, theirs = packed(here), packed(there)
    assert [layer.descriptor for layer in ours] == [layer.descriptor for layer in theirs]
    found: dict[str, tuple[tarfile.TarInfo, bytes]] = {}
    for layer in ours:
        with layer.open() as file:
            content = file.read()
        assert (digest_of(content), len(content)) == (layer.descriptor.digest, layer.descriptor.size)
        found |= members(layer)
    assert {name: (content, member.mode) for name, (member, content) in found.items()} == {
        path: (content, 0o755 if executable else 0o644) for path, (content, executable) in written.items()
    }
    assert {(member.uid, member.gid, member.mtime, member.uname) for member, _ in found.values()} == {(0, 0, 0, "")}


def test_card_packs_and_large_files_come_in_this_order(tmp_path: Path) -> None:
    root = tmp_path / "cube"
    root.mkdir()
    (root / "README.md").write_text("# A cube\n")
    (root / "a.bin").write_bytes(b"x" * SMALL_BYTES)
    (root / "a.bin").chmod(0o700)
    (root / "b.bin").write_bytes(b"y" * (SMALL_BYTES - 1))
    found = [layer.descriptor for layer in packed(root)]
    assert [each.media_type for each in found][:2] == [CARD, PACK]
    assert found[-1].media_type == FILE
    assert found[-1].annotations == {TITLE: "a.bin", MODE: "755"}
    assert found[0].annotations == {TITLE: "README.md"}
    assert [path for layer in packed(root)[1:] for path in layer.paths] == ["README.md", "b.bin", "a.bin"]


def test_one_changed_line_changes_one_small_pack(tmp_path: Path) -> None:
    root = tmp_path / "cube"
    root.mkdir()
    for number in range(400):
        (root / f"file{number:03}.py").write_bytes(bytes([number % 256]) * 7000)
    before = {layer.descriptor.digest: layer for layer in packed(root)}
    with open(root / "file200.py", "ab") as file:
        file.write(b"# a line\n")
    (root / "file2001.py").write_text("a new file\n")
    after = packed(root)
    changed = [layer for layer in after if layer.descriptor.digest not in before]
    assert len(after) > 8
    assert len(changed) == 1
    assert changed[0].descriptor.size < 1 << 20


@pytest.mark.parametrize(("count", "size"), [(3000, 300), (60, 150_000)], ids=["tiny", "as large as packs"])
def test_a_file_that_comes_between_shifts_few_packs(tmp_path: Path, count: int, size: int) -> None:
    root = tmp_path / "cube"
    root.mkdir()
    for number in range(count):
        (root / f"{number:05}.json").write_bytes(number.to_bytes(4, "big") * (size // 4))
    before = {layer.descriptor.digest for layer in packed(root)}
    assert sum(layer.descriptor.size for layer in packed(root)) / len(before) > 100_000
    (root / "00003a.json").write_bytes(bytes(size))
    changed = [layer.descriptor.size for layer in packed(root) if layer.descriptor.digest not in before]
    assert sum(changed) < 1 << 20


def test_links_that_stay_are_kept_as_links(tmp_path: Path) -> None:
    root = tmp_path / "cube"
    (root / "a/b").mkdir(parents=True)
    (root / "a/b/file").write_text("x")
    os.symlink("../b/file", root / "a/b/up")
    os.symlink("b", root / "a/folder")
    (layer,) = packed(root)
    found = {name: member.linkname for name, (member, _) in members(layer).items() if member.issym()}
    assert found == {"a/b/up": "../b/file", "a/folder": "b"}


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "a/../../x", "b/../../../y", ".."])
def test_a_link_that_leaves_is_refused_by_its_name(target: str, tmp_path: Path) -> None:
    os.symlink(target, tmp_path / "link")
    with pytest.raises(InvalidFile, match="`link` is a link to") as caught:
        contents(str(tmp_path))
    assert ".cubeignore" in (caught.value.hint or "")


def test_special_files_and_bad_names_are_refused_all_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "with\\backslash").write_text("")
    (tmp_path / "Twice").write_text("")
    (tmp_path / "twice").write_text("")
    with open(os.fsencode(tmp_path) + b"/\xff", "wb"):
        pass
    with pytest.raises(InvalidFile) as caught:
        contents(str(tmp_path))
    messages = "\n".join(problem.message for problem in caught.value.problems)
    assert "`pipe` is a device, a named pipe or a socket" in messages
    assert "`with\\backslash` holds a backslash" in messages
    assert "`Twice` and `twice` differ only in case" in messages
    assert "`\\xff` is no UTF-8" in messages


def test_folders_that_differ_only_in_case_are_refused(tmp_path: Path) -> None:
    for folder in ("Data", "data"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"in-{folder.swapcase()}").write_text("")
    with pytest.raises(InvalidFile, match="`Data` and `data` differ only in case"):
        contents(str(tmp_path))


def test_a_file_that_vanished_is_named(tmp_path: Path) -> None:
    (tmp_path / "cube").mkdir()
    (tmp_path / "cube/gone").write_text("x")
    entries = contents(str(tmp_path / "cube"))
    (tmp_path / "cube/gone").unlink()
    with KnownDigests(str(tmp_path / "known")) as known, pytest.raises(MissingInput, match="`gone` cannot be read"):
        layers(str(tmp_path / "cube"), entries, known=known)


def test_large_files_that_are_read_at_the_same_time_come_in_their_order(tmp_path: Path) -> None:
    sizes = {f"{number}.bin": SMALL_BYTES + (5 - number) * 1_000_000 for number in range(6)}  # the last is read first
    (tmp_path / "cube").mkdir()
    for name, size in sizes.items():
        (tmp_path / "cube" / name).write_bytes(name[:1].encode() * size)
    told: list[int] = []
    with KnownDigests(str(tmp_path / "known")) as known:
        found = layers(str(tmp_path / "cube"), contents(str(tmp_path / "cube")), known=known, progress=told.append)
    assert [layer.paths for layer in found] == [(name,) for name in sizes]
    assert [layer.descriptor.digest for layer in found] == [
        digest_of(name[:1].encode() * size) for name, size in sizes.items()
    ]
    assert sum(told) == sum(sizes.values())


@pytest.mark.parametrize("count", [1, 2, 5])
def test_reading_large_files_ends_when_it_is_told_to(count: int, tmp_path: Path) -> None:
    (tmp_path / "cube").mkdir()
    for number in range(count):
        (tmp_path / "cube" / f"{number}.bin").write_bytes(b"x" * (40 << 20))
    told: list[int] = []
    threads = threading.active_count()

    def check() -> None:
        if len(told) >= 3:
            raise Interrupted(2, "SIGINT")

    with KnownDigests(str(tmp_path / "known")) as known, pytest.raises(Interrupted):
        layers(str(tmp_path / "cube"), contents(str(tmp_path / "cube")), known=known, check=check, progress=told.append)
    assert len(told) < 20, "more was read than each thread had in hand"
    assert threading.active_count() == threads


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match="cannot be read"):
        contents(str(tmp_path / "nothing"))


def test_a_private_key_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "cube").mkdir()
    (tmp_path / "cube/lab.key").write_text("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nx\n")
    with pytest.raises(InvalidFile, match=r"`lab.key` is a private key"):
        packed(tmp_path / "cube")


def test_virtual_environments_are_no_content(tmp_path: Path) -> None:
    (tmp_path / "env/bin").mkdir(parents=True)
    (tmp_path / "env/pyvenv.cfg").write_text("")
    (tmp_path / "env/bin/python").write_text("")
    (tmp_path / "code.py").write_text("")
    assert [entry.path for entry in contents(str(tmp_path))] == ["code.py"]


def test_a_large_file_packed_with_zstd_unpacks_to_itself(tmp_path: Path) -> None:
    root = tmp_path / "cube"
    root.mkdir()
    content = b"0123456789" * 100_000
    (root / "large").write_bytes(content)
    (layer,) = packed(root, compress=True)
    assert layer.descriptor.media_type == FILE_ZSTD
    assert layer.descriptor.size < len(content) // 10
    with layer.open() as file:
        sent = file.read()
    assert digest_of(sent) == layer.descriptor.digest
    assert zstd().decompress(sent) == content
    layer.discard()
    with layer.open() as file:
        assert file.read() == sent
    assert packed(root, compress=True)[0].descriptor == layer.descriptor


@pytest.mark.parametrize("when", ["between its digest and its packing", "before it is packed once more"])
def test_a_file_that_changes_is_never_packed_as_what_it_was(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would be taken for packed under the first content's digest, for months."""
    root = tmp_path / "cube"
    root.mkdir()
    first, second = b"first " * 100_000, b"other " * 100_000
    (root / "large").write_bytes(first)
    of_file = KnownDigests.of_file

    def changing(known: KnownDigests, path: str, *words: Any) -> tuple[str, int]:
        found = of_file(known, path, *words)
        (root / "large").write_bytes(second)
        return found

    if when == "between its digest and its packing":
        monkeypatch.setattr(KnownDigests, "of_file", changing)
        with pytest.raises(CubeError, match="`large` was changed while it was read"):
            packed(root, compress=True)
        monkeypatch.undo()
    else:
        (layer,) = packed(root, compress=True)
        layer.discard()
        (root / "large").write_bytes(second)
        with pytest.raises(CubeError, match="`large` was changed while it was read"):
            layer.open()
    (root / "large").write_bytes(first)
    (layer,) = packed(root, compress=True)
    with layer.open() as file:
        assert zstd().decompress(file.read()) == first
    assert len(os.listdir(os.path.join(directories.cache(), "compressed"))) == 1, "nothing half-made is left"


def test_a_full_cache_is_no_fault_of_the_file(tmp_path: Path) -> None:
    root = tmp_path / "cube"
    root.mkdir()
    (root / "large").write_bytes(os.urandom(2 << 20))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(CubeError, match=r"compressed/.* cannot be written: file too large"):
            packed(root, compress=True)
    finally:
        signal.signal(signal.SIGXFSZ, ignored)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert os.listdir(os.path.join(directories.cache(), "compressed")) == []


def test_what_would_unpack_to_more_than_anybody_unpacks_is_sent_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlcube.compression._MOST_UNPACKED", 1 << 20)
    root = tmp_path / "cube"
    root.mkdir()
    (root / "large").write_bytes(bytes(64 << 20))
    (layer,) = packed(root, compress=True)
    assert (layer.descriptor.media_type, layer.descriptor.size) == (FILE, 64 << 20)


@pytest.mark.parametrize("name", ["x" * 100, "x" * 101, "d/" * 60 + "y", "ä" * 90])
def test_long_names_survive(name: str, tmp_path: Path) -> None:
    (tmp_path / "cube" / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "cube" / name).write_text("content")
    (layer,) = packed(tmp_path / "cube")
    assert list(members(layer)) == [name]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=TREES, changed=st.integers(min_value=0), value=st.integers(0, 255))
def test_a_pack_is_read_by_itself_as_by_whoever_reads_tar_files_or_left_to_him(
    tree: dict[str, tuple[bytes, bool]], changed: int, value: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("root")
    fill(root, tree)
    for layer in packed(root):
        if layer.descriptor.media_type != PACK:
            continue
        with layer.open() as file:
            content = file.read()
        members_here = members(layer)
        plain = tar.plain(content)
        if all(name.isascii() and info.isreg() for name, (info, _) in members_here.items()):
            assert plain is not None
        if plain is not None:
            told = [(name, info.mode, inside) for name, (info, inside) in members_here.items()]
            assert [(name, int(mode, 8), bytes(inside)) for name, mode, inside in plain] == told
        where = changed % len(content)
        other = content[:where] + bytes([value]) + content[where + 1 :]
        if (found := tar.plain(other)) is not None and other != content:
            # Then it is a byte of a file: every other one is as it must be.
            assert plain is not None
            assert [each[:2] for each in found] == [each[:2] for each in plain]
            assert found != plain


@pytest.mark.parametrize("content", [b"", bytes(512), bytes(1023), b"x" * 2048, bytes(4096)])
def test_what_is_no_pack_is_left_to_whoever_reads_tar_files(content: bytes) -> None:
    assert tar.plain(content) is None


@pytest.mark.parametrize("mode", ["64x", "777", "\x00\x00\x00", "00 "])
def test_a_pack_with_another_mode_is_left_to_whoever_reads_tar_files(mode: str) -> None:
    assert tar.plain(tar.header("a.txt", 0, "644") + bytes(1024)) is not None
    assert tar.plain(tar.header("a.txt", 0, mode) + bytes(1024)) is None
