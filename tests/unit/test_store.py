"""What was brought from elsewhere is kept by digest, verified when it is used, and pruned without harm."""

import os
import stat
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlcube import oci
from mlcube.artifact import read_config
from mlcube.errors import CubeError, Damaged, MissingInput
from mlcube.store import Kept, Store
from mlcube.store.beside import note_use
from mlcube.store.kept import About, read_manifest
from mlcube.unpacking import remove
from tests.unit.cube_layers import artifact

SMALL = {f"src/{number}.py": b"print(%d)\n" % number for number in range(20)}
LARGE = {"weights.bin": bytes(range(256)) * 2000}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def filled(store: Store, **large: bytes) -> Kept:
    content, blobs, _ = artifact(SMALL, LARGE | large)
    for blob in blobs.values():
        store.add(blob)
    return store.unpack(oci.digest_of(content))


def test_a_cube_is_unpacked_from_its_blobs_and_read_only(store: Store) -> None:
    kept = filled(store)
    weights = Path(kept.root, "weights.bin")
    assert weights.read_bytes() == LARGE["weights.bin"]
    assert Path(kept.root, "src/7.py").read_bytes() == b"print(7)\n"
    assert stat.S_IMODE(weights.stat().st_mode) == 0o444
    assert weights.stat().st_ino == os.stat(store.blob_path(oci.digest_of(LARGE["weights.bin"]))).st_ino
    assert kept.config is not None
    assert kept.config.name == "tiny"
    again = store.cube(kept.digest)
    assert again == kept
    assert store.cube("sha256:" + "0" * 64) is None


def test_a_cube_that_somebody_else_holds_is_waited_for(store: Store) -> None:
    said: list[str] = []
    waiting, got = threading.Event(), threading.Event()

    def report(text: str) -> None:
        said.append(text)
        waiting.set()

    def take() -> None:
        with Store(store.path, report=report).lock("sha256:1"):
            got.set()

    with store.lock("sha256:1"):
        other = threading.Thread(target=take)
        other.start()
        assert waiting.wait(10)
        time.sleep(0.3)  # long enough for a look in between
        assert not got.is_set()
    other.join(10)
    assert got.is_set()
    assert len(said) == 1


def test_a_changed_added_or_removed_file_is_damage(store: Store) -> None:
    kept = filled(store)
    victim = Path(kept.root, "src/3.py")
    victim.parent.chmod(0o755)
    victim.chmod(0o644)
    original = victim.read_bytes()
    victim.write_bytes(b"evil()\n\n\n")
    with pytest.raises(Damaged, match=r"src/3\.py") as caught:
        store.cube(kept.digest)
    assert "cube pull" in str(caught.value)
    victim.write_bytes(original)
    assert store.cube(kept.digest) is not None  # read again, and found right
    (victim.parent / "sitecustomize.py").write_text("evil()")
    with pytest.raises(Damaged, match="does not belong"):
        store.cube(kept.digest)
    (victim.parent / "sitecustomize.py").unlink()
    victim.unlink()
    with pytest.raises(Damaged, match="not there any more"):
        store.cube(kept.digest)
    assert store.unpack(kept.digest) == kept  # made anew of the blobs
    assert victim.read_bytes() == original


def test_what_python_derived_is_no_damage(store: Store) -> None:
    kept = filled(store)
    folder = Path(kept.root, "src")
    folder.chmod(0o755)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "3.pyc").write_bytes(b"x")
    assert store.cube(kept.digest) == kept
    assert not (folder / "__pycache__").exists()


@pytest.mark.parametrize("name", ["manifest.json", "config.json", "seen.json"])
def test_changed_notes_are_damage(store: Store, name: str) -> None:
    kept = filled(store)
    path = Path(os.path.dirname(kept.root), name)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Damaged):
        store.cube(kept.digest)


def replaced(path: Path, by: str) -> None:
    """Something of another kind, or nothing, where a file or a folder lay."""
    remove(str(path))
    if by == "folder":
        (path / "within").mkdir(parents=True)
    elif by:
        path.write_bytes(b"" if by == "empty" else b'[["\xff"]]')


PIECES = ("cube", "cube/src", "cube/weights.bin", "about.json", "manifest.json", "config.json", "seen.json")


