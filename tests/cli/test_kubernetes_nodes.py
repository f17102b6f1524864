"""A task on several nodes, as far as a cluster of version 1.20 goes, which has no indexed jobs.

It refuses the task. What comes after is seen there all the same, with two pods that have no rank: they start, are told,
end, and are stopped as those of an indexed job would.
"""

import itertools
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from mlcube.cube import Resources
from mlcube.invocation import Word
from mlcube.plan import Step, WriteFile
from mlcube_runners.kubernetes import KubernetesRunner
from tests.cli.test_kubernetes_jobs import Cluster
from tests.conftest import BASE_IMAGE
from tests.plans.test_docker import hello
from tests.plans.test_kubernetes import HOST

pytestmark = [pytest.mark.engine("kubernetes"), pytest.mark.engine("docker")]
_numbers = itertools.count()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path)
    yield cluster
    cluster.kubectl("delete", "namespace", cluster.namespace, "--wait=false")


def test_a_cluster_without_indexed_jobs_refuses(cluster: Cluster) -> None:
    run = cluster.start("tell", "-Ptasks.tell.resources.nodes=2", "-Ptasks.tell.secrets=[]")
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 77, errors
    assert "starts on 2 nodes at once, and this cluster (v1.20" in errors
    assert "lacks indexed jobs, which came with Kubernetes 1.24" in errors
    assert cluster.names("jobs") == []


def test_what_all_pods_print_is_told(cluster: Cluster) -> None:
    status, out, errors = finished(started(cluster, "print('one', flush=True); print('two')"))
    assert status == 0, errors
    told = [line.partition("] ") for line in out.splitlines()]
    assert [text for _, _, text in told] == ["one", "two"] * 2
    assert told[0][0] == told[1][0] != told[2][0] == told[3][0]
    assert all(pod.startswith("[pod/cube-") for pod, _, _ in told)
    assert cluster.names("jobs", "services") == []


def test_the_status_is_that_of_the_pod_that_failed(cluster: Cluster) -> None:
    status, _, errors = finished(started(cluster, "raise SystemExit(3)"))
    assert status == 3, errors
    assert "of 2 ended with status 3, and the others were stopped" in errors
    assert cluster.names("jobs", "services") == []


def test_who_interrupts_it_stops_every_pod(cluster: Cluster) -> None:
    end = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(4))"
    run = started(cluster, f"{end}; print('begun', flush=True); time.sleep(60)")
    assert run.stdout
    assert run.stdout.readline().endswith("begun\n")  # as it comes
    begun = time.monotonic()
    os.kill(run.pid, signal.SIGTERM)
    status, _, errors = finished(run)
    assert status == 143, errors
    assert time.monotonic() - begun < 40
    assert cluster.names("jobs", "services", "pods") == []


def test_one_node_does_not_stand_for_two(cluster: Cluster) -> None:
    status, _, errors = finished(started(cluster, "import time; time.sleep(60)", on_one_node=False))
    assert status == 74, errors
    assert "no node takes the task within 2 seconds, Unschedulable" in errors
    assert cluster.names("jobs", "services") == []


def started(cluster: Cluster, do: str, *, on_one_node: bool = True) -> "subprocess.Popen[str]":
    runner = KubernetesRunner(kubeconfig=cluster.kubeconfig, namespace=cluster.namespace, patience=2)
    task = hello(
        image=BASE_IMAGE,
        run_id=f"test-{os.getpid()}-{next(_numbers)}",
        scratch=str(cluster.place / "scratch"),
        entrypoint=("python", "-c"),
        arguments=(Word(do),),
        mounts=(),
        environment={},
        resources=Resources(nodes=2),
    )
    plan = runner.run(task, {**HOST, "caller": {"user": os.getuid(), "group": os.getgid()}})
    steps = tuple(_older(step, on_one_node) for step in plan.steps)
    script = cluster.place / "script"
    script.write_text(msgspec.structs.replace(plan, steps=steps).script())
    return subprocess.Popen(["sh", str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _older(step: Step, on_one_node: bool) -> Step:
    """Without what the cluster does not know; and without what one node cannot do."""
    if not (isinstance(step, WriteFile) and step.path.endswith("/manifest.json")):
        return step
    manifest = json.loads(str(step.text))
    job = manifest["items"][1]["spec"]
    del job["completionMode"]
    if on_one_node:
        del job["template"]["spec"]["affinity"]
    return msgspec.structs.replace(step, text=json.dumps(manifest))


def finished(run: "subprocess.Popen[str]") -> tuple[int, str, str]:
    out, errors = run.communicate(timeout=120)
    return run.returncode, out, errors
