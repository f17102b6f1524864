"""What a cluster answered beforehand, and the checks that are read out of it."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlcube.checking import Check
from mlcube.runner import Answer
from mlcube_runners import _checks_kubernetes as checks
from mlcube_runners.kubernetes import KubernetesRunner

PAGE = Path(__file__).parents[2] / "docs/how-to/kubernetes-for-administrators.md"
GOOD: dict[str, Any] = {
    "kubernetes": {"version": "v1.33.0"},
    "permissions": {"lacking": [], "namespace": "ml"},
    "admission": {"admitted": True, "said": "pod/cube-doctor-x7k2p"},
    "quotas": {"quotas": []},
    "nodes": {"ready": 2, "all": 3, "gpus": {"nvidia.com/gpu": 8}},
}


def told(name: str, **changes: Any) -> Check:
    (check,) = (each for each in checks.kubernetes(None, {**GOOD, **changes}, None) if each.name == name)
    return check


def test_a_cluster_that_has_all_says_yes() -> None:
    found = checks.kubernetes(None, GOOD, "big")
    assert {check.verdict for check in found} == {"yes"}
    assert found[0].detail == "Kubernetes v1.33.0 answers, context `big`, namespace `ml`"
    assert told("gpus").detail == "8 nvidia.com/gpu"


def test_a_cluster_that_does_not_answer_is_the_only_thing_told() -> None:
    (check,) = KubernetesRunner().checks({"kubernetes": {"problem": "Unauthorized"}})[:1]
    assert (check.name, check.verdict, check.stops) == ("cluster", "no", 69)
    assert "Unauthorized" in check.detail
    (check, _) = KubernetesRunner().checks({"kubernetes": {"problem": "missing"}})
    assert (check.name, check.stops) == ("engine", 69)


def test_the_rights_that_are_asked_for_are_those_that_the_documentation_gives() -> None:
    role = next(
        each
        for text in re.findall("```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
        for each in yaml.safe_load_all(text)
        if each["kind"] == "Role"
    )
    given = {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert given == set(checks.RIGHTS)


@pytest.mark.parametrize(
    ("lacking", "stops", "detail"),
    [
        (["create pods/exec"], 69, "you may not `create pods/exec`"),
        (["list events"], None, "why a pod does not start cannot be told"),
        (["create secrets", "get secrets"], None, "tasks with secrets cannot be run"),
        (["patch jobs", "create services"], None, "tasks on several nodes cannot be run"),
        (["list events", "create jobs"], 69, "you may not `list events`, `create jobs`"),
    ],
)
def test_a_right_that_is_lacking_stops_what_needs_it(lacking: list[str], stops: int | None, detail: str) -> None:
    check = told("permissions", permissions={"lacking": lacking, "namespace": "ml"})
    assert (check.verdict, check.stops) == ("no", stops)
    assert detail in check.detail


def test_reviews_are_read_line_by_line() -> None:
    said = "true ml create jobs\nfalse ml create pods/exec\n"
    assert checks.parse_permissions(Answer(0, said, "")) == {"lacking": ["create pods/exec"], "namespace": "ml"}
    assert checks.parse_permissions(Answer(1, "", "Unable to connect\n")) == {"problem": "Unable to connect"}


@pytest.mark.parametrize(
    ("status", "error", "verdict", "stops"),
    [
        (0, "", "yes", None),
        (0, "Warning: would violate PodSecurity\n", "yes", None),
        (
            1,
            'Error from server (Forbidden): pods "cube-doctor-" is forbidden: no PriorityClass with name x\n',
            "no",
            69,
        ),
        (1, 'pods is forbidden: User "ada" cannot create resource "pods" in API group ""\n', "not asked", None),
    ],
)
def test_what_a_cluster_says_to_a_pod(status: int, error: str, verdict: str, stops: int | None) -> None:
    check = told("admission", admission=checks.parse_admission(Answer(status, "pod/cube-doctor-x\n", error)))
    assert (check.verdict, check.stops) == (verdict, stops)


def test_quotas_are_told_and_those_that_are_used_up() -> None:
    rows = "small pods 1 20\nsmall requests.memory 512Mi 1Gi\n"
    check = told("quotas", quotas=checks.parse_quotas(Answer(0, rows, "")))
    assert check.verdict == "yes"
    assert "pods 1 of 20, requests.memory 512Mi of 1Gi" in check.detail
    assert "tasks must say" in check.detail
    check = told("quotas", quotas=checks.parse_quotas(Answer(0, "small requests.memory 1024Mi 1Gi\n", "")))
    assert (check.verdict, check.stops) == ("no", None)
    assert "`requests.memory` of `small` (1024Mi of 1Gi)" in check.detail


def test_nodes_that_are_not_ready_count_for_nothing() -> None:
    rows = "yes cpu=8 memory=64Gi nvidia.com/gpu=4 \nno cpu=8 nvidia.com/gpu=4 \n"
    found = checks.parse_nodes(Answer(0, rows, ""))
    assert found == {"ready": 1, "all": 2, "gpus": {"nvidia.com/gpu": 4}}
    assert told("nodes", nodes={**found, "ready": 0}).verdict == "no"
    assert told("nodes", nodes=checks.parse_nodes(Answer(1, "", "forbidden\n"))).verdict == "not asked"


@pytest.mark.parametrize(
    ("registry", "lacking", "verdict"),
    [(None, None, "no"), ("r.example.org", ("no daemon", "start it"), "no"), ("r.example.org", None, "yes")],
)
def test_images_that_are_made_here_need_a_registry_and_docker(
    registry: str | None, lacking: tuple[str, str] | None, verdict: str
) -> None:
    check = checks.pushing(registry, lacking)
    assert (check.verdict, check.stops) == (verdict, None)


@pytest.mark.parametrize(
    ("answer", "verdict", "stops"),
    [
        (Answer(0, "Bound", ""), "yes", None),
        (Answer(0, "Pending", ""), "yes", None),
        (Answer(0, "Lost", ""), "no", 69),
        (Answer(1, "", 'Error from server (NotFound): persistentvolumeclaims "x" not found'), "no", 69),
        (Answer(1, "", "Error from server (Forbidden): you may not"), "not asked", None),
    ],
)
def test_the_claim_that_a_platform_names_is_looked_for(answer: Answer, verdict: str, stops: int | None) -> None:
    (check,) = checks.claimed("x", {"claim": checks.parse_claim(answer)})
    assert (check.verdict, check.stops) == (verdict, stops)