@pytest.mark.parametrize(
    ("name", "by"),
    [(name, by) for name in ("", *PIECES) for by in ("", "folder", "empty", "file") if name or by],
)
def test_whatever_is_gone_or_of_another_kind_is_damage_and_made_anew(store: Store, name: str, by: str) -> None:
    kept = filled(store)
    size = store.entries()[0].bytes
    replaced(Path(os.path.dirname(kept.root), name), by)
    for look in (store.cube, store.verify):
        with pytest.raises(Damaged, match="is damaged") as caught:
            look(kept.digest)
        assert "cube pull" in str(caught.value)
    (entry,) = store.entries()
    assert entry.digest == kept.digest
    assert entry.bytes == (0 if not name else size)
    assert store.prune(3600.0) == 0
    assert store.unpack(kept.digest) == kept
    assert store.cube(kept.digest) == kept
    store.prune(0.0, all=True)
    assert os.listdir(os.path.join(store.path, "cubes")) == []


@pytest.mark.parametrize("by", ["", "folder", "empty", "file"])
def test_a_blob_that_is_gone_or_of_another_kind_is_added_anew(store: Store, by: str) -> None:
    digest = store.add(b"content")
    replaced(Path(store.blob_path(digest)), by)
    assert store.add(b"content") == digest
    assert store.read(digest) == b"content"


def test_a_damaged_cube_is_listed_and_pruned_when_it_is_old(store: Store) -> None:
    kept = filled(store)
    folder = Path(os.path.dirname(kept.root))
    for name in ("about.json", "used"):
        replaced(folder / name, "")
    assert [entry.digest for entry in store.entries()] == [kept.digest]
    os.utime(folder, (1, 1))
    assert store.prune(3600.0) > 0
    assert store.entries() == []


def test_a_damaged_blob_is_noticed_before_anything_is_kept(store: Store) -> None:
    content, blobs, manifest = artifact(SMALL, LARGE)
    for blob in blobs.values():
        store.add(blob)
    for layer in manifest.layers:
        path = Path(store.blob_path(layer.digest))
        good = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        with pytest.raises(Damaged, match=layer.digest):
            store.unpack(oci.digest_of(content))
        assert not store.has(layer.digest)
        assert store.entries() == []
        assert os.listdir(os.path.join(store.path, "cubes")) == []
        store.add(good)
    store.unpack(oci.digest_of(content))


def test_a_manifest_whose_cube_file_is_another_is_refused(store: Store) -> None:
    content, blobs, _ = artifact({"mlcube.yaml": b"name: other\n"}, {})
    for blob in blobs.values():
        store.add(blob)
    with pytest.raises(Damaged, match="is not the one that its configuration tells of"):
        store.unpack(oci.digest_of(content))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"digest": "md5:abc"}, "`md5:abc` is no digest"),
        ({"digest": "x\n\x1b[31m"}, "is no digest"),
        ({"size": -1}, "cannot have -1 bytes"),
        ({"size": 1 << 62}, f"cannot have {1 << 62} bytes"),
    ],
)
def test_a_manifest_that_means_nothing_is_told_in_one_line(fields: "dict[str, Any]", said: str) -> None:
    content, _, manifest = artifact(SMALL, LARGE)
    (*others, last) = manifest.layers
    wrong = msgspec.structs.replace(manifest, layers=(*others, msgspec.structs.replace(last, **fields)))
    content = oci.canonical(wrong)
    with pytest.raises(Damaged, match="is not as it must be") as caught:
        read_manifest(content, oci.digest_of(content))
    assert said in str(caught.value.args[0])
    assert str(caught.value.args[0]).isprintable()


def test_a_configuration_that_would_fill_the_memory_is_not_read() -> None:
    content = b'{"name": "x", "tasks": [' + b"{}," * (2 << 20) + b"{}]}"
    with pytest.raises(Damaged, match=r"is no configuration of a cube: it has [\d,]+ bytes"):
        read_config(content)


