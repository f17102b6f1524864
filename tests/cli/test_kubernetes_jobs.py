"""What becomes of a job on a real cluster: not admitted, not placed, cut off, and the API server restarted."""

import hashlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.forwarding import Wire
from tests.conftest import BASE_IMAGE, KUBECONFIG

pytestmark = [pytest.mark.engine("kubernetes"), pytest.mark.engine("docker")]

ENGINE = Path(__file__).parents[1] / "engines/kubernetes.sh"
SECOND = f"{KUBECONFIG}-second"
"""Leads to a further API server of the same cluster, which may be restarted while other tests use the first."""

COUNT = """\
import sys, time
out = sys.argv[1].partition("=")[2]
open(out + "/begun", "x").close()
for number in range(10):
    print("line", number, flush=True)
    print("error", number, file=sys.stderr, flush=True)
    time.sleep(0.7)
open(out + "/ended", "x").close()
"""
COPY = """\
import shutil, sys
places = dict(word[2:].split("=", 1) for word in sys.argv[1:])
shutil.copyfile(places["given"], places["copy"])
"""
TASKS = {
    "count": {
        "entrypoint": ["python", "-c", COUNT],
        "parameters": {"outputs": {"out": {"type": "directory", "default": "out/"}}},
    },
    "copy": {
        "entrypoint": ["python", "-c", COPY],
        "parameters": {
            "inputs": {"given": {"type": "file", "default": "in/given.bin"}},
            "outputs": {"copy": {"type": "file", "default": "out/copy.bin"}},
        },
    },
    "tell": {"entrypoint": ["python", "-c", "import os; print(len(os.environ['KEY']))"], "secrets": ["KEY"]},
}
_numbers = itertools.count()


