"""Cubes are brought from registries: whole, once, and continued where they were cut."""

import io
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlcube.unpacking import remove
from tests.cli.pulling import PORT, cube, make_cube, publish, same
from tests.faulty_proxy import FaultyProxy

pytestmark = pytest.mark.engine("registry")


class Published:
    def __init__(self, root: Path, repository: str) -> None:
        self.root, self.repository = root, repository
        self.name = repository.partition("/")[2]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    folder = tmp_path_factory.mktemp("published")
    root = make_cube(folder / "cube")
    return Published(root, publish(root, CUBE_CACHE_DIR=str(folder / "cache")))


@pytest.fixture
def proxy(published: Published) -> Iterator[FaultyProxy]:
    with FaultyProxy(PORT) as found:
        yield found


def pulled(reference: str, **variables: str) -> tuple[str, Path]:
    found = json.loads(cube("pull", reference, "--json", variables=variables).stdout)
    return found["digest"], Path(found["path"])


def test_a_pulled_cube_is_what_was_published(published: Published) -> None:
    digest, path = pulled(f"oci://{published.repository}:1.2")
    assert same(path, published.root)
    assert not os.stat(path / "weights0.bin").st_mode & 0o222
    again = cube("pull", f"oci://{published.repository}@{digest}")
    assert again.stdout.split() == [digest, str(path)]


def test_a_second_pull_moves_no_content(published: Published, proxy: FaultyProxy) -> None:
    reference = f"oci://{proxy.host}/{published.name}:1.2"
    _, path = pulled(reference)
    moved = proxy.count("GET")
    assert moved > 3
    assert pulled(reference)[1] == path
    assert proxy.count("GET") == moved


def test_another_version_brings_only_what_is_new(published: Published, proxy: FaultyProxy) -> None:
    pulled(f"oci://{proxy.host}/{published.name}:1.2")
    line = published.root / "src" / "train.py"
    before = line.read_text()
    line.write_text(before + "# changed\n")
    try:
        cube("publish", str(published.root), f"oci://{published.repository}:1.3")
    finally:
        line.write_text(before)
    moved = proxy.count("GET", "/blobs/")
    _, path = pulled(f"oci://{proxy.host}/{published.name}:1.3")
    assert proxy.count("GET", "/blobs/") - moved <= 3  # the configuration, and the pack with the changed file
    assert "changed" in (path / "src" / "train.py").read_text()


def test_a_damaged_cube_is_refused_on_use_and_mended_by_pull(published: Published) -> None:
    reference = f"oci://{published.repository}:1.2"
    _, path = pulled(reference)
    for name in ("weights1.bin", "src/train.py"):
        victim = path / name
        victim.chmod(0o644)
        content = victim.read_bytes()
        victim.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    refused = cube("describe", reference, status=65)
    assert "is damaged" in refused.stderr
    assert "cube pull" in refused.stderr
    assert cube("pull", reference).stderr.count("brought anew") == 1
    assert same(path, published.root)
    cube("describe", reference)


@pytest.mark.parametrize("as_bundle", [False, True])
def test_a_cube_whose_files_and_blobs_are_gone_is_mended_by_pull(
    published: Published, tmp_path: Path, as_bundle: bool
) -> None:
    reference = f"oci://{published.repository}:1.2"
    if as_bundle:
        cube("bundle", "create", reference, "-o", str(tmp_path / "x.cube"))
        reference = str(tmp_path / "x.cube")
    _, path = pulled(reference)
    store = path.parents[2]
    for folder_instead in (True, False):
        remove(str(path))
        for blob in (store / "blobs" / "sha256").iterdir():
            blob.chmod(0o644)
            if folder_instead:
                blob.unlink()
                blob.mkdir()
            else:
                blob.write_bytes(b"damaged")
        for command in (("describe", reference), ("cache", "verify")):
            refused = cube(*command, status=65)
            assert "is damaged" in refused.stderr
            assert "hint: `cube pull` brings it anew" in refused.stderr
        assert cube("pull", reference).stderr.count("brought anew") == 1
        assert same(path, published.root)
        cube("cache", "verify")


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("oci://{repository}:none",), 66, "error: `{repository}` has no tag `none`"),
        (("oci://{repository}:none",), 66, "its tags are `1.2`"),
        (("oci://{repository}:1.2.0",), 66, "did you mean `1.2`?"),
        (("oci://{repository}",), 66, "without a tag `latest` is meant; its tags are `1.2`"),
        (("oci://{repository}@sha256:" + "0" * 64,), 66, "error: `{repository}` has no digest `sha256:000"),
        (("oci://{repository}-other:1.2",), 66, "error: there is no repository `test-pull-"),
        (("oci://127.0.0.1:1/nobody:1",), 68, "127.0.0.1:1"),
        (("./here",), 66, "there is nothing at `./here`, which is understood as a path"),
        (("/",), 66, "`/` is understood as a path, and is here"),
        ((), 2, "needs the name of a cube"),
    ],
)
def test_what_cannot_be_pulled_is_told(published: Published, words: tuple[str, ...], status: int, said: str) -> None:
    words = tuple(word.format(repository=published.repository) for word in words)
    said = said.format(repository=published.repository)
    assert said in cube("pull", *words, status=status, variables={"CUBE_REGISTRY_PATIENCE": "0"}).stderr


