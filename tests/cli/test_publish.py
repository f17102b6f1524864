"""`cube publish` against a real registry, with oras and skopeo as witnesses of what is there."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlcube.errors import MissingInput
from mlcube.oci import Manifest, digest_of
from mlcube.registry import Registry, Repository
from tests.conftest import WITNESSES

HOST = "127.0.0.1:5000"
KILLED = int(os.environ.get("CUBE_TEST_KILLS", "10"))

CUBE = """\
name: model
version: "1.0"
description: A model with weights.
license: MIT
docker: {image: 'example/none:1'}
tasks:
  infer:
    parameters:
      inputs: {data: {type: directory, default: data/}}
      outputs: {out: {type: directory, default: out/}}
"""

pytestmark = [pytest.mark.engine("registry")]


@pytest.fixture
def repository() -> Repository:
    return Repository(HOST, f"cube-test/publish-{uuid.uuid4().hex}")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A cube with small files, two large ones and a card."""
    root = tmp_path / "model"
    (root / "src").mkdir(parents=True)
    (root / "workspace/data").mkdir(parents=True)
    (root / "mlcube.yaml").write_text(CUBE)
    (root / "README.md").write_text("# A model\n")
    (root / "workspace/data/sample.txt").write_text("a sample\n")
    for number in range(100):
        (root / f"src/part{number:03}.py").write_bytes(f"# {number}\n".encode() + os.urandom(5000))
    for name in ("weights.bin", "more.bin"):
        (root / name).write_bytes(os.urandom(1 << 20))
    (root / "more.bin").chmod(0o755)
    return root


def cube(*words: object, status: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "mlcube", *map(str, words)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    assert done.returncode == status, done.stderr
    return done


def publish(root: Path, repository: Repository, *words: str, tag: str = "1") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cube("publish", root, f"oci://{repository}:{tag}", *words, "--json").stdout)
    return found


def test_a_tag_that_is_another_version_is_told(root: Path, repository: Repository) -> None:
    done = cube("publish", root, f"oci://{repository}:2.0", "--dry-run", "--no-image")
    assert "the cube's `version` is `1.0`" in done.stderr
    for tag in ("1", "1.0", "v1.0", "latest", "mine"):
        done = cube("publish", root, f"oci://{repository}:{tag}", "--dry-run", "--no-image")
        assert "`version`" not in done.stderr


def test_without_a_network_nothing_is_published(root: Path, repository: Repository) -> None:
    done = cube("publish", root, f"oci://{repository}:1.0", status=68, CUBE_OFFLINE="1")
    assert "without a network" in done.stderr


def whole(repository: Repository, reference: str) -> Manifest:
    """The manifest at a tag, if everything that it names can be read and is what it must be."""
    with Registry(repository) as registry:
        _, content = registry.manifest(reference)
        manifest = msgspec.json.decode(content, type=Manifest)
        for each in (manifest.config, *manifest.layers):
            assert digest_of(registry.blob(each)) == each.digest
    return manifest


def oras(*words: str, directory: Path | None = None) -> str:
    argv = [f"{WITNESSES}/oras", *words[:1], "--plain-http", *words[1:]]
    if words[0] in ("manifest", "blob"):
        argv = [f"{WITNESSES}/oras", *words[:2], "--plain-http", *words[2:]]
    return subprocess.run(argv, check=True, capture_output=True, text=True, cwd=directory).stdout


@pytest.mark.engine("witnesses")
def test_others_read_what_was_published(root: Path, repository: Repository, tmp_path: Path) -> None:
    told = publish(root, repository, "--no-image")
    place = f"{repository}:1"
    manifest = json.loads(oras("manifest", "fetch", place))
    assert digest_of(oras("manifest", "fetch", place).encode()) == told["digest"]
    assert manifest["artifactType"] == "application/vnd.mlcube.cube.v1"
    assert manifest["annotations"]["org.opencontainers.image.title"] == "model"
    there = tmp_path / "there"
    there.mkdir()
    oras("pull", place, directory=there)
    assert {path.name: path.read_bytes() for path in there.iterdir()} == {
        name: (root / name).read_bytes() for name in ("README.md", "weights.bin", "more.bin")
    }
    found = json.loads(oras("discover", "--format", "json", place))
    kinds = {each["artifactType"] for each in found["manifests"]}
    assert kinds == {"application/vnd.cyclonedx+json", "application/vnd.mlcube.publication.v1+json"}
    skopeo = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{place}"]
    raw = subprocess.run(skopeo, check=True, capture_output=True).stdout
    assert digest_of(raw) == told["digest"]
    copied = tmp_path / "copied"
    copy = ["skopeo", "copy", "--src-tls-verify=false", f"docker://{place}", f"oci:{copied}:1"]
    subprocess.run(copy, check=True, capture_output=True)
    assert (copied / "blobs/sha256" / told["digest"].removeprefix("sha256:")).is_file()


