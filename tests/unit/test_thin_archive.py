"""An image's archive without the layers that another host has."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from mlcube_runners._thin_archive import thin
from tests.unit.images import configuration, docker_archive, file, layer

BASE, MIDDLE, TOP = (layer(file(name, name * 100)) for name in ("base", "middle", "top"))


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def asked(archive: bytes, layers: list[bytes], *there: list[bytes]) -> io.BytesIO:
    """What the step reads."""
    lists = [json.dumps([digest(one) for one in image]) for image in (layers, *there)]
    return io.BytesIO(f"sha256:abc {lists[0]}\n".encode() + "\n".join([*lists[1:], "", ""]).encode() + archive)


def names(answer: io.BytesIO) -> tuple[str, list[str]]:
    """The first line of what the step writes, and what is in the archive after it."""
    first, _, archive = answer.getvalue().partition(b"\n")
    with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
        return first.decode(), packed.getnames()


def old_docker(path: Path, *layers: bytes) -> bytes:
    return docker_archive(path / "image.tar", *layers).read_bytes()


def by_digest(*layers: bytes, pattern: str) -> bytes:
    """As Podman (`{}.tar`) and Docker since 25 (`blobs/sha256/{}`) name layers."""
    described = configuration(layers)
    placed = {pattern.format(digest(one)[7:]): one for one in layers}
    entry = {"Config": "c.json", "RepoTags": ["localhost/x:1"], "Layers": list(placed)}
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as packed:
        for name, content in {**placed, "c.json": described, "manifest.json": json.dumps([entry]).encode()}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
    return written.getvalue()


def test_layers_that_are_there_are_left_out_of_an_old_archive(tmp_path: Path) -> None:
    layers = [BASE, MIDDLE, TOP]
    answer = io.BytesIO()
    thin(asked(old_docker(tmp_path, *layers), layers, [BASE, MIDDLE, BASE], [TOP]), answer, "archive")
    assert names(answer) == ("sha256:abc archive", ["config.json", "manifest.json", "2/layer.tar"])


def test_so_they_are_where_the_names_tell_their_digests() -> None:
    layers = [BASE, MIDDLE]
    answer = io.BytesIO()
    thin(asked(by_digest(*layers, pattern="blobs/sha256/{}"), layers, [BASE]), answer, "archive")
    assert names(answer)[1] == [f"blobs/sha256/{digest(MIDDLE)[7:]}", "c.json", "manifest.json"]


def test_a_layer_that_lies_upon_others_there_is_sent(tmp_path: Path) -> None:
    answer = io.BytesIO()
    thin(asked(old_docker(tmp_path, BASE, TOP), [BASE, TOP], [MIDDLE, BASE, TOP]), answer, "archive")
    assert "0/layer.tar" in names(answer)[1]


def test_the_same_content_further_up_is_sent(tmp_path: Path) -> None:
    layers = [BASE, TOP, BASE]
    answer = io.BytesIO()
    thin(asked(old_docker(tmp_path, *layers), layers, [BASE]), answer, "archive")
    assert {"0/layer.tar", "2/layer.tar"} <= set(names(answer)[1])


def test_where_nothing_is_known_everything_is_sent(tmp_path: Path) -> None:
    answer = io.BytesIO()
    archive = old_docker(tmp_path, BASE, TOP)
    thin(asked(archive, [BASE, TOP]), answer, "archive")
    with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
        assert names(answer)[1] == packed.getnames()


def test_podman_gets_a_directory_whose_manifest_names_every_layer() -> None:
    layers = [BASE, TOP]
    answer = io.BytesIO()
    thin(asked(by_digest(*layers, pattern="{}.tar"), layers, [BASE]), answer, "directory")
    described = digest(configuration(layers))[7:]
    first, found = names(answer)
    assert first == "sha256:abc directory"
    assert found == [f"image/{digest(TOP)[7:]}", f"image/{described}", "image/version", "names", "image/manifest.json"]
    with tarfile.open(fileobj=io.BytesIO(answer.getvalue().partition(b"\n")[2])) as packed:
        manifest = json.load(packed.extractfile("image/manifest.json") or io.BytesIO())
        tags = (packed.extractfile("names") or io.BytesIO()).read()
    assert [(one["digest"], one["size"]) for one in manifest["layers"]] == [(digest(one), len(one)) for one in layers]
    assert tags == b"localhost/x:1\n"


@pytest.mark.parametrize("form", ["archive", "directory"])
def test_what_was_cut_is_no_image(form: str) -> None:
    layers = [BASE, TOP]
    archive = by_digest(*layers, pattern="{}.tar")
    end = archive.index(b"manifest.json")
    with pytest.raises((ValueError, LookupError, tarfile.TarError)):
        thin(asked(archive[:end], layers, [BASE]), io.BytesIO(), form)


def test_layers_of_other_names_make_no_directory(tmp_path: Path) -> None:
    with pytest.raises((ValueError, LookupError)):
        thin(asked(old_docker(tmp_path, BASE), [BASE]), io.BytesIO(), "directory")