def test_files_and_streams_are_added_only_if_they_are_right(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "blob"
    path.write_bytes(b"content")
    digest = oci.digest_of(b"content")
    with pytest.raises(Damaged):
        store.add_file(str(path), oci.digest_of(b"other"))
    with path.open("rb") as file, pytest.raises(Damaged):
        store.add_stream(file, digest, 99)
    store.add_file(str(path), digest, move=True)
    assert not path.exists()
    assert store.read(digest) == b"content"


def test_names_lead_to_digests(store: Store) -> None:
    assert store.named("oci://h/a:1") is None
    store.note_name("oci://h/a:1", "sha256:" + "1" * 64)
    store.note_name("oci://h/a:1", "sha256:" + "2" * 64)
    assert store.named("oci://h/a:1") == "sha256:" + "2" * 64
    (path,) = Path(store.path, "names").iterdir()
    replaced(path, "folder")
    assert store.named("oci://h/a:1") is None
    store.note_name("oci://h/a:1", "sha256:" + "3" * 64)
    assert store.named("oci://h/a:1") == "sha256:" + "3" * 64


def test_prune_spares_what_is_pinned_in_use_or_fresh(store: Store) -> None:
    one, two = filled(store), filled(store, **{"more.bin": b"more" * 70000})
    store.note_name("oci://h/a:1", one.digest)
    store.hold("bundle x", [store.add(b"image")])
    assert [entry.digest for entry in store.entries()].count(one.digest) == 1
    assert store.prune(3600.0) == 0
    store.pin(one.digest)
    with store.using([two.digest]):
        assert store.prune(0.0, all=True) > 0  # what was held
    assert {entry.digest for entry in store.entries()} == {one.digest, two.digest}
    assert store.prune(0.0, all=True, keep=[two.digest]) == 0
    freed = store.prune(0.0, all=True)
    assert freed >= 280000
    assert [entry.pinned for entry in store.entries()] == [True]
    assert store.cube(one.digest) == one  # the weights, which both had, are there
    assert store.has(oci.digest_of(LARGE["weights.bin"]))
    store.unpin(one.digest)
    store.prune(0.0, all=True)
    assert store.entries() == []
    assert store.named("oci://h/a:1") is None
    assert os.listdir(os.path.join(store.path, "blobs", "sha256")) == []
    with pytest.raises(MissingInput):
        store.pin(one.digest)


def test_what_bundles_gave_and_what_the_dead_left_is_listed_and_pruned(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    store = Store(str(cache / "store"))
    sif = cache / "bundles" / ("a" * 64) / "sif" / "x.sif"
    sif.parent.mkdir(parents=True)
    sif.write_bytes(b"x" * 100_000)
    note_use(str(sif.parent.parent), "model.cube")
    for name in ("git-dead", "git-alive", "elsewhere"):
        (cache / name / "objects").mkdir(parents=True)
        (cache / name / "objects" / "1").write_bytes(b"x")
    (cache / "git-dead" / "objects").chmod(0o555)
    os.utime(cache / "git-dead", (1, 1))
    (entry,) = store.entries()
    assert (entry.title, entry.digest, entry.root) == ("model.cube", f"bundle:{'a' * 64}", None)
    assert entry.bytes >= 100_000
    assert store.prune(3600.0) > 0
    assert sorted(os.listdir(cache)) == ["bundles", "elsewhere", "git-alive", "store"]
    store.pin(entry.digest)
    store.prune(0.0, all=True)
    store.unpin(entry.digest)
    store.prune(0.0, all=True, keep=[entry.digest])
    assert sif.exists()
    assert store.prune(0.0, all=True) >= 100_000
    assert not sif.exists()
    assert store.entries() == []


def test_a_use_of_a_process_that_died_counts_no_more(store: Store) -> None:
    kept = filled(store)
    with store.using([kept.digest]):
        (path,) = Path(store.path, "using").iterdir()
        path.write_text(path.read_text().replace(f'"pid":{os.getpid()}', '"pid":4194305'))
        store.prune(0.0, all=True)
        assert store.entries() == []


def test_what_is_needed_cannot_be_read_and_nothing_is_pruned(store: Store) -> None:
    kept = filled(store)
    Path(store.path, "using").write_text("no folder")
    with pytest.raises(CubeError, match=r"`.*/using` cannot be read: not a directory"):
        store.prune(0.0, all=True)
    assert store.cube(kept.digest) == kept


def test_unpacking_and_pruning_at_once_harm_nobody(store: Store) -> None:
    content, blobs, _ = artifact(SMALL, LARGE)
    digest = oci.digest_of(content)
    errors: list[BaseException] = []
    end = time.monotonic() + 1.0

    def bring() -> None:
        try:
            while time.monotonic() < end:
                with store.using([digest, *blobs]):
                    for blob in blobs.values():
                        store.add(blob)
                    assert Path(store.unpack(digest).root, "src/1.py").exists()
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=bring) for _ in range(2)]
    for thread in threads:
        thread.start()
    while time.monotonic() < end:
        store.prune(0.0, all=True)
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_cube_from_elsewhere_is_kept_too(store: Store) -> None:
    about = About(digest="git:" + "1" * 40, title="tiny", origin="git+https://h/r")
    with store.fill(about, most_bytes=100, most_members=10) as unpacking, open(os.devnull, "rb") as empty:
        unpacking.file("mlcube.yaml", 0o644, 0, empty)
    kept = store.cube(about.digest)
    assert kept is not None
    assert kept.manifest is None
    assert store.entries()[0].names == ("git+https://h/r",)
    store.prune(0.0, all=True)
    assert store.cube(about.digest) is None
