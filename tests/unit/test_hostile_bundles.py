"""Bundles whose every digest is right, and whose content means harm: refused by name, and nothing is left of them."""

import io
import os
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import pytest

from mlcube import oci
from mlcube.artifact import ARTIFACT, CONFIG, FILE, FILE_ZSTD, MODE, PACK, PACKED, TITLE, CubeConfig, PublishedImage
from mlcube.binding import generated_image
from mlcube.bundling import artifacts, opened, provide
from mlcube.bundling.creating import REFERRER, Artifact, Files, Gathered, Piece, create_bundle
from mlcube.bundling.images import IMAGE
from mlcube.bundling.layout import CUBE
from mlcube.bundling.opening import VERSIONS
from mlcube.bundling.reading import Bundle
from mlcube.bundling.signatures import admitted, signatures_in
from mlcube.bundling.verifying import verify
from mlcube.compression import zstd
from mlcube.errors import CubeError, Damaged, Untrusted
from mlcube.reading import read_cube
from mlcube.settings import read_settings
from mlcube.trust.key_files import create, read_private
from mlcube.trust.signing import manifest_of, sign, tag_of
from mlcube.workspace import source_digest

YAML = b"name: tiny\ndocker: {image: 'tiny:1'}\ntasks: {train: {}}\n"


def artifact_of(
    layers: list[tuple[str, bytes, dict[str, str]]], config: bytes, config_type: str, **fields: str
) -> Artifact:
    """An artifact of layers (media type, content, annotations)."""
    described = [
        (oci.Descriptor(media_type=kind, digest=oci.digest_of(content), size=len(content), annotations=told), content)
        for kind, content, told in layers
    ]
    own = oci.Descriptor(media_type=config_type, digest=oci.digest_of(config), size=len(config))
    manifest = oci.Manifest(
        schema_version=2,
        media_type=oci.MANIFEST,
        config=own,
        layers=tuple(descriptor for descriptor, _ in described),
        artifact_type=fields.get("artifact_type", ""),
    )
    pieces = tuple(
        Piece(descriptor, partial(io.BytesIO, content)) for descriptor, content in (*described, (own, config))
    )
    return Artifact(manifest=oci.canonical(manifest), pieces=pieces, **fields)  # type: ignore[arg-type]


def cube_of(layers: list[tuple[str, bytes, dict[str, str]]], **about: object) -> Artifact:
    config = CubeConfig(name="tiny", digest=oci.digest_of(YAML), **about)  # type: ignore[arg-type]
    file = (FILE, YAML, {TITLE: "mlcube.yaml", MODE: "644"})
    return artifact_of([file, *layers], oci.canonical(config), CONFIG, name="tiny:1", role=CUBE, artifact_type=ARTIFACT)


