"""What a cluster is told of a task that starts on several nodes, and what current clusters say to that."""

import json
import os
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import msgspec
import pytest

from mlcube.cube import Resources
from mlcube.invocation import Invocation, Mount, Word
from mlcube.plan import Command, Plan
from mlcube_runners.kubernetes import KubernetesRunner
from tests.plans.test_docker import hello
from tests.plans.test_kubernetes import CLUSTER, HOST, WHOLE, asked, manifest_of

SHARED = KubernetesRunner(claim="projects", claim_at="/home/ada")
NAME = "cube-20250102-030405-abcd"
VERSIONS = (kubernetes_validate.utils.all_versions()[0], kubernetes_validate.latest_version())
"""The oldest and the newest whose schema is known."""


def several(nodes: int = 3, **changes: Any) -> Invocation:
    return hello(entrypoint=("python", "train.py"), resources=Resources(nodes=nodes, gpus=1), **changes)


def spread(_runner: KubernetesRunner = SHARED, **changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The service and the job."""
    service, job = manifest_of(_runner.run(several(**changes), HOST))["items"]
    return service, job


def test_it_is_an_indexed_job_with_a_name_for_each_pod(request: pytest.FixtureRequest) -> None:
    text = json.dumps(manifest_of(SHARED.run(several(), HOST)), indent=2) + "\n"
    path = request.path.parent / "kubernetes" / "nodes.json"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("version", VERSIONS)
def test_current_clusters_know_every_word_of_it(version: str) -> None:
    for each in (*spread(), asked(**WHOLE)):
        kubernetes_validate.validate(each, version, strict=True)
    _, job = spread()
    job["spec"]["completionsMode"] = "Indexed"
    with pytest.raises(kubernetes_validate.ValidationError, match="completionsMode"):
        kubernetes_validate.validate(job, version, strict=True)


def test_the_first_pod_is_found_under_the_name_that_all_are_told() -> None:
    """A pod of an indexed job is named after the job and its index, in the domain of the service."""
    service, job = spread()
    pod = job["spec"]["template"]
    (told,) = (each["value"] for each in variables(job) if each["name"] == "MASTER_ADDR")
    assert told == f"{job['metadata']['name']}-0.{pod['spec']['subdomain']}"
    assert service["metadata"]["name"] == pod["spec"]["subdomain"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()


def test_the_rank_is_the_index_whatever_the_cube_says_of_it() -> None:
    _, job = spread(environment={"RANK": Word("7"), "MINE": Word("1")})
    named = {each["name"]: each for each in variables(job)}
    assert len(named) == len(variables(job))
    index = {"fieldRef": {"fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"}}
    ranks = [name for name, each in named.items() if each.get("valueFrom") == index]
    assert ranks == ["CUBE_RANK", "RANK", "PET_NODE_RANK"]
    assert named["MINE"]["value"] == "1"
    assert {named[name]["value"] for name in ("CUBE_WORLD_SIZE", "WORLD_SIZE", "PET_NNODES")} == {"3"}


def test_what_is_sent_would_reach_one_pod_only() -> None:
    refusal = CLUSTER.refuses(several(), HOST)
    assert refusal is not None
    assert refusal[0] == (
        "task `hello` starts on 3 nodes at once, and `/home/ada/hello/workspace/names` is not on a volume that all of "
        "them see"
    )
    assert "`claim`" in refusal[1]
    elsewhere = several(mounts=(Mount("/home/ada/in", "/in"), Mount("/scratch/out", "/out", "rw")))
    refusal = SHARED.refuses(elsewhere, HOST)
    assert refusal is not None
    assert "`/scratch/out` is not on a volume" in refusal[0]
    assert CLUSTER.refuses(several(mounts=()), HOST) is None


@pytest.mark.parametrize(
    ("version", "can"), [("v1.20.2", False), ("v1.23.17-eks-1", False), ("v1.24.0", True), ("v2.0", True), ("", True)]
)
def test_a_cluster_without_indexed_jobs_is_refused(version: str, can: bool) -> None:
    refusal = SHARED.refuses(several(), {**HOST, "kubernetes": {"version": version}})
    assert (refusal is None) == can
    if refusal:
        assert f"this cluster ({version}) lacks indexed jobs" in refusal[0]


def test_the_service_goes_when_the_job_goes() -> None:
    (own,) = (step for step in SHARED.run(several(), HOST).steps if isinstance(step, Command) and "own" in step.argv)
    assert own.argv[3:] == (f"service/{NAME}",)


def test_it_is_data() -> None:
    plan = SHARED.run(several(), HOST)
    assert msgspec.json.decode(msgspec.json.encode(plan), type=Plan) == plan


def variables(job: dict[str, Any]) -> list[dict[str, Any]]:
    (task,) = job["spec"]["template"]["spec"]["containers"]
    found: list[dict[str, Any]] = task["env"]
    return found
