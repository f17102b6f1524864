"""Signed cubes on platforms that are elsewhere: the policy of this machine is asked before anything goes there."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.own_registry import own_registry
from tests.cli.signed import cube, refused
from tests.conftest import KUBECONFIG, SSH_CONFIG

pytestmark = [pytest.mark.engine("registry"), pytest.mark.engine("docker")]

CUBE = """\
name: placed
docker: {{image: '{image}'}}
tasks:
  hi:
    entrypoint: sh -c 'echo "from the image $(cat /told)" >"\\${{0#*=}}"'
    parameters: {{outputs: {{told: {{type: file, default: told.txt}}}}}}
"""
PLATFORMS = [
    pytest.param("far", marks=pytest.mark.engine("ssh")),
    pytest.param("batch", marks=pytest.mark.engine("slurm")),
    pytest.param("pods", marks=pytest.mark.engine("kubernetes")),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, base_image: str) -> Iterator[Path]:
    """Somebody who has published a cube twice, signed and unsigned, and whose policy wants signed ones."""
    home = tmp_path_factory.mktemp("placed")
    image = f"cube-test/placed-{os.getpid()}:1"
    recipe = f'FROM {base_image}\nRUN ["/bin/sh", "-c", "echo pinned >/told"]\n'
    subprocess.run(
        ["docker", "build", "--quiet", "--tag", image, "-"], input=recipe, text=True, check=True, capture_output=True
    )
    (home / "placed").mkdir()
    (home / "placed/mlcube.yaml").write_text(CUBE.format(image=image))
    assert cube("key", "create", "lab", home=home).returncode == 0
    with own_registry(home / "registry") as address:
        for tag, words in (("unsigned", ()), ("signed", ("--sign", "--key", "lab.key"))):
            (home / "placed/README.md").write_text(f"# {tag}\n")
            done = cube("publish", "placed", f"oci://{address}/placed:{tag}", *words, "--json", home=home)
            assert done.returncode == 0, done.stderr
        pinned = json.loads(done.stdout)["image"]["pinned"]
        (home / "pinned").write_text(pinned)
        (home / "address").write_text(address)
        (home / "config").mkdir(exist_ok=True)
        (home / "config/trust.yaml").write_text("keys: {lab: ../lab.pub}\ndefault: signed\n")
        (home / "config/settings.yaml").write_text(
            "platforms:\n"
            f"  far: {{runner: ssh, host: engine-host, config: '{SSH_CONFIG}', root: '{home}/far', inner: docker}}\n"
            "  batch: {runner: slurm, inner: docker}\n"
            f"  pods: {{runner: kubernetes, kubeconfig: '{KUBECONFIG}'}}\n"
        )
        yield home
    subprocess.run(["docker", "rmi", "--force", image, pinned], capture_output=True)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_what_is_signed_runs_there_and_nothing_else_gets_there(home: Path, tmp_path: Path, platform: str) -> None:
    where = f"oci://{(home / 'address').read_text()}/placed"
    words = ("--task=hi", f"--platform={platform}", f"--workspace={tmp_path}/workspace")
    state = {"CUBE_STATE_DIR": str(tmp_path / "state")}
    refused(cube("run", f"{where}:unsigned", *words, home=home, **state), 78, "is not signed")
    done = cube("run", f"{where}:signed", *words, "-Pdocker.image=python:3.11-slim", home=home, **state)
    refused(done, 78, "`-P docker.image`")
    assert list(tmp_path.glob("state/runs/*/record.json")) == []
    done = cube("run", f"{where}:signed", *words, home=home, **state)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "workspace/told.txt").read_text() == "from the image pinned\n"
    (record,) = (json.loads(path.read_text()) for path in tmp_path.glob("state/runs/*/record.json"))
    assert any(digest.endswith(pinned_digest(home)) for digest in record["image"]["digests"]), record["image"]


def pinned_digest(home: Path) -> str:
    return (home / "pinned").read_text().rpartition("@")[2]
