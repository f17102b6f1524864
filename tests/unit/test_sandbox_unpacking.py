"""Images become root file systems; whatever an archive says, nothing is written anywhere else."""

import io
import os
import signal
import stat
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from mlcube_runners._oci_layout import BadImage
from mlcube_runners._root_file_system import main, unpack
from tests.unit.images import (
    Member,
    configuration,
    device,
    docker_archive,
    file,
    folder,
    layer,
    link,
    oci_layout,
    tree,
)

PLACES = {"tmp": "/", "proc": "/", "dev": "/", "sys": "/"}


def unpacked(tmp_path: Path, *layers: bytes, **fields: Any) -> Path:
    """The root file system of an image with these layers."""
    archive = docker_archive(tmp_path / "image.tar", *layers, **fields)
    unpack(str(archive), str(tmp_path / "store"), "name", "x:1")
    return tmp_path / "store" / "references" / "name" / "root"


def test_files_links_and_directories_are_as_the_layer_has_them(tmp_path: Path) -> None:
    members = [folder("etc"), file("etc/a b", "ä"), link("etc/link", "/etc/a b"), link("etc/two", "etc/a b", hard=True)]
    root = unpacked(tmp_path, layer(*members))
    expected = {"etc": "/", "etc/a b": "ä", "etc/link": "-> /etc/a b", "etc/two": "ä"}
    assert tree(root) == PLACES | expected
    assert (root / "etc/a b").samefile(root / "etc/two")
    assert (root / "etc/a b").stat().st_mtime == 1_000_000_000, "bytecode is valid for a source of this time"


def test_upper_layers_replace_what_lies_below(tmp_path: Path) -> None:
    lower = layer(
        file("a", "old"), file("was-file", "x"), folder("was-folder"), file("was-folder/x"), file("kept", "k")
    )
    upper = layer(file("a", "new"), folder("was-file"), file("was-file/y", "y"), file("was-folder", "now a file"))
    root = unpacked(tmp_path, lower, upper)
    expected = {"a": "new", "was-file": "/", "was-file/y": "y", "was-folder": "now a file", "kept": "k"}
    assert tree(root) == PLACES | expected


def test_whiteouts_hide_what_lies_below(tmp_path: Path) -> None:
    lower = layer(file("etc/gone", "x"), file("etc/kept", "k"), file("var/lib/deep/x"), file("opt/a"), file("opt/b"))
    upper = layer(file("etc/.wh.gone"), file("var/lib/.wh.deep"), file("opt/.wh..wh..opq"), file("opt/c", "c"))
    root = unpacked(tmp_path, lower, upper)
    expected = {"etc": "/", "etc/kept": "k", "var": "/", "var/lib": "/", "opt": "/", "opt/c": "c"}
    assert tree(root) == PLACES | expected


def test_a_whiteout_spares_what_its_own_layer_brings(tmp_path: Path) -> None:
    root = unpacked(tmp_path, layer(file("a/old")), layer(file("a", "new"), file(".wh.a")))
    assert (root / "a").read_text() == "new"


def test_set_id_bits_are_dropped_and_everything_can_be_read_and_deleted(tmp_path: Path) -> None:
    root = unpacked(
        tmp_path, layer(folder("locked", 0o000), file("locked/su", "x", 0o6755), file("secret", "s", 0o000))
    )
    modes = {name: stat.S_IMODE((root / name).lstat().st_mode) for name in ("locked", "locked/su", "secret")}
    assert modes == {"locked": 0o700, "locked/su": 0o755, "secret": 0o600}


def test_devices_are_left_out(tmp_path: Path) -> None:
    assert tree(unpacked(tmp_path, layer(device("dev-null"), file("a", "a")))) == PLACES | {"a": "a"}


def test_a_leading_slash_is_the_image_s_root(tmp_path: Path) -> None:
    assert (unpacked(tmp_path, layer(file("/etc/name", "n"))) / "etc/name").read_text() == "n"


@pytest.mark.parametrize("name", ["tmp", "proc", "dev", "sys"])
def test_what_every_sandbox_mounts_something_at_is_no_link(tmp_path: Path, name: str) -> None:
    assert tree(unpacked(tmp_path, layer(link(name, "/etc")))) == PLACES