@pytest.mark.parametrize("what", ["config", "layer"])
def test_a_size_that_is_wrong_is_refused_though_the_content_is_kept(published: Published, what: str) -> None:
    import msgspec

    from mlcube import oci
    from mlcube.registry import Registry, Repository

    pulled(f"oci://{published.repository}:1.2")
    with Registry(Repository.parse(published.repository), write=True) as registry:
        manifest = msgspec.json.decode(registry.manifest("1.2")[1], type=oci.Manifest)
        config, (*layers, last) = manifest.config, manifest.layers
        if what == "config":
            config = msgspec.structs.replace(config, size=config.size + 1)
        else:
            last = msgspec.structs.replace(last, size=last.size + 1)
        changed = msgspec.structs.replace(manifest, config=config, layers=(*layers, last))
        registry.put_manifest(oci.canonical(changed), oci.MANIFEST, f"wrong-{what}")
    said = cube("pull", f"oci://{published.repository}:wrong-{what}", status=65).stderr
    assert "error: the manifest says that `sha256:" in said
    assert "Traceback" not in said


def test_an_image_is_no_cube(published: Published) -> None:
    from mlcube import oci
    from mlcube.registry import Registry, Repository

    config = b"{}"
    descriptor = oci.Descriptor(
        media_type="application/vnd.oci.image.config.v1+json", digest=oci.digest_of(config), size=len(config)
    )
    manifest = oci.Manifest(schema_version=2, media_type=oci.MANIFEST, config=descriptor, layers=())
    with Registry(Repository.parse(published.repository), write=True) as registry:
        registry.upload(descriptor, lambda: io.BytesIO(config))
        registry.put_manifest(oci.canonical(manifest), oci.MANIFEST, "image")
    assert "a container image" in cube("pull", f"oci://{published.repository}:image", status=2).stderr


def test_killed_at_any_moment_the_same_command_completes(published: Published, tmp_path: Path) -> None:
    rounds = int(os.environ.get("PULL_TEST_KILLS", "15"))
    with FaultyProxy(PORT) as proxy:
        reference = f"oci://{proxy.host}/{published.name}:1.2"
        argv = [sys.executable, "-m", "mlcube", "pull", reference]
        begun = time.monotonic()
        pulled(reference, CUBE_CACHE_DIR=str(tmp_path / "whole"))
        usual = time.monotonic() - begun
        for number in range(rounds):
            environment = {**os.environ, "CUBE_CACHE_DIR": str(tmp_path / f"cache{number % 5}")}
            with subprocess.Popen(
                argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as process:
                time.sleep(random.uniform(0.05, usual))
                process.send_signal(signal.SIGKILL)
            if number % 5 == 4 or number == rounds - 1:
                for each in range(min(5, rounds)):
                    variables = {"CUBE_CACHE_DIR": str(tmp_path / f"cache{each}")}
                    digest, path = pulled(reference, **variables)
                    assert same(path, published.root)
                    cube("cache", "verify", digest, variables=variables)
                    cubes = path.parent.parent
                    assert os.listdir(cubes) == [path.parent.name]
                    subprocess.run(["rm", "-rf", str(tmp_path / f"cache{each}")], check=True)


def test_two_pulls_and_prunes_at_once_are_safe(published: Published) -> None:
    reference = f"oci://{published.repository}:1.2"
    argv = [sys.executable, "-m", "mlcube", "pull", reference]
    ends: list[int] = []

    def pull() -> None:
        ends.extend(subprocess.run(argv, stdout=subprocess.DEVNULL).returncode for _ in range(3))

    threads = [threading.Thread(target=pull) for _ in range(2)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        cube("cache", "prune", "--all")
    for thread in threads:
        thread.join()
    assert ends == [0] * 6
    assert same(pulled(reference)[1], published.root)


def test_the_cache_is_listed_pinned_verified_and_pruned(published: Published) -> None:
    reference = f"oci://{published.repository}:1.2"
    digest, path = pulled(reference)
    (entry,) = json.loads(cube("cache", "--json").stdout)["cubes"]
    assert (entry["digest"], entry["names"], entry["title"], entry["pinned"]) == (digest, [reference], "pulled", False)
    assert reference in cube("cache", "list").stdout
    cube("cache", "pin", reference)
    assert cube("cache", "prune", "--all").stdout == "freed 0 bytes\n"
    assert "is whole" in cube("cache", "verify").stdout
    cube("cache", "unpin", digest[7:19])
    cube("cache", "prune", "--older-than", "1d")
    assert path.exists()
    cube("cache", "prune", "--all")
    assert not path.exists()
    assert cube("cache").stdout == ""
    assert "is not kept here" in cube("cache", "pin", digest, status=66).stderr


def test_a_cube_is_run_by_its_reference_alone(published: Published, tmp_path: Path) -> None:
    there = tmp_path / "project"
    (there / "workspace").mkdir(parents=True)
    (there / "workspace" / "data.txt").write_text("x")
    reference = f"oci://{published.repository}:1.2"
    done = cube("run", reference, "--task", "train", "--platform", "local", "--dry-run", cwd=there)
    assert f"parameters lie in {there}/workspace" in done.stderr
    assert f"{there}/workspace/data.txt" in done.stdout
    assert "/store/cubes/" in done.stdout
    described = json.loads(cube("describe", "--mlcube", reference, "--json", cwd=there).stdout)
    assert described["workspace"] == f"{there}/workspace"
    assert described["kept"].startswith("sha256:")


def test_from_python_too(published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlcube

    monkeypatch.chdir(tmp_path)
    found = mlcube.load(f"oci://{published.repository}:1.2")
    assert found.tasks == ("train",)
    assert found.workspace == str(tmp_path / "workspace")
