"""What goes wrong on the way, or on the disk, is told; nothing half-made is left, and the next pull completes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.pulling import PORT, cube, make_cube, publish, same
from tests.faulty_proxy import Fault, FaultyProxy, Request

pytestmark = pytest.mark.engine("registry")

QUICK = {"CUBE_REGISTRY_PATIENCE": "1", "CUBE_REGISTRY_PAUSE": "0.05", "CUBE_REGISTRY_TIMEOUT": "5"}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("published")
    root = make_cube(folder / "cube")
    return root, publish(root, CUBE_CACHE_DIR=str(folder / "cache")).partition("/")[2]


def at_blob(number: int, fault: Fault) -> Callable[[Request], Fault | None]:
    """The fault for the blob that is asked for as this one."""
    asked: list[str] = []

    def plan(request: Request) -> Fault | None:
        if request.method != "GET" or "/blobs/" not in request.path:
            return None
        asked.append(request.path)
        return fault if len(asked) == number else None

    return plan


def kept() -> list[str]:
    path = Path(os.environ["HOME"], ".cache/mlcube/store/cubes")
    return os.listdir(path) if path.exists() else []


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_flipped_bit_in_any_blob_is_damage(number: int, published: tuple[Path, str]) -> None:
    root, name = published
    with FaultyProxy(PORT, at_blob(number, Fault(flip=17))) as proxy:
        reference = f"oci://{proxy.host}/{name}:1.2"
        assert "is not what its digest says" in cube("pull", reference, status=65, variables=QUICK).stderr
        assert kept() == []
        found = json.loads(cube("pull", reference, "--json", variables=QUICK).stdout)
    assert same(Path(found["path"]), root)


def test_a_flipped_bit_in_the_manifest_is_damage(published: tuple[Path, str]) -> None:
    def plan(request: Request) -> Fault | None:
        manifest = request.method == "GET" and "/manifests/sha256:" in request.path
        return Fault(flip=40) if manifest else None

    with FaultyProxy(PORT, plan) as proxy:
        assert "digest" in cube("pull", f"oci://{proxy.host}/{published[1]}:1.2", status=65, variables=QUICK).stderr
    assert kept() == []


@pytest.mark.parametrize("fault", [Fault(cut_answer=300_000), Fault(status=503), Fault(cut_answer=-1)])
def test_what_passes_is_outwaited(fault: Fault, published: tuple[Path, str]) -> None:
    root, name = published
    with FaultyProxy(PORT, at_blob(2, fault)) as proxy:
        found = json.loads(cube("pull", f"oci://{proxy.host}/{name}:1.2", "--json", variables=QUICK).stdout)
        assert proxy.faults
    assert same(Path(found["path"]), root)


@pytest.mark.parametrize(("size", "words"), [("1m", "are free at"), ("1460k", "no space left on device")])
def test_a_full_disk_is_told_and_room_completes_it(
    size: str, words: str, published: tuple[Path, str], tmp_path: Path
) -> None:
    _, name = published
    disk = tmp_path / "disk"
    disk.mkdir()
    reference = f"oci://127.0.0.1:{PORT}/{name}:1.2"
    script = (
        f'mount -t tmpfs -o size={size} tmpfs "$1" && CUBE_CACHE_DIR="$1/cache" "$2" -m mlcube pull "$3"; first=$?;'
        ' ls "$1/cache/store/cubes"; mount -o remount,size=64m "$1" &&'
        ' CUBE_CACHE_DIR="$1/cache" "$2" -m mlcube pull "$3" && CUBE_CACHE_DIR="$1/cache" "$2" -m mlcube cache verify;'
        " echo $first"
    )
    argv = ["unshare", "--mount", "--map-root-user", "sh", "-c", script, "sh", str(disk), sys.executable, reference]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert words in done.stderr, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "1"
    assert len(lines) == 3, done.stdout  # nothing half-made, the pull, the verification
    assert "is whole" in lines[1]