def test_only_what_changed_is_sent_again(root: Path, repository: Repository) -> None:
    first = publish(root, repository, "--no-image")
    assert first["sent_bytes"] > 2 << 20
    again = publish(root, repository, "--no-image")
    assert (again["unchanged"], again["sent_bytes"], again["digest"]) == (True, 0, first["digest"])
    assert again["referrers"] == first["referrers"]
    with open(root / "src/part050.py", "ab") as file:
        file.write(b"# one line\n")
    changed = publish(root, repository, "--no-image")
    assert not changed["unchanged"]
    assert 0 < changed["sent_bytes"] < 1 << 20
    other = publish(root, repository, "--no-image", tag="2")
    assert other["digest"] == changed["digest"]
    assert other["sent_bytes"] < 100_000, "blobs of the repository are found under another tag too"
    whole(repository, "1")


def test_a_dry_run_tells_digests_and_sends_nothing(root: Path, repository: Repository) -> None:
    told = publish(root, repository, "--no-image", "--dry-run")
    done = cube("publish", root, f"oci://{repository}:1", "--no-image", "--dry-run")
    assert told["digest"] in done.stdout
    assert "weights.bin" in done.stdout
    with Registry(repository) as registry:
        assert not registry.has(told["layers"][0]["digest"])
    sent = publish(root, repository, "--no-image")
    assert sent["digest"] == told["digest"]
    after = publish(root, repository, "--no-image", "--dry-run")
    assert (after["bytes"], {layer["there"] for layer in after["layers"]}) == (0, {True})


def test_a_dry_run_needs_no_registry(root: Path) -> None:
    place = "oci://127.0.0.1:1/nobody/there:1"
    done = cube("publish", root, place, "--no-image", "--dry-run", CUBE_REGISTRY_PATIENCE="0")
    assert "manifest  sha256:" in done.stdout
    assert "what the registry has is not known" in done.stderr
    cube("publish", root, place, "--no-image", status=68, CUBE_REGISTRY_PATIENCE="0")


def test_declared_inputs_travel_if_asked(root: Path, repository: Repository) -> None:
    told = publish(root, repository, "--no-image", "--dry-run", "--with-inputs")
    assert "workspace/data/sample.txt" in [path for layer in told["layers"] for path in layer["paths"]]
    without = publish(root, repository, "--no-image", "--dry-run")
    assert without["digest"] != told["digest"]
    as_for_a_bundle = publish(root, repository, "--no-image", "--dry-run", "--with-data")
    assert as_for_a_bundle["digest"] == told["digest"]


def test_declared_inputs_go_into_a_bundle_by_the_same_option(root: Path, tmp_path: Path) -> None:
    written = (root / "mlcube.yaml").read_text()
    written = written.replace("docker: {image: 'example/none:1'}", "python: {}")
    (root / "mlcube.yaml").write_text(written.replace("  infer:\n", "  infer:\n    entrypoint: 'true'\n"))
    found = []
    for name in ("--with-data", "--with-inputs"):
        cube("bundle", "create", root, "-o", tmp_path / f"m{name}.cube", "--without-tool", name)
        found.append((tmp_path / f"m{name}.cube").read_bytes())
    assert found[0] == found[1]
    assert b"a sample\n" in found[0]


def test_large_files_can_be_packed(root: Path, repository: Repository, tmp_path: Path) -> None:
    (root / "zeros.bin").write_bytes(bytes(4 << 20))
    told = publish(root, repository, "--no-image", "--compress")
    assert told["sent_bytes"] < 4 << 20
    manifest = whole(repository, "1")
    kinds = [layer.media_type for layer in manifest.layers]
    assert kinds.count("application/vnd.mlcube.cube.file.v1+zstd") == 3
    assert not list((tmp_path / "home/.cache/mlcube/compressed").iterdir())
    assert publish(root, repository, "--no-image", "--compress")["sent_bytes"] == 0


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        (lambda root: (root / "mlcube.yaml").write_text(f"{CUBE}typo: 1\n"), 2, "unknown key `typo`"),
        (lambda root: os.symlink("/etc/passwd", root / "outside"), 2, "`outside` is a link to `/etc/passwd`"),
        (lambda root: os.mkfifo(root / "pipe"), 2, "`pipe` is a device"),
        (lambda root: None, 74, "the image `example/none:1` is neither in Docker nor in Podman"),
    ],
)
def test_what_cannot_be_published_is_named_before_anything_is_sent(
    change: Any, status: int, words: str, root: Path, repository: Repository
) -> None:
    change(root)
    done = cube("publish", root, f"oci://{repository}:1", status=status, PATH="/nonexistent")
    assert words in done.stderr
    assert "hint:" in done.stderr
    with Registry(repository) as registry:
        assert there(registry) == ()


def test_a_tag_that_leads_to_something_else_is_left_alone(root: Path, repository: Repository) -> None:
    publish(root, repository, "--no-image")
    with Registry(repository, write=True) as registry:
        bill = next(each for each in registry.referrers(registry.resolve("1").digest))
        registry.put_manifest(registry.manifest(bill.digest)[1], bill.media_type, "other")
    done = cube("publish", root, f"oci://{repository}:other", "--no-image", status=77)
    assert "leads to something that is no cube" in done.stderr