def pack(name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> tuple[str, bytes, dict[str, str]]:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.type = kind
        for key, value in fields.items():
            setattr(member, key, value)
        archive.addfile(member)
    return PACK, packed.getvalue(), {PACKED: "1"}


def file(title: str) -> tuple[str, bytes, dict[str, str]]:
    return FILE, b"content of " + title.encode(errors="replace"), {TITLE: title, MODE: "644"}


HOSTILE: dict[str, Callable[[], list[tuple[str, bytes, dict[str, str]]]]] = {
    "/evil": lambda: [pack("/evil")],
    "../../evil": lambda: [pack("../../evil")],
    "out": lambda: [pack("out", tarfile.SYMTYPE, linkname="../../../evil")],
    "passwd": lambda: [pack("passwd", tarfile.SYMTYPE, linkname="/etc/passwd")],
    "shadow": lambda: [pack("shadow", tarfile.LNKTYPE, linkname="/etc/shadow")],
    "sda": lambda: [pack("sda", tarfile.BLKTYPE, devmajor=8)],
    "pipe": lambda: [pack("pipe", tarfile.FIFOTYPE)],
    "su": lambda: [pack("su", mode=0o4755)],
    "readme": lambda: [pack("README"), pack("readme")],
    "MLCUBE.yaml": lambda: [pack("MLCUBE.yaml")],
    "mlcube.yaml": lambda: [pack("mlcube.yaml")],
    "/large": lambda: [file("/large")],
    "../large": lambda: [file("../large")],
    "a/../../large": lambda: [file("a/../../large")],
    "LARGE": lambda: [file("large"), file("LARGE")],
    "mlcube.yaml/below": lambda: [file("mlcube.yaml/below")],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_cube_that_means_harm_is_refused_by_the_name_of_the_entry(name: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.cube"
    create_bundle(str(path), Gathered(cube=cube_of(HOSTILE[name]())))
    verify(str(path))  # as a bundle it is whole
    with pytest.raises(Damaged) as caught:
        opened(str(path))
    assert f"`{name}`" in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["bad.cube", "home"]
    everything = [name for _, _, names in os.walk(tmp_path / "home") for name in names]
    assert not [name for name in everything if name in ("evil", "large", "LARGE", "mlcube.yaml")]


def test_a_file_that_unpacks_to_what_nobody_would_pack_so_small_is_refused(tmp_path: Path) -> None:
    packer = zstd().ZstdCompressor()
    piece = bytes(1 << 20)
    bomb = b"".join([*(packer.compress(piece) for _ in range(320)), packer.flush()])
    path = tmp_path / "bad.cube"
    create_bundle(str(path), Gathered(cube=cube_of([(FILE_ZSTD, bomb, {TITLE: "bomb", MODE: "644"})])))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(Damaged, match="`bomb` of the archive unpacks to so much"):
        opened(str(path))
    assert not [name for _, _, names in os.walk(tmp_path / "home") for name in names if name == "bomb"]


@pytest.mark.parametrize("count", [0, 2])
def test_a_bundle_holds_one_cube_whoever_asks(count: int, tmp_path: Path) -> None:
    path = str(tmp_path / "bad.cube")
    cubes = [msgspec.structs.replace(cube_of([file(str(number))]), name=f"tiny:{number}") for number in range(count)]
    first, *others = cubes or [msgspec.structs.replace(cube_of([]), role=REFERRER)]
    create_bundle(path, Gathered(cube=first, referrers=tuple(others)))
    told = f"holds {count or 'no'} cubes, and a bundle holds one"
    for ask in (verify, opened):
        with pytest.raises(Damaged, match=told):
            ask(path)
    with Bundle(path) as bundle, pytest.raises(Damaged, match=told):
        signatures_in(bundle)


def test_a_cube_whose_file_is_another_is_refused(tmp_path: Path) -> None:
    config = oci.canonical(CubeConfig(name="tiny", digest=oci.digest_of(b"another")))
    layers = [(FILE, YAML, {TITLE: "mlcube.yaml", MODE: "644"})]
    bad = artifact_of(layers, config, CONFIG, name="tiny:1", role=CUBE, artifact_type=ARTIFACT)
    create_bundle(str(tmp_path / "bad.cube"), Gathered(cube=bad))
    with pytest.raises(Damaged, match="is not the one that its configuration tells of"):
        opened(str(tmp_path / "bad.cube"))


@pytest.mark.parametrize("title", ["../evil.whl", "/evil.whl", "a/b.whl", "..", "", "a\nb.whl"])
def test_a_wheel_has_a_plain_name(title: str, tmp_path: Path) -> None:
    kind, media_type = artifacts.KINDS[artifacts.WHEELS]
    wheels = artifact_of(
        [(media_type, b"x", {TITLE: title})], b"{}", oci.EMPTY, name="wheels", role=artifacts.WHEELS, artifact_type=kind
    )
    create_bundle(str(tmp_path / "bad.cube"), Gathered(cube=cube_of([]), referrers=(wheels,)))
    with Bundle(str(tmp_path / "bad.cube")) as bundle, pytest.raises(Damaged, match="which is no plain name"):
        artifacts.extract(bundle, bundle.entries(artifacts.WHEELS)[0], str(tmp_path / "out"))


@pytest.mark.parametrize(("letters", "fits"), [("x" * 251, True), ("x" * 252, False), ("é" * 126, False)])
def test_a_wheel_has_a_name_that_a_file_can_have(letters: str, fits: bool, tmp_path: Path) -> None:
    kind, media_type = artifacts.KINDS[artifacts.WHEELS]
    layers = [(media_type, b"x", {TITLE: f"{letters}.whl"})]
    wheels = artifact_of(layers, b"{}", oci.EMPTY, name="wheels", role=artifacts.WHEELS, artifact_type=kind)
    create_bundle(str(tmp_path / "bad.cube"), Gathered(cube=cube_of([]), referrers=(wheels,)))
    with Bundle(str(tmp_path / "bad.cube")) as bundle:
        (entry,) = bundle.entries(artifacts.WHEELS)
        if fits:
            artifacts.extract(bundle, entry, str(tmp_path / "out"))
            assert os.listdir(tmp_path / "out") == [f"{letters}.whl"]
        else:
            with pytest.raises(Damaged, match=rf"`{letters[:50]}.*\.\.\.`, which is too long a name for a file"):
                artifacts.extract(bundle, entry, str(tmp_path / "out"))
            assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_have_a_name_so_long_is_told(tmp_path: Path) -> None:
    create_bundle(str(tmp_path / "m.cube"), Gathered(cube=cube_of([])))
    place = str(tmp_path / ("x" * 300))
    with Bundle(str(tmp_path / "m.cube")) as bundle, pytest.raises(CubeError, match="file name too long"):
        bundle.extract(bundle.digests[0], place)
    with Bundle(str(tmp_path / "m.cube")) as bundle, pytest.raises(CubeError, match="no such file"):
        bundle.extract(bundle.digests[0], str(tmp_path / "none" / "x"))
    assert sorted(os.listdir(tmp_path)) == ["home", "m.cube"]


@pytest.mark.parametrize(
    "version", ["3", "x", "3.x", ". .", "3.-1", "3." + "9" * 5000, "3.\u0661", "3.11 3", "\x1b[31m"]
)
def test_wheels_are_for_pythons_that_there_can_be(version: str, tmp_path: Path) -> None:
    path = str(tmp_path / "bad.cube")
    (tmp_path / "x.whl").write_bytes(b"x")
    told = {VERSIONS: version}
    wheels = Files(role=artifacts.WHEELS, name="wheels", paths=(str(tmp_path / "x.whl"),), annotations=told)
    create_bundle(path, Gathered(cube=cube_of([]), files=(wheels,)))
    found = opened(path)
    with pytest.raises(Damaged, match="which is no Python") as caught:
        provide(path, "local", read_settings(), found.config)
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()
    assert not (tmp_path / "home" / ".cache" / "mlcube" / "bundles").exists()


def test_what_a_bundle_gave_before_is_verified_before_it_is_used(tmp_path: Path) -> None:
    kind, media_type = artifacts.KINDS[artifacts.SIF]
    sif = artifact_of(
        [(media_type, b"the image", {TITLE: "x.sif"})], b"{}", oci.EMPTY, name="x", role=artifacts.SIF,
        artifact_type=kind,
    )  # fmt: skip
    create_bundle(str(tmp_path / "m.cube"), Gathered(cube=cube_of([]), referrers=(sif,)))
    for found in (b"", b"the imagE", b"the image of somebody else"):
        with Bundle(str(tmp_path / "m.cube")) as bundle:
            (path,) = artifacts.extract(bundle, bundle.entries(artifacts.SIF)[0], str(tmp_path / "out"))
        assert Path(path).read_bytes() == b"the image"
        Path(path).write_bytes(found)
    Path(path).unlink()
    Path(path).symlink_to(tmp_path / "m.cube")
    with Bundle(str(tmp_path / "m.cube")) as bundle:
        artifacts.extract(bundle, bundle.entries(artifacts.SIF)[0], str(tmp_path / "out"))
    assert not Path(path).is_symlink()


def image(content: bytes, name: str = "tiny:1") -> Artifact:
    layers = [("application/vnd.oci.image.layer.v1.tar", content, dict[str, str]())]
    config = oci.canonical({"rootfs": {"diff_ids": [oci.digest_of(content)]}})
    return artifact_of(layers, config, "application/vnd.oci.image.config.v1+json", name=name, role=IMAGE)


@pytest.fixture
def signed(tmp_path: Path) -> Callable[[Artifact], Artifact]:
    """A policy that asks for a signature by `lab`, and what signs a cube with that key."""
    config = tmp_path / "home" / ".config" / "mlcube"
    config.mkdir(parents=True)
    create(str(config / "lab"), "secret")
    key = read_private(str(config / "lab.key"), lambda: "secret")
    (config / "trust.yaml").write_text(f"keys: {{lab: '{config / 'lab.pub'}'}}\ndefault: signed\n")

    def signature(cube: Artifact) -> Artifact:
        digest = oci.digest_of(cube.manifest)
        told = sign(key, "example.org/tiny", digest)
        manifest, own = manifest_of([told])
        found = msgspec.json.decode(manifest, type=oci.Manifest)
        contents = ((found.layers[0], told.payload), (found.config, own))
        pieces = tuple(Piece(descriptor, partial(io.BytesIO, content)) for descriptor, content in contents)
        return Artifact(name=tag_of(digest), role=REFERRER, manifest=manifest, pieces=pieces)

    return signature


def pinning(image: Artifact) -> Artifact:
    """A cube that names this image by its digest."""
    pinned = f"example.org/tiny@{oci.digest_of(image.manifest)}"
    return cube_of([], image=PublishedImage(reference="tiny:1", pinned=pinned))


Sign = Callable[[Artifact], Artifact]


def test_the_image_that_a_signed_cube_names_is_covered(signed: Sign, tmp_path: Path) -> None:
    path, own = str(tmp_path / "m.cube"), image(b"own")
    cube = pinning(own)
    create_bundle(path, Gathered(cube=cube, referrers=(signed(cube),), images=(own,)))
    found = opened(path)
    provided = provide(path, "docker", read_settings(), found.config, rehearsal=True)
    assert provided.overrides[0].startswith("docker.image=sha256:")


def test_another_image_beside_a_signed_cube_is_refused(signed: Sign, tmp_path: Path) -> None:
    path = str(tmp_path / "bad.cube")
    cube = pinning(image(b"own"))
    create_bundle(path, Gathered(cube=cube, referrers=(signed(cube),), images=(image(b"another"),)))
    found = opened(path)
    with pytest.raises(Untrusted, match="does not cover the image"):
        provide(path, "docker", read_settings(), found.config)


@pytest.mark.parametrize(("role", "platform"), [(artifacts.SIF, "singularity"), (artifacts.WHEELS, "local")])
def test_files_beside_a_signed_cube_are_covered_by_nobody(
    role: str, platform: str, signed: Sign, tmp_path: Path
) -> None:
    path = str(tmp_path / "bad.cube")
    cube = cube_of([])
    kind, media_type = artifacts.KINDS[role]
    layers = [(media_type, b"x", {TITLE: "x.whl"})]
    beside = artifact_of(layers, b"{}", oci.EMPTY, name=role, role=role, artifact_type=kind)
    create_bundle(path, Gathered(cube=cube, referrers=(signed(cube), beside)))
    found = opened(path)
    with pytest.raises(Untrusted, match="does not cover"):
        provide(path, platform, read_settings(), found.config)
    assert not (tmp_path / "home" / ".cache" / "mlcube" / "bundles").exists()


def test_an_image_of_packages_has_the_name_of_its_cube_alone(tmp_path: Path) -> None:
    """Else a bundle could put another image in the place of `python:3.12`, or of any cube."""
    contents = {"mlcube.yaml": b"name: tiny\npython: {source: .}\ntasks: {hi: {entrypoint: python hi.py}}\n"}
    (tmp_path / "cube").mkdir()
    (tmp_path / "cube/mlcube.yaml").write_bytes(contents["mlcube.yaml"])
    cube, _ = read_cube(str(tmp_path / "cube"))
    assert cube.python is not None
    own = generated_image(cube.name, cube.python, source_digest(cube.python.source))
    for name, expected in (("python:3.12-slim", None), ("cube/tiny:000000000000", None), (own, own)):
        config = CubeConfig(name="tiny", digest=oci.digest_of(contents["mlcube.yaml"]), python={"source": "."})
        layers = [(FILE, content, {TITLE: title, MODE: "644"}) for title, content in contents.items()]
        artifact = artifact_of(layers, oci.canonical(config), CONFIG, name="tiny:1", role=CUBE, artifact_type=ARTIFACT)
        path = str(tmp_path / "x.cube")
        create_bundle(path, Gathered(cube=artifact, referrers=(image(b"layer", name),)))
        found = opened(path)
        said: list[str] = []
        provided = provide(path, "docker", read_settings(), found.config, rehearsal=True, report=said.append)
        assert provided.image == expected
        assert [text for text in said if "is left out" in text] == (
            [] if expected else [f"the image `{name}` in the bundle is left out: it is not that of its cube"]
        )
        Path(path).unlink()


@pytest.mark.parametrize("turned", ["m.cube", "m.cube.001", "m.cube.002"])
def test_a_link_that_is_turned_while_it_is_followed_lends_no_name(turned: str, tmp_path: Path) -> None:
    """Else a rule is asked about one file, and another runs."""
    for folder in ("good", "evil", "shared", "home/.config/mlcube"):
        (tmp_path / folder).mkdir(parents=True)
    size = None if turned == "m.cube" else 2048
    for folder in ("good", "evil"):
        parts = create_bundle(str(tmp_path / folder / "m.cube"), Gathered(cube=cube_of([])), part_size=size)
        for part in map(Path, parts):
            (tmp_path / "shared" / part.name).unlink(missing_ok=True)
            (tmp_path / "shared" / part.name).symlink_to(part)
    policy = f"rules: [{{kinds: [bundle], names: ['{tmp_path}/*/m.cube*'], allow: always}}]\n"
    (tmp_path / "home/.config/mlcube/trust.yaml").write_text(policy)
    with Bundle(str(tmp_path / "shared/m.cube")) as bundle:
        admission = admitted(bundle, bundle.entries(CUBE)[0])
        assert admission is not None
        (tmp_path / "shared" / turned).unlink()
        (tmp_path / "shared" / turned).symlink_to(tmp_path / "good" / turned)
        with pytest.raises(Untrusted, match="leads by now to another file than was opened"):
            admitted(bundle, bundle.entries(CUBE)[0])
        (tmp_path / "shared" / turned).unlink()
        with pytest.raises(Untrusted, match="leads by now to another file"):
            admitted(bundle, bundle.entries(CUBE)[0])


def test_an_unsigned_or_changed_cube_is_not_even_unpacked(signed: Sign, tmp_path: Path) -> None:
    path = str(tmp_path / "bad.cube")
    good, other = cube_of([]), cube_of([file("more")])
    create_bundle(path, Gathered(cube=other, referrers=(signed(good),)))
    with pytest.raises(Untrusted, match="is not signed"):
        opened(path)
    assert not (tmp_path / "home" / ".cache" / "mlcube" / "store" / "cubes").exists()