OUTSIDE = "/outside"
HOSTILE: dict[str, tuple[list[Member], str]] = {
    "a name above": ([file("../evil")], "`../evil` leads out of the image"),
    "a name above, further in": ([file("a/../../evil")], "`a/../../evil` leads out of the image"),
    "a directory above": ([folder("..")], "`..` leads out of the image"),
    "below a link": ([link("a", OUTSIDE), file("a/evil")], "`a/evil` lies below `a`, which is no directory"),
    "below a link, as a directory": ([link("a", OUTSIDE), folder("a/b")], "`a/b` lies below `a`"),
    "below a link, as a link": ([link("a", OUTSIDE), link("a/b", "x")], "`a/b` lies below `a`"),
    "below a file": ([file("a"), file("a/b")], "`a/b` lies below `a`, which is no directory"),
    "a hard link out": (
        [link("a", "/etc/passwd", hard=True)],
        "`a` is a hard link to `etc/passwd`, which is no file of its layer",
    ),
    "a hard link above": ([link("a", "../../etc/passwd", hard=True)], "`../../etc/passwd` leads out of the image"),
    "a hard link below a link": ([link("a", OUTSIDE), link("b", "a/x", hard=True)], "which is no file of its layer"),
    "a hard link to a directory": ([folder("a"), link("b", "a", hard=True)], "which is no file of its layer"),
    "a whiteout of the parent": ([file("a/.wh...")], "a whiteout hides `..`"),
    "a whiteout of everything": ([file("a/.wh.")], "a whiteout hides ``"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_would_leave_the_image_is_refused_and_nothing_stays(tmp_path: Path, case: str) -> None:
    members, message = HOSTILE[case]
    archive = docker_archive(tmp_path / "image.tar", layer(file("good"), *members))
    with pytest.raises(BadImage) as error:
        unpack(str(archive), str(tmp_path / "store"), "name", "x:1")
    assert message in str(error.value)
    left = [path for path in (tmp_path / "store").rglob("*") if path.parent != tmp_path / "store"]
    assert left == []


def test_a_link_of_a_lower_layer_is_not_written_through(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("p")
    lower = layer(link("a", str(outside)), link("b", str(outside)), link("c", str(outside)))
    upper = layer(file("a/evil", "e"), file("b/.wh.precious"), file("c/.wh..wh..opq"))
    root = unpacked(tmp_path, lower, upper)
    assert tree(outside) == {"precious": "p"}
    assert (root / "a/evil").read_text() == "e"


def test_a_link_that_is_replaced_by_a_file_is_not_written_through(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("p")
    root = unpacked(tmp_path, layer(link("a", str(outside)), file("a", "e")))
    assert (outside.read_text(), (root / "a").read_text()) == ("p", "e")


def test_a_directory_that_becomes_a_file_and_a_directory_again(tmp_path: Path) -> None:
    root = unpacked(tmp_path, layer(file("a/b/c"), file("a", "x"), folder("a"), file("a/d", "d")))
    assert tree(root) == PLACES | {"a": "/", "a/d": "d"}


def test_images_share_their_layers(tmp_path: Path) -> None:
    base = layer(file("base", "b"))
    for name in ("one", "two"):
        archive = docker_archive(tmp_path / f"{name}.tar", base, layer(file(name, name)))
        unpack(str(archive), str(tmp_path / "store"), name, name)
    references = tmp_path / "store" / "references"
    assert (references / "one/root/base").samefile(references / "two/root/base")
    assert len(list((tmp_path / "store" / "layers").iterdir())) == 3


def test_a_name_means_the_image_that_was_unpacked_last(tmp_path: Path) -> None:
    for content in ("old", "new"):
        root = unpacked(tmp_path, layer(file("a", content)))
    assert (root / "a").read_text() == "new"
    assert len(list((tmp_path / "store" / "images").iterdir())) == 2, "a task that runs keeps the image that it has"


def test_what_is_there_is_not_unpacked_again(tmp_path: Path) -> None:
    root = unpacked(tmp_path, layer(file("a", "a")))
    before = root.stat().st_ino
    assert unpacked(tmp_path, layer(file("a", "a"))).stat().st_ino == before


def test_an_oci_layout_is_read_and_its_packed_layers_too(tmp_path: Path) -> None:
    layout = oci_layout(tmp_path / "layout", layer(file("a", "a")), layer(file("b", "b")))
    unpack(str(layout), str(tmp_path / "store"), "name", "x")
    assert tree(tmp_path / "store/references/name/root") == PLACES | {"a": "a", "b": "b"}


def test_a_packed_oci_layout_is_read(tmp_path: Path) -> None:
    layout = oci_layout(tmp_path / "layout", layer(file("a", "a")))
    archive = tmp_path / "layout.tar"
    with tarfile.open(archive, "w") as packed:
        packed.add(layout, ".")
    unpack(str(archive), str(tmp_path / "store"), "name", "x")
    assert tree(tmp_path / "store/references/name/root") == PLACES | {"a": "a"}


def test_of_several_machines_the_one_that_this_is_is_chosen(tmp_path: Path) -> None:
    here = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    unpack(str(oci_layout(tmp_path / "l", layer(file("a")), machines=("sparc", here))), str(tmp_path / "s"), "n", "x")
    layout = oci_layout(tmp_path / "m", layer(file("a")), machines=("sparc", "vax"))
    with pytest.raises(BadImage, match="no image for this machine"):
        unpack(str(layout), str(tmp_path / "s"), "n", "x")


def test_a_damaged_layer_is_noticed_and_not_kept(tmp_path: Path) -> None:
    good, other = layer(file("a", "good")), layer(file("a", "evil"))
    archive = docker_archive(tmp_path / "image.tar", other, config=configuration([good]))
    with pytest.raises(BadImage, match="damaged: its content has another digest"):
        unpack(str(archive), str(tmp_path / "store"), "name", "x")
    assert list((tmp_path / "store" / "layers").iterdir()) == []


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "it holds no image"),
        ({"manifest.json": b"[]"}, "describes no image"),
        ({"manifest.json": b"{"}, "`manifest.json` is no JSON"),
        ({"manifest.json": b'[{"Config": "c", "Layers": []}]'}, "there is no file `c` in it"),
        ({"manifest.json": b'[{"Config": "c", "Layers": []}]', "c": b"[]"}, "names no layers"),
        ({"manifest.json": b'[{"Config": "c", "Layers": ["x"]}]', "c": b'{"rootfs": {"diff_ids": []}}'}, "disagree"),
        (
            {
                "manifest.json": b'[{"Config": "c", "Layers": ["x"]}]',
                "c": b'{"rootfs": {"diff_ids": ["sha256:../../../../etc/cron.d/evil"]}}',
            },
            "disagree",
        ),
        ({"index.json": b'{"manifests": []}'}, "names no manifest"),
        ({"index.json": b'{"manifests": [{"digest": "sha256:../../x"}]}'}, "`sha256:../../x` is no digest"),
    ],
)
def test_what_is_no_image_is_told_so(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    archive = tmp_path / "image.tar"
    with tarfile.open(archive, "w") as packed:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
    with pytest.raises(BadImage, match=message):
        unpack(str(archive), str(tmp_path / "store"), "name", "x")


def test_a_layout_cannot_name_files_outside_of_it(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    layout.mkdir()
    (tmp_path / "config.json").write_bytes(configuration([]))
    (layout / "manifest.json").write_text('[{"Config": "../config.json", "Layers": []}]')
    with pytest.raises(BadImage, match="which is outside of it"):
        unpack(str(layout), str(tmp_path / "store"), "name", "x")


def test_a_file_that_is_no_archive_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "image.tar").write_text("x" * 2000)
    told = main([str(tmp_path / "image.tar"), str(tmp_path / "store"), "name", "example:1"])
    assert told is not None
    assert told.startswith("the image `example:1` cannot be unpacked: it cannot be read: ")


def test_it_is_a_program_that_needs_nothing_of_the_directory_that_it_stands_in(tmp_path: Path) -> None:
    archive = docker_archive(tmp_path / "image.tar", layer(file("a", "a")))
    words = [str(archive), str(tmp_path / "store"), "name", "x"]
    argv = [sys.executable, "-m", "mlcube_runners._root_file_system", *words]
    ended = subprocess.run(argv, cwd="/", capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert (tmp_path / "store/references/name/root/a").read_text() == "a"


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_nothing_half_made_stays(tmp_path: Path, number: signal.Signals) -> None:
    archive = docker_archive(tmp_path / "image.tar", layer(*(file(f"file-{each}", "x" * 9000) for each in range(9000))))
    argv = [sys.executable, "-m", "mlcube_runners._root_file_system", str(archive), str(tmp_path / "store"), "n", "x"]
    process = subprocess.Popen(["nice", "-n", "19", *argv])  # so that it has not ended before this sees that it began
    layers = tmp_path / "store" / "layers"
    while not any(layers.glob(".new-*/files/file-0")):
        assert process.poll() is None
    process.send_signal(number)
    assert process.wait(timeout=20) == 128 + number
    assert list(layers.iterdir()) == []


def test_what_killed_processes_left_is_removed_by_the_next_one_and_what_others_make_is_not(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    host = os.uname().nodename
    mine, dead = f".new-{host}-{os.getpid()}-a", f".new-{host}-{ended.pid}-b"
    far, far_and_old, unnamed_and_old = ".new-far-away-7-c", ".new-far-away-8-d", ".new-e"
    for name in (mine, dead, far, far_and_old, unnamed_and_old):
        for kind in ("layers", "images"):
            (tmp_path / "store" / kind / name / "files").mkdir(parents=True)
            if name in (far_and_old, unnamed_and_old):
                os.utime(tmp_path / "store" / kind / name, (1, 1))
    unpacked(tmp_path, layer(file("a", "a")))
    for kind in ("layers", "images"):
        left = {path.name for path in (tmp_path / "store" / kind).glob(".new-*")}
        assert left == {mine, far}