class Cluster:
    """A namespace of its own, a cube, and the platform `k8s` that runs it there."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.namespace = f"cube-test-{os.getpid()}-{next(_numbers)}"
        self.kubeconfig = KUBECONFIG
        self.workspace = place / "job/workspace"
        self.workspace.mkdir(parents=True)
        self.kubectl("create", "namespace", self.namespace)
        self.until(lambda: bool(self.names("serviceaccounts")), "account")

    def kubectl(self, *words: str, given: str | None = None) -> str:
        argv = ["kubectl", f"--kubeconfig={KUBECONFIG}", *words]
        return subprocess.run(argv, input=given, capture_output=True, text=True, check=True, timeout=60).stdout

    def names(self, *kinds: str) -> list[str]:
        return self.kubectl(f"--namespace={self.namespace}", "get", ",".join(kinds), "--output=name").split()

    def pods_created(self) -> int:
        """How many pods the jobs of the namespace have had."""
        selected = "--field-selector=involvedObject.kind=Job,reason=SuccessfulCreate"
        events = self.kubectl(f"--namespace={self.namespace}", "get", "events", selected, "--output=name")
        return len(events.split())

    def through(self, wire: Wire) -> None:
        """Reach the cluster over a wire that can be cut."""
        self.kubeconfig = str(self.place / "kubeconfig")
        Path(self.kubeconfig).write_text(Path(KUBECONFIG).read_text().replace(":6443", f":{wire.port}"))

    def start(
        self, task: str = "count", *words: str, image: str = BASE_IMAGE, options: str = ""
    ) -> "subprocess.Popen[str]":
        cube = {"name": "job", "docker": {"image": image}, "tasks": TASKS}
        (self.workspace.parent / "mlcube.yaml").write_text(json.dumps(cube))
        k8s = f"runner: kubernetes, kubeconfig: {self.kubeconfig}, namespace: {self.namespace}{options}"
        (self.place / "settings.yaml").write_text(f"platforms:\n  k8s: {{{k8s}}}\n")
        where = (f"--mlcube={self.workspace.parent}", "--platform=k8s", f"--task={task}", *words)
        return subprocess.Popen(
            [sys.executable, "-m", "mlcube", "run", *where],
            env={**os.environ, "MLCUBE_SYSTEM_SETTINGS": str(self.place / "settings.yaml")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def cube_command(self, *words: str) -> "subprocess.CompletedProcess[str]":
        environment = {**os.environ, "MLCUBE_SYSTEM_SETTINGS": str(self.place / "settings.yaml")}
        argv = [sys.executable, "-m", "mlcube", *words]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120, check=False)

    def until(self, true: Callable[[], bool], what: str) -> None:
        for _ in range(600):
            if true():
                return
            time.sleep(0.1)
        raise AssertionError(f"no {what}")

    def until_running(self) -> None:
        """Until the task is about to begin, or has."""
        state = '--output=jsonpath={.items[*].status.containerStatuses[?(@.name=="task")].state.running.startedAt}'
        self.until(lambda: self.kubectl(f"--namespace={self.namespace}", "get", "pods", state) != "", "task")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path)
    yield cluster
    cluster.kubectl("delete", "namespace", cluster.namespace, "--wait=false")


@pytest.fixture
def wire(cluster: Cluster) -> Iterator[Wire]:
    wire = Wire(6443)
    cluster.through(wire)
    yield wire
    wire.close()


@pytest.fixture
def restart(cluster: Cluster) -> Iterator[Callable[[], None]]:
    """Restarts the API server through which the cluster is reached."""

    def second(*verbs: str) -> None:
        for verb in verbs:
            subprocess.run(["bash", str(ENGINE), "second", verb], check=True, capture_output=True, timeout=120)

    second("up")
    cluster.kubeconfig = SECOND
    yield lambda: second("down", "up")
    second("down")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_rights_that_the_documentation_gives_are_enough(cluster: Cluster) -> None:
    text = (Path(__file__).parents[2] / "docs/how-to/kubernetes-for-administrators.md").read_text()
    rights = re.findall("```yaml\n(# cube.yaml.*?)```", text, re.DOTALL)[0]
    cluster.kubectl("apply", "--filename=-", given=re.sub(r"\bml\b", cluster.namespace, rights))
    cluster.kubeconfig = str(cluster.place / "kubeconfig")
    Path(cluster.kubeconfig).write_text(Path(KUBECONFIG).read_text().replace("user: {", "user: {as: ada, "))
    (cluster.place / "key").write_text("hunter12")
    run = cluster.start("tell", f"--secret=KEY={cluster.place / 'key'}")
    out, errors = run.communicate(timeout=60)
    assert (run.returncode, out) == (0, "8\n"), errors
    assert cluster.names("jobs", "pods") == []
    assert not [name for name in cluster.names("secrets") if "cube-" in name]


@pytest.fixture
def claim(cluster: Cluster) -> Iterator[str]:
    """Options of a platform with a claim for the test's directory; in the pod, root's tasks are somebody else."""
    for folder in (cluster.place, cluster.workspace.parent, cluster.workspace):
        folder.chmod(0o777)
    spec = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteMany"],
        "hostPath": {"path": str(cluster.place)},
        "claimRef": {"namespace": cluster.namespace, "name": "shared"},
    }
    volume = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": cluster.namespace}, "spec": spec}
    wanted = {
        "accessModes": ["ReadWriteMany"],
        "storageClassName": "",
        "volumeName": cluster.namespace,
        "resources": {"requests": {"storage": "1Gi"}},
    }
    made = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "shared"}, "spec": wanted}
    cluster.kubectl("apply", "--filename=-", given=json.dumps(volume))
    cluster.kubectl("apply", f"--namespace={cluster.namespace}", "--filename=-", given=json.dumps(made))
    phase = (
        f"--namespace={cluster.namespace}",
        "get",
        "persistentvolumeclaim",
        "shared",
        "--output=jsonpath={.status.phase}",
    )
    cluster.until(lambda: cluster.kubectl(*phase) == "Bound", "volume")
    yield f", claim: shared, claim_at: {cluster.place}"
    cluster.kubectl("delete", "persistentvolume", cluster.namespace, "--wait=false")


def test_what_lies_on_a_claim_is_used_in_place(cluster: Cluster, claim: str) -> None:
    (cluster.workspace / "in").mkdir()
    (cluster.workspace / "in/given.bin").write_bytes(os.urandom(1 << 20))
    (cluster.workspace / "out").mkdir(mode=0o777)
    (cluster.workspace / "out").chmod(0o777)
    run = cluster.start("copy", options=claim)
    errors = run.communicate(timeout=60)[1]
    assert run.returncode == 0, errors
    copied = cluster.workspace / "out/copy.bin"
    assert copied.read_bytes() == (cluster.workspace / "in/given.bin").read_bytes()
    assert copied.stat().st_uid == 65534, "written by the pod, and not brought back by cube"
    assert cluster.names("jobs", "pods") == []


def test_what_lies_elsewhere_is_sent_although_there_is_a_claim(
    cluster: Cluster, claim: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "given.bin"
    elsewhere.write_bytes(os.urandom(1 << 20))
    (cluster.workspace / "out").mkdir()
    (cluster.workspace / "out").chmod(0o777)
    run = cluster.start("copy", f"given={elsewhere}", options=claim)
    errors = run.communicate(timeout=60)[1]
    assert run.returncode == 0, errors
    assert (cluster.workspace / "out/copy.bin").read_bytes() == elsewhere.read_bytes()


def test_a_claim_that_there_is_not_is_told(cluster: Cluster) -> None:
    run = cluster.start(options=f", patience: 3, claim: nowhere, claim_at: {cluster.place}")
    errors = run.communicate(timeout=60)[1]
    assert run.returncode != 0
    assert "nowhere" in errors
    assert cluster.names("jobs", "pods") == []


def test_doctor_says_what_a_user_of_the_cluster_lacks(cluster: Cluster) -> None:
    def doctor(options: str = "") -> dict[str, tuple[str, str]]:
        k8s = f"runner: kubernetes, kubeconfig: {cluster.kubeconfig}, namespace: {cluster.namespace}{options}"
        (cluster.place / "settings.yaml").write_text(f"platforms:\n  k8s: {{{k8s}}}\n")
        told = subprocess.run(
            [sys.executable, "-m", "mlcube", "doctor", "k8s", "--json"],
            env={**os.environ, "MLCUBE_SYSTEM_SETTINGS": str(cluster.place / "settings.yaml")},
            cwd=cluster.place,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        (platform,) = json.loads(told.stdout)["platforms"]
        return {check["name"]: (check["verdict"], check["detail"]) for check in platform["checks"]}

    found = doctor()
    assert {found[name][0] for name in ("cluster", "permissions", "admission", "quotas", "nodes")} == {"yes"}
    assert found["permissions"][1].startswith("all ")
    assert "no PriorityClass" in doctor(", priority_class: nowhere")["admission"][1]
    cluster.kubectl(f"--namespace={cluster.namespace}", "create", "quota", "small", "--hard=pods=0")
    cluster.kubeconfig = str(cluster.place / "kubeconfig")
    Path(cluster.kubeconfig).write_text(Path(KUBECONFIG).read_text().replace("user: {", "user: {as: ada, "))
    found = doctor()
    assert found["permissions"][0] == "no"
    assert "`create pods/exec`" in found["permissions"][1]
    assert found["admission"][0] == found["nodes"][0] == "not asked"
    assert cluster.names("pods") == []


def test_an_image_that_cannot_be_pulled_is_told(cluster: Cluster) -> None:
    began = time.monotonic()
    run = cluster.start(image="127.0.0.1:5000/there-is-no:such")
    errors = run.communicate(timeout=60)[1]
    assert run.returncode == 74, errors
    assert re.search("the cluster cannot start the task, (ErrImagePull|ImagePullBackOff): .*there-is-no:such", errors)
    assert time.monotonic() - began < 30
    assert cluster.names("jobs", "pods") == []


def test_a_quota_that_is_exhausted_is_told(cluster: Cluster) -> None:
    cluster.kubectl(f"--namespace={cluster.namespace}", "create", "quota", "small", "--hard=pods=0")
    quota = "--output=jsonpath={.items[*].status.hard.pods}"
    cluster.until(lambda: cluster.kubectl(f"--namespace={cluster.namespace}", "get", "quota", quota) == "0", "quota")
    began = time.monotonic()
    run = cluster.start()
    errors = run.communicate(timeout=60)[1]
    assert run.returncode == 74, errors
    assert re.search("the cluster does not admit the pod: .*exceeded quota: small, requested: pods=1", errors), errors
    assert time.monotonic() - began < 30
    assert cluster.names("jobs", "pods") == []


def test_a_selector_that_no_node_has_is_told(cluster: Cluster) -> None:
    began = time.monotonic()
    run = cluster.start(options=", patience: 3, node_selector: {disk: nowhere}")
    errors = run.communicate(timeout=60)[1]
    assert run.returncode == 74, errors
    assert "no node takes the task within 3 seconds, Unschedulable: 0/1 nodes are available" in errors
    assert time.monotonic() - began < 30
    assert cluster.names("jobs", "pods") == []


@pytest.mark.parametrize("seconds", [3, 12], ids=["for a while", "until after its end"])
def test_a_task_runs_on_while_the_cluster_is_not_reached_and_each_line_is_seen_once(
    cluster: Cluster, wire: Wire, seconds: int
) -> None:
    run = cluster.start()
    cluster.until_running()
    time.sleep(1)
    wire.cut(back_in=seconds)
    told(run, cluster)


def test_the_end_of_a_task_is_told_although_the_api_server_was_restarted(
    cluster: Cluster, restart: Callable[[], None]
) -> None:
    run = cluster.start()
    cluster.until_running()
    restart()
    told(run, cluster)


def test_a_detached_run_comes_to_its_end_although_the_api_server_is_restarted_and_its_cube_is_killed(
    cluster: Cluster, restart: Callable[[], None]
) -> None:
    run = cluster.start("count", "--detach")
    run_id = run.communicate(timeout=60)[0].strip()
    cluster.until_running()
    (holder,) = cluster.place.glob(f"home/.local/state/mlcube/runs/{run_id}/holder.json")
    os.kill(json.loads(holder.read_text())["pid"], signal.SIGKILL)
    restart()
    waited = cluster.cube_command("wait", run_id)
    assert waited.returncode == 0, waited.stderr
    log = cluster.cube_command("logs", run_id).stdout.split("\n")
    assert [line for line in log if line.startswith("line ")] == [f"line {number}" for number in range(10)]
    assert (cluster.workspace / "out/ended").exists()
    assert cluster.pods_created() == 1
    assert cluster.names("jobs", "pods") == []


def told(run: "subprocess.Popen[str]", cluster: Cluster) -> None:
    out, errors = run.communicate(timeout=120)
    assert run.returncode == 0, errors
    assert out.split("\n")[:10] == [f"line {number}" for number in range(10)], out
    assert re.findall(r"^error (\d)$", errors, re.MULTILINE) == list("0123456789"), errors
    assert (cluster.workspace / "out/ended").exists()
    assert cluster.pods_created() == 1
    assert cluster.names("jobs", "pods") == []


@pytest.mark.parametrize("share", [0.5, 1.9], ids=["there", "back"])
def test_a_transfer_that_was_cut_goes_on(cluster: Cluster, wire: Wire, share: float) -> None:
    size = 160 << 20  # what is on its way is sent again, or the part of 128 MiB that was not fetched to its end
    given = cluster.workspace / "in/given.bin"
    given.parent.mkdir()
    given.write_bytes(os.urandom(size))
    wire.cut_after(int(share * size), back_in=1)
    run = cluster.start("copy")
    errors = run.communicate(timeout=180)[1]
    assert run.returncode == 0, errors
    assert wire.cuts == 1
    assert wire.sent < size + (16 << 20)
    assert wire.returned < size + (32 << 20)
    assert digest(cluster.workspace / "out/copy.bin") == digest(given)
    assert cluster.pods_created() == 1
    assert cluster.names("jobs", "pods") == []
