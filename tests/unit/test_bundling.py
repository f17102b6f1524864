"""Bundles: written the same each time, read with suspicion, cut, joined, and built upon each other."""

import io
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from mlcube import oci
from mlcube.bundling.creating import Files, Gathered, Piece, create_bundle
from mlcube.bundling.joining import join
from mlcube.bundling.layout import INDEX, LAYOUT, ROLE, Entry, Index, Seal, decode, header, padding, sealed
from mlcube.bundling.parts import Output
from mlcube.bundling.reading import Bundle, walk
from mlcube.bundling.verifying import verify
from mlcube.bundling.writing import Writer
from mlcube.errors import Busy, CubeError, Damaged, MissingInput, UsageError
from tests.unit.bundles import YAML, cube_artifact, make


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {each.name: archive.extractfile(each).read() for each in archive}  # type: ignore[union-attr]


def tar_of(contents: dict[str, bytes]) -> bytes:
    """The members as a bundle has them."""
    packed = [header(name, len(content)) + content + bytes(padding(len(content))) for name, content in contents.items()]
    return b"".join(packed) + bytes(1024)


def test_a_bundle_is_a_tar_with_an_oci_image_layout(tmp_path: Path) -> None:
    found = members(make(tmp_path / "m.cube"))
    assert list(found)[:2] == [LAYOUT, INDEX]
    assert msgspec.json.decode(found[LAYOUT])["imageLayoutVersion"] == "1.0.0"
    index = msgspec.json.decode(found[INDEX])
    (entry,) = index["manifests"]
    assert entry["annotations"] == {ROLE: "cube", "org.opencontainers.image.ref.name": "little:1.0"}
    manifest = msgspec.json.decode(found[f"blobs/sha256/{entry['digest'][7:]}"])
    blobs = {f"blobs/sha256/{each['digest'][7:]}" for each in (manifest["config"], *manifest["layers"])}
    assert blobs <= set(found)


def test_the_same_input_makes_the_same_bytes(tmp_path: Path) -> None:
    assert make(tmp_path / "a.cube").read_bytes() == make(tmp_path / "b.cube").read_bytes()


