"""What is measured on a Kubernetes cluster: a job, and what is sent to one."""

import json
import os
import shlex
import subprocess
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from processes import Call

__all__ = ["KUBECONFIG", "Cluster", "no_cluster"]

KUBECONFIG = f"{os.environ.get('ENGINES_STATE', '/var/tmp/mlcube-engines')}/kubernetes/kubeconfig"
"""Leads to the cluster of `tests/engines/kubernetes.sh`."""
IMAGE = os.environ.get("CUBE_BENCHMARK_IMAGE", "cube-test/python:3.11")
"""One that the cluster's nodes have."""

CUBE = """\
name: trivial
docker: {{image: '{image}'}}
tasks:
  nothing:
    entrypoint: 'true'
    parameters: {{inputs: {{{inputs}}}}}
"""
BY_HAND = """\
kubectl --kubeconfig={kubeconfig} create --filename={manifest} --output=name >{name}
kubectl --kubeconfig={kubeconfig} wait --timeout=60s --for=condition=complete "$(cat {name})"
"""


def no_cluster() -> str | None:
    """Why nothing can be measured."""
    argv = ("kubectl", f"--kubeconfig={KUBECONFIG}", "version", "--request-timeout=5s")
    try:
        done = subprocess.run(argv, capture_output=True, check=False)
    except FileNotFoundError:
        return "there is no `kubectl` command"
    return "no cluster of tests/engines/kubernetes.sh answers" if done.returncode else None


class Cluster:
    """Cubes, and the same by hand; everything of the latter is removed by `close`."""

    def __init__(self, directory: Path, environment: Mapping[str, str], cube: Call) -> None:
        self.directory = directory
        self.environment = environment
        self._cube = cube
        self._pod: str | None = None

    @cached_property
    def run(self) -> Call:
        """A task that does nothing, and is sent nothing."""
        return self._run("nothing at all", "")

    @cached_property
    def run_by_hand(self) -> Call:
        """A job with the same pod, whose containers of cube's own do nothing."""
        printed = subprocess.run(
            [*self.run.argv, "--dry-run", "--json"], env=dict(self.environment), stdout=subprocess.PIPE, check=True
        ).stdout
        steps: list[dict[str, Any]] = json.loads(printed)["runs"][0]["plan"]["run"]
        (text,) = (step["text"] for step in steps if step.get("path", "").endswith("/manifest.json"))
        job = json.loads(text)
        job["metadata"] = {"generateName": "cube-benchmark-", "labels": {"cube-benchmark": "job"}}
        pod = job["spec"]["template"]["spec"]
        for container in (*pod["initContainers"], *pod["containers"]):
            container["command"] = ["true"]
            container.pop("args", None)
        manifest = self.directory / "job.json"
        manifest.write_text(json.dumps(job))
        script = BY_HAND.format(kubeconfig=KUBECONFIG, manifest=manifest, name=self.directory / "job.name")
        return Call(argv=("sh", "-ec", script), environment=self.environment)

    @cached_property
    def send_nothing(self) -> Call:
        """A task that gets an empty directory."""
        return self._sending("nothing", {})

    @cached_property
    def send_large(self) -> Call:
        """A task that gets a file of 1 GiB."""
        return self._sending("large", {"large.bin": 1 << 30})

    @cached_property
    def send_many(self) -> Call:
        """A task that gets 10,000 files of 10 kB."""
        return self._sending("many", {f"{number % 100}/{number}": 10_000 for number in range(10_000)})

    def by_hand(self, sending: Call) -> Call:
        """The same files to a pod that is there, by tar."""
        source = f"{sending.argv[3]}/workspace/data"
        kubectl = shlex.join(["kubectl", f"--kubeconfig={KUBECONFIG}", "exec", "-i", self._waiting_pod(), "--"])
        place = "mkdir /tmp/data && tar -C /tmp/data -xf - && rm -r /tmp/data"
        send = f"tar -C {shlex.quote(source)} -cf - . | {kubectl} sh -c {shlex.quote(place)}"
        return Call(argv=("sh", "-ec", send), environment=self.environment)

    def close(self) -> None:
        """Remove what was made in the cluster."""
        for kind in ("jobs", "pods"):
            self._kubectl("delete", kind, "--selector=cube-benchmark", "--wait=false", "--ignore-not-found")

    def _sending(self, name: str, files: Mapping[str, int]) -> Call:
        call = self._run(f"sending {name}", "data: data/")
        for file, size in files.items():
            place = Path(call.argv[3], "workspace", "data", file)
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("wb") as opened:
                while (left := size - opened.tell()) > 0:
                    opened.write(os.urandom(min(left, 1 << 24)))
        return call

    def _run(self, name: str, inputs: str) -> Call:
        folder = self.directory / f"cubes/cluster, {name}"
        (folder / "workspace/data").mkdir(parents=True)
        (folder / "mlcube.yaml").write_text(CUBE.format(image=IMAGE, inputs=inputs))
        words = ("run", "--mlcube", str(folder), "--platform", "cluster")
        return Call(argv=(self._cube.argv[0], *words), environment=self.environment)

    def _waiting_pod(self) -> str:
        if self._pod is None:
            self._pod = f"cube-benchmark-{os.getpid()}"
            wait = ["sh", "-c", "trap exit TERM; while :; do sleep 1; done"]
            made = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": self._pod, "labels": {"cube-benchmark": "pod"}},
                "spec": {"containers": [{"name": "pod", "image": IMAGE, "imagePullPolicy": "Never", "command": wait}]},
            }
            self._kubectl("create", "--filename=-", given=json.dumps(made))
            self._kubectl("wait", "--for=condition=ready", f"pod/{self._pod}", "--timeout=60s")
        return self._pod

    def _kubectl(self, *words: str, given: str | None = None) -> None:
        argv = ("kubectl", f"--kubeconfig={KUBECONFIG}", *words)
        subprocess.run(argv, input=given, text=True, capture_output=True, check=True)