def test_a_published_cube_is_published_elsewhere_as_it_is(root: Path, repository: Repository) -> None:
    first = publish(root, repository, "--no-image")
    copy = Repository(HOST, f"{repository.name}-copy")
    done = cube("publish", f"oci://{repository}:1", f"oci://{copy}:1", "--no-image", "--json")
    assert json.loads(done.stdout)["digest"] == first["digest"]


def test_blobs_that_the_registry_lost_are_sent_again(root: Path, repository: Repository) -> None:
    """The manifest at the tag promises what a clean-up of the registry may have taken."""
    first = publish(root, repository, "--no-image")
    lost = whole(repository, "1").layers[-1]
    url = f"http://{HOST}/v2/{repository.name}/blobs/{lost.digest}"
    delete = ["curl", "-sS", "-X", "DELETE", "-w", "%{http_code}", "-o", "/dev/null", url]
    if subprocess.run(delete, capture_output=True, text=True).stdout != "202":
        pytest.xfail("this registry deletes nothing")
    (root / "src/part001.py").write_text("# changed\n")
    assert publish(root, repository, "--no-image")["digest"] != first["digest"]
    whole(repository, "1")


def test_interrupted_publications_leave_nothing_half_published(root: Path, repository: Repository) -> None:
    """Ctrl-C: the tag is put last, so it leads nowhere, or to the whole."""
    (root / "weights.bin").write_bytes(os.urandom(48 << 20))
    process = start(root, repository)
    time.sleep(0.6)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode in (0, 130), errors
    assert "Traceback" not in errors
    if process.returncode == 130:
        with Registry(repository) as registry:
            assert "1" not in there(registry)
    told = publish(root, repository, "--no-image")
    with Registry(repository) as registry:
        assert registry.resolve("1").digest == told["digest"]
        manifest = msgspec.json.decode(registry.manifest("1")[1], type=Manifest)
        assert all(registry.has(each.digest) for each in manifest.layers)


def test_killed_at_any_moment_the_same_command_completes(root: Path, repository: Repository) -> None:
    random.seed()
    begun = time.monotonic()
    expected = publish(root, repository, "--no-image", tag="whole")["digest"]
    lasts = time.monotonic() - begun
    tags = []
    for number in range(KILLED):
        other = Repository(HOST, f"{repository.name}-{number}")
        process = start(root, other)
        moment = random.uniform(0.0, lasts)
        time.sleep(moment)
        process.kill()
        process.communicate()
        with Registry(other) as registry:
            tags.append("1" in there(registry))
        if tags[-1]:
            whole(other, "1")
        assert publish(root, other, "--no-image")["digest"] == expected, f"killed after {moment:.3f} seconds"
        whole(other, "1")


@pytest.fixture
def image(base_image: str) -> Iterator[str]:
    name = f"cube-test/published-{uuid.uuid4().hex[:8]}:1"
    yield name
    ask = ["docker", "images", "--quiet", "--filter", f"reference={name}"]
    for each in {*subprocess.run(ask, capture_output=True, text=True).stdout.split()}:
        subprocess.run(["docker", "rmi", "--force", each], capture_output=True)


@pytest.mark.engine("docker")
def test_the_image_is_built_pushed_and_pinned(
    root: Path, repository: Repository, image: str, base_image: str, tmp_path: Path
) -> None:
    (root / "mlcube.yaml").write_text(CUBE.replace("example/none:1", image))
    (root / "Dockerfile").write_text(f"FROM {base_image}\nRUN echo {uuid.uuid4()} >/which\n")
    told = publish(root, repository, "--dry-run")
    assert (told["digest"], told["pushes"]) == (None, f"{repository}:1-image")
    first = publish(root, repository)
    pinned = first["image"]["pinned"]
    assert first["image"]["reference"] == image
    skopeo = ["skopeo", "inspect", "--tls-verify=false", "--format", "{{.Digest}}", f"docker://{repository}:1-image"]
    digest = subprocess.run(skopeo, check=True, capture_output=True, text=True).stdout.strip()
    assert pinned == f"{repository}@{digest}"
    done = cube("publish", root, f"oci://{repository}:1")
    assert "pushing" not in done.stderr
    assert done.stdout.strip() == first["pinned"]
    # An image that lies in a registry is pinned where it is, and not pushed.
    (root / "Dockerfile").unlink()
    (root / "mlcube.yaml").write_text(CUBE.replace("example/none:1", f"{repository}:1-image"))
    elsewhere = Repository(HOST, f"{repository.name}-elsewhere")
    assert publish(root, elsewhere, "--dry-run")["image"]["pinned"] == pinned


def test_the_image_of_a_python_cube_stays_where_it_runs(repository: Repository) -> None:
    digits = Path(__file__).parents[2] / "examples/digits"
    assert publish(digits, repository)["image"] is None


def start(root: Path, repository: Repository) -> "subprocess.Popen[str]":
    argv = [sys.executable, "-m", "mlcube", "publish", str(root), f"oci://{repository}:1", "--no-image", "--json"]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def there(registry: Registry) -> tuple[str, ...]:
    """The tags; none of a repository that does not exist yet."""
    try:
        return registry.tags()
    except MissingInput:
        return ()
