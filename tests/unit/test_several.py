"""Large files go into a bundle at the same time, and it is the same bundle as if they had gone one after the other."""

import os
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from mlcube import oci
from mlcube.bundling.layout import ROLE, Entry
from mlcube.bundling.parts import Output
from mlcube.bundling.reading import Bundle
from mlcube.bundling.several import Large
from mlcube.bundling.writing import Writer
from mlcube.errors import Damaged

ENTRY = Entry(media_type=oci.MANIFEST, digest="", size=0, annotations={ROLE: "cube"})


def files_of(folder: Path, contents: Sequence[bytes]) -> list[Large]:
    found = []
    for number, content in enumerate(contents):
        (folder / f"{number}.bin").write_bytes(content)
        found.append(Large(partial(open, folder / f"{number}.bin", "rb", buffering=0), len(content)))
    return found


def bundle_of(path: Path, files: Sequence[Large], *, at_once: bool) -> list[str]:
    """A bundle of an artifact with these layers; their digests."""
    with Output(str(path)) as output:
        writer = Writer(output, [ENTRY])
        if at_once:
            with writer.beside(files) as waited:
                assert waited is not None
                writer.small(b"meanwhile", "x")
                digests = waited()
        else:
            digests = []
            for each in files:
                with each.open() as file:
                    digests.append(writer.stream(file, each.size))
            writer.small(b"meanwhile", "x")
        layers = [oci.Descriptor(media_type="x", digest=digest, size=0) for digest in digests]
        manifest = oci.Manifest(
            schema_version=2, media_type=oci.MANIFEST, config=writer.small(b"{}", "x"), layers=tuple(layers)
        )
        written = writer.manifest(manifest)
        writer.finish(
            [Entry(media_type=oci.MANIFEST, digest=written.digest, size=written.size, annotations={ROLE: "cube"})]
        )
    return digests


SIZES = (3 << 20, (3 << 20) + 1, 511, 512, (1 << 20) + 513, 3 << 20)


def test_it_is_the_same_bundle_as_one_after_the_other(tmp_path: Path) -> None:
    contents = [os.urandom(size) for size in SIZES]
    files = files_of(tmp_path, contents)
    digests = bundle_of(tmp_path / "a.cube", files, at_once=True)
    assert digests == [oci.digest_of(content) for content in contents]
    bundle_of(tmp_path / "b.cube", files, at_once=False)
    assert (tmp_path / "a.cube").read_bytes() == (tmp_path / "b.cube").read_bytes()
    with Bundle(str(tmp_path / "a.cube")) as bundle:
        bundle.extract(digests[1], str(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == contents[1]


def test_where_the_kernel_cannot_copy_the_bundle_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = files_of(tmp_path, [os.urandom(size) for size in SIZES])
    bundle_of(tmp_path / "a.cube", files, at_once=True)

    def impossible(*_: object, **__: object) -> int:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", impossible)
    bundle_of(tmp_path / "b.cube", files, at_once=True)
    assert (tmp_path / "a.cube").read_bytes() == (tmp_path / "b.cube").read_bytes()


def test_what_may_be_there_twice_goes_one_after_the_other(tmp_path: Path) -> None:
    same, large = os.urandom(3 << 20), os.urandom(1 << 20)
    path = str(tmp_path / "m.cube")

    def one_by_one(writer: Writer, *contents: bytes) -> bool:
        with writer.beside(files_of(tmp_path, contents)) as waited:
            return waited is None

    with Output(path) as output:
        writer = Writer(output, [ENTRY])
        assert one_by_one(writer, same, large, same)
        writer.small(large, "x")
        assert one_by_one(writer, same, large)
    with Output(path, 1 << 20) as output:
        assert one_by_one(Writer(output, [ENTRY]), same, large)
    with Output(path) as output:
        assert one_by_one(Writer(output, [ENTRY], elsewhere=["sha256:x"]), same, large)


@pytest.mark.parametrize(("change", "how"), [(-1, "longer"), (1, "shorter")])
def test_a_file_that_changes_while_it_is_read_is_told(tmp_path: Path, change: int, how: str) -> None:
    one, two = files_of(tmp_path, [os.urandom(3 << 20), os.urandom(2 << 20)])
    with pytest.raises(Damaged, match=f"became {how}"):
        bundle_of(tmp_path / "m.cube", [one, two._replace(size=two.size + change)], at_once=True)
    assert sorted(os.listdir(tmp_path)) == ["0.bin", "1.bin", "home"]


def test_somebody_who_stops_it_is_heard(tmp_path: Path) -> None:
    def check() -> None:
        raise KeyboardInterrupt

    before = set(threading.enumerate())
    files = files_of(tmp_path, [os.urandom(3 << 20), os.urandom(2 << 20)])
    with Output(str(tmp_path / "m.cube")) as output:
        writer = Writer(output, [ENTRY])
        writer._check = check
        with writer.beside(files) as waited, pytest.raises(KeyboardInterrupt):
            (waited or pytest.fail)()
        with pytest.raises(ZeroDivisionError), writer.beside(files):
            raise ZeroDivisionError
    assert set(threading.enumerate()) <= before
    assert not (tmp_path / "m.cube").exists()