def test_content_of_many_chunks_is_hashed_while_it_is_copied(tmp_path: Path) -> None:
    content = os.urandom((3 << 20) + 12345)
    path = make(tmp_path / "m.cube", {"mlcube.yaml": YAML, "weights.bin": content})
    with Bundle(str(path)) as bundle:
        bundle.extract(oci.digest_of(content), str(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == content


def test_the_same_content_is_written_once(tmp_path: Path) -> None:
    content = os.urandom(2 << 20)
    path = tmp_path / "one"
    path.write_bytes(content)
    same = tmp_path / "two"
    same.write_bytes(content)
    files = Files(role="wheels", name="wheels", paths=(str(path), str(same)))
    create_bundle(str(tmp_path / "m.cube"), Gathered(cube=cube_artifact({"mlcube.yaml": YAML}), files=(files,)))
    assert (tmp_path / "m.cube").stat().st_size < 3 << 20
    verify(str(tmp_path / "m.cube"))


def test_verify_tells_what_was_found(tmp_path: Path) -> None:
    found = verify(str(make(tmp_path / "m.cube")))
    assert (found.blobs, found.parts, found.since, found.missing) == (4, 1, None, ())
    assert found.bytes == (tmp_path / "m.cube").stat().st_size


def test_every_changed_byte_is_seen(tmp_path: Path) -> None:
    """Whole, not in samples: headers, padding, index and seal as well as content."""
    path = make(tmp_path / "m.cube", {"mlcube.yaml": YAML})
    whole = path.read_bytes()
    changed = tmp_path / "changed.cube"
    choice = random.Random(1)
    unseen = []
    for place in range(len(whole)):
        bad = bytearray(whole)
        bad[place] ^= 1 << choice.randrange(8)
        changed.write_bytes(bad)
        try:
            verify(str(changed))
        except CubeError as error:
            assert isinstance(error, Damaged), (place, error)  # noqa: PT017
        else:
            unseen.append(place)
    assert unseen == []


def test_a_file_that_ends_anywhere_is_seen(tmp_path: Path) -> None:
    whole = make(tmp_path / "m.cube", {"mlcube.yaml": YAML}).read_bytes()
    cut = tmp_path / "cut.cube"
    for length in range(0, len(whole), 97):
        cut.write_bytes(whole[:length])
        with pytest.raises(Damaged):
            verify(str(cut))


def test_what_follows_the_end_is_seen(tmp_path: Path) -> None:
    path = make(tmp_path / "m.cube")
    path.write_bytes(path.read_bytes() + bytes(512))
    with pytest.raises(Damaged, match="nothing but an end may follow"):
        verify(str(path))


def with_member(change: Callable[[tarfile.TarInfo], None], content: bytes = b"x") -> bytes:
    """A tar that begins with one member of bad intent."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive:
        member = tarfile.TarInfo("oci-layout")
        member.size = len(content)
        change(member)
        archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def named(name: str, **fields: object) -> Callable[[tarfile.TarInfo], None]:
    def change(member: tarfile.TarInfo) -> None:
        member.name = name
        for key, value in fields.items():
            setattr(member, key, value)

    return change


BLOB = "blobs/sha256/" + "a" * 64
HOSTILE = {
    "an absolute name": (named("/etc/passwd"), "`/etc/passwd`, an absolute path"),
    "a name that leads out": (named("../../evil"), "`../../evil`, a path that leads out"),
    "a name that leads out later": (named("blobs/../../evil"), "a path that leads out"),
    "a link that leaves": (named("blobs", type=tarfile.SYMTYPE, linkname="/etc", size=0), "`blobs`, which is a symbol"),
    "a hard link": (named(BLOB, type=tarfile.LNKTYPE, linkname="/etc/shadow", size=0), "which is a hard link"),
    "a device": (named("sda", type=tarfile.BLKTYPE, devmajor=8, size=0), "`sda`, which is a device"),
    "a pipe": (named("pipe", type=tarfile.FIFOTYPE, size=0), "`pipe`, which is a named pipe"),
    "a directory": (named("blobs", type=tarfile.DIRTYPE, size=0), "which is a directory"),
    "a set-id bit": (named(BLOB, mode=0o4755), "which has a set-id"),
    "a set-group bit": (named(BLOB, mode=0o2755), "which has a set-id"),
    "upper case": (named("Blobs/sha256/" + "a" * 64), "which has no place"),
    "a digest in upper case": (named("blobs/sha256/" + "A" * 64), "which has no place"),
    "another file": (named("setup.py"), "`setup.py`, which has no place"),
    "a control character": (named("a\x1b[2J"), r"`a\x1b[2J`, which has no place"),
    "no name": (named(""), "which has no place"),
    "a long name": (named("a/" * 80), "which is a long name"),
    "an owner": (named("oci-layout", uid=1000), "with a header that no bundle has"),
    "a time": (named("oci-layout", mtime=1), "with a header that no bundle has"),
    "a mode": (named("oci-layout", mode=0o755), "with a header that no bundle has"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_members_of_bad_intent_are_refused_by_name(name: str, tmp_path: Path) -> None:
    change, words = HOSTILE[name]
    path = tmp_path / "bad.cube"
    path.write_bytes(with_member(change))
    with pytest.raises(Damaged) as caught:
        Bundle(str(path))
    assert words in caught.value.args[0]
    assert sorted(os.listdir(tmp_path)) == ["bad.cube", "home"]


def test_a_sparse_member_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.cube"
    head = bytearray(header("oci-layout", 1))
    head[156:157] = b"S"
    path.write_bytes(bytes(head) + bytes(2048))
    with pytest.raises(Damaged, match="which is a sparse file"):
        Bundle(str(path))


def test_a_member_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.cube"
    one = header("oci-layout", 0)
    path.write_bytes(one + one + bytes(1024))
    with pytest.raises(Damaged, match="holds `oci-layout` twice"):
        Bundle(str(path))


@pytest.mark.parametrize("size", [8 << 30, 1 << 62, (1 << 88) - 1])
def test_a_member_that_says_to_be_larger_than_the_file_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "bad.cube"
    path.write_bytes(header(BLOB, size) + bytes(2048))
    with pytest.raises(Damaged, match="ends within"):
        Bundle(str(path))


def test_an_index_that_is_a_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.cube"
    with path.open("wb") as file:
        file.write(header(LAYOUT, 0) + header(INDEX, 5 << 30))
        file.truncate((5 << 30) + 4096)
    with pytest.raises(Damaged, match="too large to be what it is called"):
        Bundle(str(path))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04" + bytes(4096), b"\x1f\x8b" + bytes(4096), b"hello" * 500])
def test_a_file_that_is_no_tar_is_no_bundle(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.cube"
    path.write_bytes(content)
    with pytest.raises(Damaged):
        Bundle(str(path))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.cube")
    with pytest.raises(MissingInput, match="is no file"):
        Bundle(str(tmp_path / "model.cube"))


BAD_DOCUMENTS = {
    "no JSON": b"hello",
    "nesting": b"[" * 100_000,
    "nesting in what is not read": b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "bad UTF-8": b'{"schemaVersion":2,"mediaType":"\xff\xfe","manifests":[]}',
    "a list": b"[]",
    "null": b"null",
    "wrong types": b'{"schemaVersion":"2","mediaType":[],"manifests":{}}',
    "manifests that are none": b'{"schemaVersion":2,"mediaType":"x","manifests":[1,null,"a"]}',
    "a size that is none": b'{"schemaVersion":2,"mediaType":"x","manifests":'
    b'[{"mediaType":"x","digest":"x","size":1e99}]}',
    "a digest that is a path": b'{"schemaVersion":2,"mediaType":"x","manifests":'
    b'[{"mediaType":"x","digest":"sha256:../../../../etc/passwd","size":1}]}',
    "a digest without an end": b'{"manifests":[{"mediaType":"x","digest":"' + b"a" * 50_000 + b'","size":1}]}',
    "a size below zero": b'{"manifests":[{"mediaType":"x","digest":"sha256:' + b"0" * 64 + b'","size":-5}]}',
}


@pytest.mark.parametrize("name", BAD_DOCUMENTS)
def test_an_index_of_bad_intent_is_one_sentence(name: str, tmp_path: Path) -> None:
    index = BAD_DOCUMENTS[name]
    layout = oci.canonical(sealed(Seal(index=oci.digest_of(index))))
    path = tmp_path / "bad.cube"
    path.write_bytes(tar_of({LAYOUT: layout, INDEX: index}))
    with pytest.raises(Damaged) as caught:
        verify(str(path))
    assert "\n" not in caught.value.args[0]
    assert len(caught.value.args[0]) < 600


@pytest.mark.parametrize("name", BAD_DOCUMENTS)
def test_a_manifest_of_bad_intent_is_one_sentence(name: str, tmp_path: Path) -> None:
    manifest = BAD_DOCUMENTS[name]
    entry = Entry(
        media_type=oci.MANIFEST, digest=oci.digest_of(manifest), size=len(manifest), annotations={ROLE: "cube"}
    )
    index = oci.canonical(Index(manifests=(entry,)))
    layout = oci.canonical(sealed(Seal(index=oci.digest_of(index))))
    path = tmp_path / "bad.cube"
    path.write_bytes(tar_of({LAYOUT: layout, INDEX: index, f"blobs/sha256/{entry.digest[7:]}": manifest}))
    with pytest.raises(Damaged) as caught:
        verify(str(path))
    assert "\n" not in caught.value.args[0]


@pytest.mark.parametrize("content", BAD_DOCUMENTS.values(), ids=list(BAD_DOCUMENTS))
def test_a_seal_of_bad_intent_is_one_sentence(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.cube"
    path.write_bytes(tar_of({LAYOUT: content, INDEX: b"{}"}))
    with pytest.raises(Damaged) as caught:
        verify(str(path))
    assert "\n" not in caught.value.args[0]


@pytest.mark.parametrize("since", ["", "not a digest \x1b[31m", "x" * 9000, "sha256:" + "0" * 63])
def test_a_seal_that_builds_on_what_is_no_bundle_is_one_sentence(since: str, tmp_path: Path) -> None:
    found = members(make(tmp_path / "m.cube"))
    seal = sealed(Seal(index=oci.digest_of(found[INDEX]), since=since))
    path = tmp_path / "bad.cube"
    path.write_bytes(tar_of({**found, LAYOUT: oci.canonical(seal)}))
    with pytest.raises(Damaged, match="which is no bundle's digest") as caught:
        verify(str(path))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("change", [{"digest": "sha256:../../etc/passwd"}, {"digest": "y" * 9000}, {"size": -5}])
def test_a_layer_that_can_be_no_content_is_damaged(change: dict[str, object], tmp_path: Path) -> None:
    good = oci.Descriptor(media_type="x", digest=oci.digest_of(b"elsewhere"), size=9)
    layer = msgspec.structs.replace(good, **change)
    manifest = oci.canonical(oci.Manifest(schema_version=2, media_type=oci.MANIFEST, config=good, layers=(layer,)))
    digest = oci.digest_of(manifest)
    entry = Entry(media_type=oci.MANIFEST, digest=digest, size=len(manifest), annotations={ROLE: "cube"})
    index = oci.canonical(Index(manifests=(entry,)))
    layout = oci.canonical(sealed(Seal(index=oci.digest_of(index), since=oci.digest_of(b"earlier"))))
    path = tmp_path / "bad.cube"
    path.write_bytes(tar_of({LAYOUT: layout, INDEX: index, f"blobs/sha256/{digest[7:]}": manifest}))
    with pytest.raises(Damaged, match=r"is damaged: `sha256:.*` names") as caught:
        verify(str(path))
    assert len(str(caught.value)) < 400


def test_a_blob_that_nothing_refers_to_is_told(tmp_path: Path) -> None:
    stray = b"stray"
    found = members(make(tmp_path / "m.cube"))
    path = tmp_path / "bad.cube"
    path.write_bytes(tar_of({**found, f"blobs/sha256/{oci.digest_of(stray)[7:]}": stray}))
    with pytest.raises(Damaged, match="to which nothing in it refers"):
        verify(str(path))


def test_a_blob_that_is_not_there_is_told(tmp_path: Path) -> None:
    found = members(make(tmp_path / "m.cube"))
    gone = next(name for name, content in found.items() if content == YAML)
    path = tmp_path / "bad.cube"
    path.write_bytes(tar_of({name: content for name, content in found.items() if name != gone}))
    with pytest.raises(Damaged, match=f"`{oci.digest_of(YAML)}` is not in"):
        verify(str(path))


def test_a_format_of_the_future_is_told_by_its_number() -> None:
    with pytest.raises(Damaged, match="does not say what it must"):
        decode(b'{"manifests":{}}', Index, "index.json")


# Parts.


def test_a_bundle_is_cut_and_read_from_its_first_part(tmp_path: Path) -> None:
    whole = make(tmp_path / "whole.cube")
    make(tmp_path / "m.cube", part_size=4096)
    parts = sorted(tmp_path.glob("m.cube.*"))
    assert [part.stat().st_size for part in parts[:-1]] == [4096] * (len(parts) - 1)
    assert b"".join(part.read_bytes() for part in parts) == whole.read_bytes()
    assert verify(str(parts[0])).parts == len(parts)
    assert verify(str(tmp_path / "m.cube")).parts == len(parts), "the name without a number means all of them"


def test_a_part_that_is_missing_is_named(tmp_path: Path) -> None:
    make(tmp_path / "m.cube", part_size=4096)
    (tmp_path / "m.cube.002").unlink()
    with pytest.raises(Damaged) as caught:
        verify(str(tmp_path / "m.cube.001"))
    assert "m.cube.002" in str(caught.value.hint)


def test_parts_are_joined(tmp_path: Path) -> None:
    whole = make(tmp_path / "whole.cube")
    make(tmp_path / "m.cube", part_size=5000)
    assert join([str(tmp_path / "m.cube.001")], str(tmp_path / "joined.cube")) == (str(tmp_path / "joined.cube"),)
    assert (tmp_path / "joined.cube").read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("content", [bytes(range(256)) * 40, YAML])
def test_joining_names_the_bundle_that_is_damaged(content: bytes, tmp_path: Path) -> None:
    path = make(tmp_path / "bad.cube")
    path.write_bytes(path.read_bytes().replace(content, content[:-1] + b"x"))
    with pytest.raises(Damaged, match=r"`.*/bad.cube` is damaged: a blob is not `sha256:") as caught:
        join([str(path)], str(tmp_path / "joined.cube"))
    assert caught.value.hint == "copy it once more from where it was made"
    assert not list(tmp_path.glob("*joined*"))


def test_parts_of_a_longer_bundle_do_not_stay(tmp_path: Path) -> None:
    make(tmp_path / "m.cube", part_size=2048)
    make(tmp_path / "m.cube", {"mlcube.yaml": YAML}, part_size=2048)
    verify(str(tmp_path / "m.cube.001"))


# A bundle that builds on another.


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    weights = os.urandom(50_000)
    old = make(tmp_path / "old.cube", {"mlcube.yaml": YAML, "weights.bin": weights})
    new = {"mlcube.yaml": YAML + b"# new\n", "weights.bin": weights}
    return old, make(tmp_path / "new.cube", new, since=str(old))


def test_what_an_earlier_bundle_has_is_left_out(pair: tuple[Path, Path]) -> None:
    old, new = pair
    assert new.stat().st_size < 10_000
    found = verify(str(new))
    assert found.since == verify(str(old)).digest
    assert len(found.missing) == 1


def test_both_together_are_the_whole(pair: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = pair
    join([str(old), str(new)], str(tmp_path / "joined.cube"))
    found = verify(str(tmp_path / "joined.cube"))
    assert (found.since, found.digest) == (None, verify(str(new)).digest)


def test_it_builds_on_that_bundle_alone(pair: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = pair
    other = make(tmp_path / "other.cube", {"mlcube.yaml": b"other"})
    with pytest.raises(UsageError, match="builds on the bundle `sha256:"):
        join([str(other), str(new)], str(tmp_path / "joined.cube"))
    with pytest.raises(UsageError, match="builds on the bundle"):
        join([str(new)], str(tmp_path / "joined.cube"))
    with pytest.raises(UsageError, match="builds on no other"):
        join([str(other), str(old)], str(tmp_path / "joined.cube"))
    assert not (tmp_path / "joined.cube").exists()


def test_what_is_missing_is_said_when_it_is_read(pair: tuple[Path, Path]) -> None:
    (missing,) = verify(str(pair[1])).missing
    with Bundle(str(pair[1])) as bundle, pytest.raises(MissingInput, match="lies in the earlier bundle"):
        bundle.blob(missing)


def test_several_that_build_on_each_other_lie_in_one_folder(pair: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = pair
    weights = next(content for content in members(old).values() if len(content) == 50_000)
    again = {"mlcube.yaml": YAML + b"# again\n", "weights.bin": weights}
    other = make(tmp_path / "another.cube", again, since=str(old))
    newest = make(tmp_path / "newest.cube", again, since=str(other))
    unchanged = [make(tmp_path / f"{name}.cube", again, since=str(newest)) for name in ("a", "z")]
    assert len({members(each)[INDEX] for each in (newest, *unchanged)}) == 1, "unchanged, it has the same index"
    for path in (old, new, other, newest, *unchanged):
        with Bundle(str(path), whole=True) as bundle:
            for _, manifest in walk(bundle):
                assert all(sum(map(len, bundle.chunks(layer.digest))) == layer.size for layer in manifest.layers)


def test_what_any_of_the_earlier_ones_has_is_left_out(pair: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = pair
    weights = next(content for content in members(old).values() if len(content) == 50_000)
    newer = {"mlcube.yaml": YAML + b"# newer\n", "weights.bin": weights}
    third = make(tmp_path / "third.cube", newer, since=str(new))
    assert third.stat().st_size < 10_000
    unchanged = make(tmp_path / "unchanged.cube", newer, since=str(third))
    for each in (third, unchanged):
        assert verify(str(each)).since is not None
        with Bundle(str(each), whole=True) as bundle:
            assert bundle.blob(oci.digest_of(weights)) == weights
    with pytest.raises(UsageError, match="whose place it takes"):
        make(old, newer, since=str(third))
    verify(str(old))
    old.unlink()
    with pytest.raises(MissingInput, match=r"new.cube` builds on an earlier bundle, which does not lie beside it"):
        make(tmp_path / "fourth.cube", newer, since=str(new))
    assert not (tmp_path / "fourth.cube").exists()


def test_one_that_builds_on_a_later_one_finds_what_the_first_has(pair: tuple[Path, Path], tmp_path: Path) -> None:
    newer = {"mlcube.yaml": YAML + b"# newer\n", "more": bytes(range(256))}
    path = make(tmp_path / "newer.cube", newer, since=str(pair[1]))
    (missing,) = verify(str(pair[1])).missing
    with Bundle(str(path), whole=True) as bundle:
        assert bundle.has(missing)
        assert bundle.size_of(missing) == len(bundle.blob(missing)) == 50_000


@pytest.mark.parametrize("names", [("a",), ("a", "b"), ("a", "b", "c")])
def test_forged_bundles_that_name_each_other_are_one_sentence(names: tuple[str, ...], tmp_path: Path) -> None:
    entry = Entry(media_type=oci.MANIFEST, digest=oci.digest_of(b"nowhere"), size=7, annotations={ROLE: "cube"})
    indexes = {name: oci.canonical(Index(manifests=(entry,), annotations={"name": name})) for name in names}
    for name, following in zip(names, (*names[1:], names[0]), strict=True):
        seal = Seal(index=oci.digest_of(indexes[name]), since=oci.digest_of(indexes[following]))
        contents = {LAYOUT: oci.canonical(sealed(seal)), INDEX: indexes[name]}
        (tmp_path / f"{name}.cube").write_bytes(tar_of(contents))
    with Bundle(str(tmp_path / "a.cube"), whole=True) as bundle, pytest.raises(MissingInput, match="is not in"):
        list(walk(bundle))


# Nothing half made.


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    path = make(tmp_path / "m.cube")
    before = path.read_bytes()
    good = cube_artifact({"mlcube.yaml": b"other"})
    wrong = msgspec.structs.replace(
        good, pieces=(Piece(good.pieces[0].descriptor, lambda: io.BytesIO(b"wrong")), *good.pieces[1:])
    )
    with pytest.raises(Damaged, match="is `sha256:"):
        create_bundle(str(path), Gathered(cube=wrong))
    assert path.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["home", "m.cube"]


def test_two_do_not_write_the_same_at_once(tmp_path: Path) -> None:
    from mlcube import locks

    with locks.exclusive(f"{tmp_path}/m.cube.lock"), pytest.raises(Busy):
        make(tmp_path / "m.cube")


def test_what_somebody_left_who_was_killed_is_removed_though_some_of_it_is_missing(tmp_path: Path) -> None:
    others = ("m.cube.backup.part", ".m.cube.1.part", "am.cube.003", "m.cube.007", "m.cube.20261130")
    for name in (".m.cube.002.part", ".m.cube.005.part", "m.cube.001", "m.cube.003", "m.cube.004", *others):
        (tmp_path / name).write_text("left")
    make(tmp_path / "m.cube", {"mlcube.yaml": YAML, "weights.bin": bytes(3 << 20)}, part_size=2 << 20)
    there = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert there == {*others, "m.cube.001", "m.cube.002"}
    verify(str(tmp_path / "m.cube"))


def test_parts_take_the_place_of_a_whole_bundle(tmp_path: Path) -> None:
    make(tmp_path / "m.cube", {"mlcube.yaml": b"name: old"})
    make(tmp_path / "m.cube", {"mlcube.yaml": YAML, "weights.bin": bytes(3 << 20)}, part_size=2 << 20)
    assert not (tmp_path / "m.cube").exists()
    with Bundle(str(tmp_path / "m.cube")) as bundle:
        assert bundle.path == str(tmp_path / "m.cube.001")


@pytest.mark.parametrize("name", ["m.cube.001", "m.cube.002", "m.cube.003", "m.cube", ".m.cube.001.part"])
def test_a_folder_where_a_part_belongs_is_told_before_anything_is_lost(name: str, tmp_path: Path) -> None:
    there = {f"m.cube.{number:03}": f"part {number}" for number in range(1, 5)}
    for each, content in there.items():
        if each != name:
            (tmp_path / each).write_text(content)
    (tmp_path / name).mkdir()
    with pytest.raises(CubeError, match=r"is a folder|cannot be written: is a directory"):
        make(tmp_path / "m.cube", {"mlcube.yaml": YAML, "weights.bin": bytes(3 << 20)}, part_size=2 << 20)
    assert {path.name: path.read_text() for path in tmp_path.iterdir() if path.is_file()} == {
        each: content for each, content in there.items() if each != name
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who can become another user")
def test_a_folder_that_cannot_be_listed_keeps_nothing_of_a_bundle_that_failed(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    folder.chmod(0o300)
    program = (
        "import os, sys\n"
        f"sys.path[:0] = {sys.path!r}\n"
        f"os.chdir({str(folder)!r})\n"
        "from mlcube.bundling.parts import Output\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "output = Output('m.cube', 4)\n"
        "output.write(b'0123456789')\n"
        "os._exit(0) if 'killed' in sys.argv else output.close()\n"
    )
    for word, left in (("closed", []), ("killed", [f".m.cube.{n:03}.part" for n in (1, 2, 3)]), ("closed", [])):
        subprocess.run([sys.executable, "-c", program, word], check=True)
        assert sorted(os.listdir(folder)) == left


def test_what_still_writes_after_the_end_writes_nothing(tmp_path: Path) -> None:
    output = Output(str(tmp_path / "m.cube"))
    output.write(b"something")
    output.close()
    with pytest.raises(CubeError, match="nobody waits"):
        output.write_at(0, b"more")
    assert not [each for each in os.listdir(tmp_path) if "m.cube" in each]


CREATE = """
import sys
sys.path[:0] = {path!r}
from pathlib import Path
from tests.unit.bundles import YAML, make
print("begin", flush=True)
make(Path({target!r}), {{"mlcube.yaml": YAML, "weights.bin": bytes(8 << 20)}}, part_size={part_size})
"""


@pytest.mark.parametrize("part_size", [None, 1 << 20])
def test_killed_at_any_moment_the_same_command_completes(tmp_path: Path, part_size: int | None) -> None:
    target = tmp_path / "m.cube"
    program = CREATE.format(path=sys.path, target=str(target), part_size=part_size)
    choice = random.Random(part_size)
    for _ in range(8):
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(choice.random() * 0.03)
            process.send_signal(signal.SIGKILL)
        named = [name for name in os.listdir(tmp_path) if name.startswith("m.cube") and ".lock" not in name]
        assert named in ([], ["m.cube"]) or part_size
        if "m.cube" in named or "m.cube.001" in named:
            verify(str(target))
    last = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert last.returncode == 0, last.stderr
    verify(str(target))
    assert [name for name in os.listdir(tmp_path) if not name.startswith("m.cube")] == ["home"]
    assert not (tmp_path / "m.cube.lock").exists()


def test_the_index_has_room_whatever_the_sizes_are(tmp_path: Path) -> None:
    entry = Entry(media_type=oci.MANIFEST, digest="", size=0, annotations={ROLE: "cube"})
    with Output(str(tmp_path / "m.cube")) as output:
        writer = Writer(output, [entry])
        long = msgspec.structs.replace(entry, digest="sha256:" + "f" * 64, size=10**12 - 1)
        writer.finish([long])
    with Bundle(str(tmp_path / "m.cube")) as bundle:
        assert bundle.index.manifests[0].size == 10**12 - 1
