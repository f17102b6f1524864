"""`cube publish` through a proxy that makes faults: what passes is outwaited, what does not leaves no tag."""

import json
import os
import random
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from mlcube.errors import MissingInput
from mlcube.registry import Registry, Repository
from tests.faulty_proxy import Fault, FaultyProxy, Request

PORT = 5000
CUBE = "name: faulty\ndocker: {image: 'example/none:1'}\ntasks: {run: {}}\n"
QUICK = {"CUBE_REGISTRY_PAUSE": "0.01", "CUBE_REGISTRY_PATIENCE": "10", "CUBE_REGISTRY_TIMEOUT": "5"}
PASSING = (
    Fault(status=500),
    Fault(status=503),
    Fault(status=429, headers={"Retry-After": "0"}),
    Fault(cut_answer=-1),
    Fault(cut_answer=0),
)

pytestmark = [pytest.mark.engine("registry")]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "faulty"
    root.mkdir()
    (root / "mlcube.yaml").write_text(CUBE)
    for number in range(120):
        (root / f"part{number:03}.py").write_bytes(os.urandom(3000))
    for number in range(2):
        (root / f"weights{number}.bin").write_bytes(os.urandom(1 << 20))
    return root


def publish(root: Path, place: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-m", "mlcube", "publish", str(root), f"oci://{place}:1", "--no-image", "--json"]
    return subprocess.run(argv, capture_output=True, text=True, env={**os.environ, **QUICK, **environment})


def name() -> str:
    return f"cube-test/faults-{uuid.uuid4().hex}"


def test_faults_that_pass_do_not_change_what_is_published(root: Path) -> None:
    chosen = random.Random(uuid.uuid4().int)
    seen: set[tuple[str, str]] = set()

    def plan(request: Request) -> Fault | None:
        if (request.method, request.path) in seen or chosen.random() < 0.5:
            return None
        seen.add((request.method, request.path))
        if request.method == "PATCH" and chosen.random() < 0.7:
            return Fault(cut_request=chosen.randrange(int(request.headers.get("Content-Length") or 3000)))
        return chosen.choice(PASSING)

    repository = name()
    with FaultyProxy(PORT, plan) as proxy:
        done = publish(root, f"{proxy.host}/{repository}")
        assert done.returncode == 0, done.stderr
        assert len(proxy.faults) > 5
    told = json.loads(done.stdout)
    assert done.stderr.count("asked again") <= 1, "what is waited for is said once"
    again = json.loads(publish(root, f"127.0.0.1:{PORT}/{repository}").stdout)
    assert (again["digest"], again["unchanged"], again["sent_bytes"]) == (told["digest"], True, 0)
    assert again["referrers"] == told["referrers"]


@pytest.mark.parametrize(("status", "exit_status"), [(401, 67), (403, 67), (404, 66), (500, 68)])
@pytest.mark.parametrize("part", ["/blobs/uploads/", "/manifests/"])
def test_faults_that_stay_leave_no_tag(part: str, status: int, exit_status: int, root: Path) -> None:
    repository = name()

    def plan(request: Request) -> Fault | None:
        return Fault(status=status) if request.method != "GET" and part in request.path else None

    with FaultyProxy(PORT, plan) as proxy:
        done = publish(root, f"{proxy.host}/{repository}", CUBE_REGISTRY_PATIENCE="0.05")
    assert done.returncode == exit_status, done.stderr
    assert done.stderr.count("error: ") == 1, done.stderr
    with Registry(Repository(f"127.0.0.1:{PORT}", repository)) as registry, pytest.raises(MissingInput):
        registry.resolve("1")


def test_what_is_unchanged_is_hardly_asked_for(root: Path) -> None:
    repository = name()
    with FaultyProxy(PORT) as proxy:
        publish(root, f"{proxy.host}/{repository}")
        proxy.requests.clear()
        assert json.loads(publish(root, f"{proxy.host}/{repository}").stdout)["unchanged"]
        assert len(proxy.requests) <= 6, [f"{each.method} {each.path}" for each in proxy.requests]
        (root / "part050.py").write_text("# changed\n")
        proxy.requests.clear()
        proxy.received = 0
        assert not json.loads(publish(root, f"{proxy.host}/{repository}").stdout)["unchanged"]
        assert proxy.received < 1 << 20
        assert proxy.count("PATCH") <= 5, "a pack, the configuration and what refers to the cube"
