"""What a cluster is told, character for character; see the files in `kubernetes/`."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlcube.cube import Resources, Secret
from mlcube.errors import Refused
from mlcube.invocation import Invocation, Mount, Word
from mlcube.plan import Command, Plan, SecretText, WriteFile
from mlcube.runner import Answer
from mlcube_runners.kubernetes import KubernetesRunner
from tests.conftest import KUBECONFIG
from tests.plans.test_docker import HOST as DOCKER_HOST
from tests.plans.test_docker import hello

HOST: dict[str, Any] = {**DOCKER_HOST, "kubernetes": {"version": "v1.31.2"}}
CLUSTER = KubernetesRunner(
    context="prod",
    namespace="ml",
    node_selector={"accelerator": "a100"},
    tolerations=({"key": "gpu", "operator": "Exists"},),
    priority_class="batch",
    service_account="trainer",
    pull_secrets=("registry",),
)
WHOLE: dict[str, Any] = {
    "resources": Resources(cpus=1.5, memory_bytes=2 << 30, gpus=2, shared_memory_bytes=1 << 30),
    "secrets": (Secret(name="TOKEN"), Secret(name="KEY", mount="/run/key")),
    "environment": {"PRICE": Word("$(HOME) $5 $$")},
    "mounts": (Mount("/data/of ada", "/data"), Mount("/home/ada/out", "/out", "rw")),
}


def manifest_of(plan: Plan) -> dict[str, Any]:
    (text,) = (step.text for step in plan.steps if isinstance(step, WriteFile) and step.path.endswith("/manifest.json"))
    assert isinstance(text, str)
    found: dict[str, Any] = json.loads(text)
    return found


def asked(_runner: KubernetesRunner = CLUSTER, **changes: Any) -> dict[str, Any]:
    return manifest_of(_runner.run(hello(**changes), HOST))


def containers(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from (*spec["initContainers"], *spec["containers"])


def test_a_task_is_a_job(golden: Callable[..., None]) -> None:
    golden("kubernetes/run.txt", run=CLUSTER.run(hello(), HOST))


def test_everything_that_can_be_asked_stands_in_the_manifest(request: pytest.FixtureRequest) -> None:
    text = json.dumps(asked(**WHOLE), indent=2) + "\n"
    path = Path(request.path.parent, "kubernetes", "manifest.json")
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def test_an_image_that_is_made_here_is_pushed_and_run_by_its_digest(golden: Callable[..., None]) -> None:
    from mlcube.cube import PythonEnvironment

    runner = KubernetesRunner(registry="registry.example.org/me")
    made = hello(
        image="cube/hello:1", python=PythonEnvironment(version=">=3.10", source="/home/ada/hello"), source_digest="5eed"
    )
    golden("kubernetes/prepare.txt", prepare=runner.prepare(made, HOST))
    assert {each["image"] for each in containers(manifest_of(runner.run(made, HOST))["spec"]["template"]["spec"])} == {
        "cube.invalid/image"
    }
    with pytest.raises(Refused, match="the cluster cannot reach it"):
        CLUSTER.prepare(made, HOST)


# The restricted Pod Security Standard, rule by rule.


@pytest.mark.parametrize("user", [0, 1000])
@pytest.mark.parametrize("changes", [{}, WHOLE, {"user": "image"}], ids=["plain", "everything", "the image's user"])
def test_the_pod_keeps_every_rule_of_the_restricted_standard(user: int, changes: dict[str, Any]) -> None:
    known = {**HOST, "caller": {**HOST["caller"], "user": user, "group": user}}
    spec = manifest_of(CLUSTER.run(hello(**changes), known))["spec"]["template"]["spec"]
    assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers", "ephemeralContainers"} & set(spec)
    allowed = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected"}
    allowed.add("secret")
    for volume in spec["volumes"]:
        assert set(volume) - {"name"} <= allowed
    pod = spec["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert pod.get("runAsUser") != 0
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"sysctls", "seLinuxOptions", "windowsOptions", "appArmorProfile"} & set(pod)
    for container in containers(spec):
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["capabilities"] == {"drop": ["ALL"]}
        # What would weaken the pod's own settings, and what else the standard forbids.
        assert set(own) == {"allowPrivilegeEscalation", "capabilities"}
        assert not any("hostPort" in port for port in container.get("ports", ()))
        assert not {"livenessProbe", "readinessProbe", "startupProbe", "lifecycle"} & set(container)
    assert spec["automountServiceAccountToken"] is False


@pytest.mark.engine("kubernetes")
@pytest.mark.parametrize("changes", [{}, WHOLE], ids=["plain", "everything"])
def test_a_real_server_accepts_the_manifest(changes: dict[str, Any]) -> None:
    plain = KubernetesRunner(node_selector={"a": "b"}, tolerations=({"key": "gpu", "operator": "Exists"},))
    argv = ["kubectl", f"--kubeconfig={KUBECONFIG}", "apply", "--dry-run=server", "--filename=-"]
    text = json.dumps(asked(plain, **changes))
    done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "created (server dry run)" in done.stdout


def test_what_lies_on_the_claim_is_mounted_in_place_and_the_rest_is_sent() -> None:
    mounts = (
        Mount("/mnt/projects/ada/in", "/in"),
        Mount("/elsewhere/model", "/model"),
        Mount("/mnt/projects/ada/in/deep", "/in/deep", "rw"),
        Mount("/mnt/projects", "/all"),
        Mount("/mnt/projects-of-others", "/others"),
    )
    runner = KubernetesRunner(claim="projects", claim_at="/mnt/projects/")
    spec = asked(runner, mounts=mounts)["spec"]["template"]["spec"]
    assert {"name": "claim", "persistentVolumeClaim": {"claimName": "projects"}} in spec["volumes"]
    mounted = [each for each in spec["containers"][0]["volumeMounts"] if each["mountPath"].startswith(("/in", "/al"))]
    assert mounted == [
        {"name": "claim", "mountPath": "/in", "subPath": "ada/in", "readOnly": True},
        {"name": "claim", "mountPath": "/in/deep", "subPath": "ada/in/deep"},
        {"name": "claim", "mountPath": "/all", "readOnly": True},
    ]
    sent = [each for each in spec["containers"][0]["volumeMounts"] if each["mountPath"] in ("/model", "/others")]
    assert [each["name"] for each in sent] == ["run", "run"]
    assert not any("claim" in each["name"] for own in spec["containers"][1:] for each in own["volumeMounts"])


@pytest.mark.parametrize("options", [{"claim": "x"}, {"claim_at": "/x"}, {"claim": "x", "claim_at": "x"}])
def test_half_a_claim_is_refused(options: dict[str, Any]) -> None:
    reason = KubernetesRunner(**options).refuses(hello(), HOST)
    assert reason
    assert "which claim is used" in reason[0]


def test_nothing_of_a_text_is_taken_for_a_variable_by_the_cluster() -> None:
    spec = asked(**WHOLE)["spec"]["template"]["spec"]
    (task,) = (each for each in spec["containers"] if each["name"] == "task")
    values = {each["name"]: each.get("value") for each in task["env"]}
    assert values["PRICE"] == "$$(HOME) $$5 $$$$"


def test_a_secret_reaches_the_cluster_by_standard_input_alone() -> None:
    plan = CLUSTER.run(hello(**WHOLE), HOST)
    given = [step.input for step in plan.steps if isinstance(step, Command) and step.input]
    assert given == [SecretText("TOKEN"), SecretText("KEY")]


def test_an_image_without_a_shell_gets_its_own_command() -> None:
    shell = "registry.example.org/busybox:1"
    spec = asked(KubernetesRunner(staging_image=shell), entrypoint=("/run", "-x"))["spec"]["template"]["spec"]
    task, collect = spec["containers"]
    assert task["command"] == ["/run"]
    assert task["args"][0] == "-x"
    assert (spec["initContainers"][0]["image"], collect["image"]) == (shell, shell)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"network": "none"}, "is to have no network"),
        ({"network": "mine"}, "asks for the network `mine`"),
        ({"security": ("label=disable",)}, "security options"),
        ({"resources": Resources(cpu_set="0-3")}, "certain processors"),
        ({"resources": Resources(gpus="all")}, "certain GPUs"),
        ({"resources": Resources(gpus=("0",))}, "certain GPUs"),
        ({"environment": {"a b": Word("")}}, "the variable `a b`"),
    ],
)
def test_what_a_cluster_cannot_honour_is_refused(changes: dict[str, Any], said: str) -> None:
    refusal = CLUSTER.refuses(hello(**changes), HOST)
    assert refusal is not None
    assert said in refusal[0]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(127, "", "not found"), "`kubectl` is not installed"),
        (Answer(1, '{"clientVersion": {}}', "The connection to the server was refused"), "does not answer: The conn"),
        (Answer(0, '{"serverVersion": {"gitVersion": "v1.20.2"}}', ""), None),
    ],
)
def test_a_cluster_that_cannot_be_used_says_why(answer: Answer, reason: str | None) -> None:
    (fact,) = (fact for fact in CLUSTER.facts() if fact.name == "kubernetes")
    found = CLUSTER.unusable({"kubernetes": fact.parse(answer)})
    assert (found is None) if reason is None else (found is not None and reason in found[0])


def test_an_image_is_identified_while_its_pod_is_there() -> None:
    invocation: Invocation = msgspec.structs.replace(hello(), run_id="r1")
    fact = CLUSTER.identify(invocation, HOST)
    assert fact is not None
    assert fact.parse(Answer(0, "docker-pullable://a.org/b@sha256:12", "")) == {
        "id": "sha256:12",
        "digests": ["a.org/b@sha256:12"],
    }
    assert fact.parse(Answer(0, "", "")) is None
