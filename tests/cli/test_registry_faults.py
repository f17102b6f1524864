"""A registry that fails while an image goes through it to a cluster: it is tried again, or told for what it is."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import BASE_IMAGE, KUBECONFIG
from tests.faulty_proxy import Fault, FaultyProxy, Request

pytestmark = [pytest.mark.engine("kubernetes"), pytest.mark.engine("docker"), pytest.mark.engine("registry")]

RECIPE = """\
FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
COPY unique /unique
"""
"""Small, and new in each test."""
TASKS = {
    "tell": {
        "entrypoint": ["sh", "-c", 'cat "$CUBE_INPUT_GIVEN" && echo x >>"$CUBE_OUTPUT_OUT/began"'],
        "parameters": {
            "inputs": {"given": {"type": "file", "default": "given.txt"}},
            "outputs": {"out": {"type": "directory", "default": "out/"}},
        },
    }
}


class Site:
    """A cube with an image that is made here, and a cluster that pulls it."""

    def __init__(self, place: Path) -> None:
        self.cube, self.settings = place / "cube", place / "settings.yaml"
        (self.cube / "workspace").mkdir(parents=True)
        (self.cube / "workspace/given.txt").write_text("given\n")
        shutil.copy("/bin/busybox", self.cube / "busybox")
        (self.cube / "unique").write_bytes(os.urandom(1 << 20))
        (self.cube / "Dockerfile").write_text(RECIPE)
        self.name = f"faults-{os.getpid()}-{time.monotonic_ns()}"
        self.image = f"cube-test/{self.name}:1"
        made = {"image": self.image, "build_context": ".", "build_file": "Dockerfile"}
        (self.cube / "mlcube.yaml").write_text(json.dumps({"name": self.name, "docker": made, "tasks": TASKS}))

    def run(self, registry: FaultyProxy) -> "subprocess.CompletedProcess[str]":
        registered = f"registry: 127.0.0.1:{registry.server_port}/me, staging_image: '{BASE_IMAGE}'"
        options = f"runner: kubernetes, kubeconfig: '{KUBECONFIG}', {registered}"
        self.settings.write_text(f"platforms:\n  k8s: {{{options}}}\n")
        argv = [
            sys.executable,
            "-m",
            "mlcube",
            "run",
            f"--mlcube={self.cube}",
            "--platform=k8s",
            "-Pdocker.build_strategy=always",
        ]
        environment = {**os.environ, "MLCUBE_SYSTEM_SETTINGS": str(self.settings)}
        return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=150, check=False)

    def jobs(self) -> str:
        argv = ["kubectl", f"--kubeconfig={KUBECONFIG}", "get", "jobs,pods", "--output=name"]
        argv.append(f"--selector=app.kubernetes.io/name={self.name}")
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout

    def until_gone(self) -> None:
        """A pod that the cluster made anew while its job was removed goes after it."""
        for _ in range(150):
            if not self.jobs():
                return
            time.sleep(0.1)
        raise AssertionError(self.jobs())

    def close(self, registry: FaultyProxy) -> None:
        for name in (self.image, f"127.0.0.1:{registry.server_port}/me/{self.image}"):
            subprocess.run(["docker", "rmi", "--force", name], capture_output=True, check=False)
        registry.close()


def first(*faults: tuple[str, str, Fault]) -> Callable[[Request], Fault | None]:
    """Of each method and part of a path one request fails, in that order."""
    left = list(faults)

    def fault(request: Request) -> Fault | None:
        if left and left[0][0] == request.method and left[0][1] in request.path:
            return left.pop(0)[2]
        return None

    return fault


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def faulty(site: Site) -> Iterator[Callable[..., FaultyProxy]]:
    made: list[FaultyProxy] = []

    def begun(fault: Callable[[Request], Fault | None]) -> FaultyProxy:
        made.append(FaultyProxy(5000, fault))
        return made[-1]

    yield begun
    for registry in made:
        site.close(registry)


def test_what_fails_once_on_its_way_in_or_out_is_tried_again(site: Site, faulty: Callable[..., FaultyProxy]) -> None:
    registry = faulty(first(("POST", "/blobs/uploads/", Fault(status=500)), ("GET", "/manifests/", Fault(status=500))))
    done = site.run(registry)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "given\n"
    assert [fault.status for _, fault in registry.faults] == [500, 500]
    assert (site.cube / "workspace/out/began").read_text() == "x\n"
    site.until_gone()


def test_an_image_that_never_comes_whole_is_told(site: Site, faulty: Callable[..., FaultyProxy]) -> None:
    def truncate(request: Request) -> Fault | None:
        return Fault(cut_answer=100) if request.method == "GET" and "/blobs/sha256:" in request.path else None

    began = time.monotonic()
    done = site.run(faulty(truncate))
    assert done.returncode == 74, done.stderr
    assert "the cluster cannot start the task, ErrImagePull: " in done.stderr or "ImagePullBackOff: " in done.stderr
    assert "failed to pull and unpack image" in done.stderr
    assert time.monotonic() - began < 100
    assert not (site.cube / "workspace/out/began").exists()
    site.until_gone()
