"""An image that is in no engine and in a registry: each engine gets it there, once."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REGISTRY = "127.0.0.1:5000"

CUBE = """\
name: pulled
docker: {{image: '{image}', build_strategy: pull}}
tasks:
  tell:
    entrypoint: sh -c 'cat /etc/hostname-of-the-image >"$CUBE_OUTPUT_OUT/told"'
    parameters:
      outputs: {{out: {{type: directory, default: out/}}}}
"""


@pytest.fixture(scope="module")
def image(base_image: str) -> Iterator[str]:
    """An image that only the registry has, with a name that nobody else uses."""
    name = f"{REGISTRY}/cube-test/pulled-{os.getpid()}:1"
    recipe = f"FROM {base_image}\nRUN echo from the registry >/etc/hostname-of-the-image\n"
    build = ["docker", "build", "--quiet", "--tag", name, "-"]
    subprocess.run(build, input=recipe, text=True, check=True, capture_output=True)
    subprocess.run(["docker", "push", "--quiet", name], check=True, capture_output=True)
    subprocess.run(["docker", "rmi", name], check=True, capture_output=True)
    yield name
    for engine in ("docker", "podman"):
        subprocess.run([engine, "rmi", "--force", name], capture_output=True)


@pytest.mark.engine("registry")
@pytest.mark.engine("docker")
@pytest.mark.parametrize(
    "platform",
    [pytest.param(name, marks=pytest.mark.engine(name)) for name in ("singularity", "sandbox", "podman", "docker")],
)
def test_an_image_is_got_out_of_its_registry_once(
    platform: str, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APPTAINER_NOHTTPS", "true")
    for engine in ("docker", "podman"):  # another platform's test may have got it
        subprocess.run([engine, "rmi", "--force", image], capture_output=True)
    (tmp_path / "mlcube.yaml").write_text(CUBE.format(image=image))
    words = ["run", f"--mlcube={tmp_path}", f"--platform={platform}"]
    first, second = cube(*words), cube(*words)
    assert first.returncode == 0, first.stderr
    assert (tmp_path / "workspace/out/told").read_text() == "from the registry\n"
    assert second.returncode == 0, second.stderr
    told = ("pulling", "converting", "unpacking")
    assert any(word in first.stderr for word in told), first.stderr
    assert not any(word in second.stderr for word in told), second.stderr


@pytest.mark.engine("registry")
@pytest.mark.engine("docker")
@pytest.mark.engine("singularity")
def test_a_dockerfile_is_converted_where_nothing_builds_images(
    image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APPTAINER_NOHTTPS", "true")
    for engine in ("docker", "podman"):
        (tmp_path / engine).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / engine).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "Dockerfile").write_text(f"FROM {image}\nCOPY note /etc/hostname-of-the-image\n")
    (tmp_path / "note").write_text("from the Dockerfile\n")
    text = CUBE.format(image="cube.invalid/built:1").replace("build_strategy: pull", "build_strategy: auto")
    (tmp_path / "mlcube.yaml").write_text(text)
    done = cube("run", f"--mlcube={tmp_path}", "--platform=singularity")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "workspace/out/told").read_text() == "from the Dockerfile\n"


@pytest.mark.engine("registry")
@pytest.mark.parametrize(
    "platform",
    [pytest.param(name, marks=pytest.mark.engine(name)) for name in ("singularity", "sandbox", "podman", "docker")],
)
def test_an_image_that_the_registry_does_not_have_is_told(
    platform: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APPTAINER_NOHTTPS", "true")
    (tmp_path / "mlcube.yaml").write_text(CUBE.format(image=f"{REGISTRY}/cube-test/nosuch:1"))
    done = cube("run", f"--mlcube={tmp_path}", f"--platform={platform}")
    assert done.returncode == 74, done.stderr
    assert "manifest" in done.stderr
    assert "unknown" in done.stderr
    assert "if the registry is private, log in" in done.stderr
    assert not (tmp_path / "workspace/out/told").exists()


def cube(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "mlcube", *words], capture_output=True, text=True, timeout=300)
