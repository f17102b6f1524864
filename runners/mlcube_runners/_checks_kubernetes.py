"""What Kubernetes says beforehand: the cluster, what its user may do there, and whether it would admit a pod."""

import shlex
from collections.abc import Sequence
from typing import Any

import msgspec

from mlcube.checking import Check, no, not_asked, yes
from mlcube.errors import EngineUnavailable
from mlcube.runner import Answer, Fact, Host

__all__ = ["RIGHTS", "claimed", "kubernetes", "kubernetes_questions", "pushing"]

_STOPS = EngineUnavailable.status

RIGHTS = (
    *(("batch", "jobs", verb) for verb in ("create", "get", "list", "watch", "delete")),
    *(("", "pods", verb) for verb in ("get", "list", "watch", "delete", "deletecollection")),
    *(("", "pods/exec", verb) for verb in ("create", "get")),
    *(("", resource, verb) for resource in ("pods/log", "events") for verb in ("get", "list")),
    *(("", "secrets", verb) for verb in ("create", "get", "patch", "delete")),
    ("batch", "jobs", "patch"),
    *(("", "services", verb) for verb in ("create", "get", "list", "patch", "delete")),
)
"""Group, resource and verb of all that a run needs."""
_SEVERAL = "tasks on several nodes cannot be run"
_MAY_LACK = {
    "events": "why a pod does not start cannot be told",
    "secrets": "tasks with secrets cannot be run",
    "patch jobs": _SEVERAL,
    "services": _SEVERAL,
}
"""What is lacking without stopping anything, by its resource or its verb and resource; and what follows from it."""

_NODES = """\
{{range .items}}{{$ready := "no"}}{{range .status.conditions}}{{if eq .type "Ready"}}{{if eq .status "True"}}\
{{$ready = "yes"}}{{end}}{{end}}{{end}}{{if .spec.unschedulable}}{{$ready = "no"}}{{end}}{{$ready}} \
{{range $name, $amount := .status.allocatable}}{{$name}}={{$amount}} {{end}}
{{end}}"""
_REVIEWED = """\
{{.status.allowed}} {{with .spec.resourceAttributes}}{{.namespace}} {{.verb}} {{.resource}}\
{{with .subresource}}/{{.}}{{end}}{{end}}
"""
_QUOTAS = """\
{{range .items}}{{$name := .metadata.name}}{{$used := .status.used}}{{range $what, $hard := .status.hard}}\
{{$name}} {{$what}} {{index $used $what}} {{$hard}}
{{end}}{{end}}"""


def kubernetes_questions(
    kubectl: Sequence[str], namespace: str | None, pod: Any, claim: str | None
) -> tuple[Fact, ...]:
    """Rights, nodes, quotas; and the cluster is shown a pod that it is told not to create. `pod`: what it is."""
    words = shlex.join(kubectl)
    patience = "--request-timeout=8s"
    found = f"{words} config view --minify --output='jsonpath={{..namespace}}'"
    reviews = msgspec.json.encode({"apiVersion": "v1", "kind": "List", "items": [_review(*each) for each in RIGHTS]})
    rights = f"""\
namespace=$(printf %s "$1"); [ -n "$namespace" ] || namespace=$({found}); namespace=${{namespace:-default}}
printf %s "$2" | sed "s/@namespace@/$namespace/g" | {words} create {patience} --output=go-template="$3" --filename=-
"""
    admitted = f'printf %s "$1" | {words} create {patience} --dry-run=server --output=name --filename=-'
    template = "--output=go-template="
    phase = "--output=jsonpath={.status.phase}"
    wanted = (*kubectl, "get", "persistentvolumeclaim", claim or "", patience, phase)
    return (
        *((Fact(name="claim", argv=wanted, parse=parse_claim),) if claim else ()),
        Fact(
            name="permissions",
            argv=("sh", "-c", rights, "sh", namespace or "", reviews.decode(), _REVIEWED),
            parse=parse_permissions,
        ),
        Fact(
            name="admission",
            argv=("sh", "-c", admitted, "sh", msgspec.json.encode(pod).decode()),
            parse=parse_admission,
        ),
        Fact(name="nodes", argv=(*kubectl, "get", "nodes", patience, f"{template}{_NODES}"), parse=parse_nodes),
        Fact(
            name="quotas",
            argv=(*kubectl, "get", "resourcequotas", patience, f"{template}{_QUOTAS}"),
            parse=parse_quotas,
        ),
    )


def _review(group: str, resource: str, verb: str) -> dict[str, Any]:
    resource, _, sub = resource.partition("/")
    attributes = {"namespace": "@namespace@", "group": group, "resource": resource, "verb": verb, "subresource": sub}
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }


def parse_permissions(answer: Answer) -> dict[str, Any]:
    """What may not be done, as `VERB RESOURCE`, and in which namespace; or why nobody knows."""
    lines = [line.split() for line in answer.output.splitlines()]
    if answer.status != 0 or not lines or any(len(words) != 4 for words in lines):
        return {"problem": _last(answer)}
    lacking = [f"{verb} {resource}" for allowed, _, verb, resource in lines if allowed != "true"]
    return {"lacking": lacking, "namespace": lines[0][1]}


def parse_admission(answer: Answer) -> dict[str, Any]:
    """Whether a pod would be created, and what was said."""
    warnings = [line.removeprefix("Warning: ") for line in answer.error.splitlines() if line.startswith("Warning: ")]
    return {"admitted": answer.status == 0, "said": warnings[0] if answer.status == 0 and warnings else _last(answer)}


def parse_nodes(answer: Answer) -> dict[str, Any]:
    """How many nodes there are and can be used, and the GPUs of each kind; or why nobody knows."""
    if answer.status != 0:
        return {"problem": _last(answer)}
    ready, every, devices = 0, 0, dict[str, int]()
    for line in answer.output.splitlines():
        state, *amounts = line.split() or [""]
        every += state in ("yes", "no")
        if state != "yes":
            continue
        ready += 1
        for name, _, amount in (each.partition("=") for each in amounts):
            if name.endswith("/gpu") and amount.isdecimal() and int(amount):
                devices[name] = devices.get(name, 0) + int(amount)
    return {"ready": ready, "all": every, "gpus": devices}


def parse_claim(answer: Answer) -> dict[str, Any]:
    """The state of the claim; or why nobody knows."""
    return {"phase": answer.output.strip()} if answer.status == 0 else {"problem": _last(answer)}


def parse_quotas(answer: Answer) -> dict[str, Any]:
    """Every quota of the namespace, each with what is used; or why nobody knows."""
    if answer.status != 0:
        return {"problem": _last(answer)}
    lines = (line.split() for line in answer.output.splitlines())
    named = ("quota", "what", "used", "hard")
    return {"quotas": [dict(zip(named, words, strict=True)) for words in lines if len(words) == len(named)]}


def kubernetes(reason: tuple[str, str] | None, host: Host, context: str | None) -> tuple[Check, ...]:
    """The cluster, in the order in which a job would meet it. `reason`: why it cannot be used."""
    found = host.get("kubernetes") or {}
    if reason:
        return (no("engine" if found.get("problem") == "missing" else "cluster", *reason, stops=_STOPS),)
    rights = host.get("permissions") or {}
    named = f", namespace `{rights['namespace']}`" if rights.get("namespace") else ""
    return (
        yes(
            "cluster", f"Kubernetes {found.get('version')} answers{f', context `{context}`' if context else ''}{named}"
        ),
        _permissions(rights),
        _admission(host.get("admission") or {}),
        *_quotas(host.get("quotas") or {}),
        _nodes(host.get("nodes") or {}),
        _gpus(host.get("nodes") or {}),
    )


def claimed(claim: str | None, host: Host) -> tuple[Check, ...]:
    """Whether the claim that the platform names is there."""
    found = host.get("claim")
    if claim is None or found is None:
        return ()
    mend = "see `kubectl get persistentvolumeclaims`, and correct `claim` of the platform"
    match found:
        case {"phase": "Bound"}:
            return (yes("claim", f"`{claim}` is bound to a volume"),)
        case {"phase": "Lost"}:
            return (no("claim", f"`{claim}` has lost its volume", mend, stops=_STOPS),)
        case {"phase": phase}:
            return (yes("claim", f"`{claim}` gets its volume with the first pod ({phase})"),)
        case {"problem": problem} if "NotFound" in problem:
            return (no("claim", f"there is no claim `{claim}`", mend, stops=_STOPS),)
    return (not_asked("claim", f"the cluster does not say: {found.get('problem')}"),)


def pushing(registry: str | None, lacking: tuple[str, str] | None) -> Check:
    """Whether images that are made here reach the cluster. `lacking`: why Docker cannot be used."""
    if registry is None:
        return no(
            "image sources", "images that are made here do not reach the cluster", "set `registry` of the platform"
        )
    if lacking:
        return no("image sources", f"no image can be made here and pushed: {lacking[0]}", lacking[1])
    return yes("image sources", f"Docker makes them and pushes them to `{registry}`")


def _permissions(found: dict[str, Any]) -> Check:
    if "lacking" not in found:
        return not_asked("permissions", f"the cluster does not say: {found.get('problem') or 'no answer'}")
    lacking = found["lacking"]
    if not lacking:
        return yes("permissions", f"all {len(RIGHTS)} that a run needs")
    listed = ", ".join(f"`{each}`" for each in lacking)
    mend = "an administrator gives them: docs/how-to/kubernetes-for-administrators.md has the role as a manifest"
    effects = [_MAY_LACK.get(each) or _MAY_LACK.get(each.partition(" ")[2]) for each in lacking]
    if all(effects):
        told = "; ".join(effect for effect in dict.fromkeys(effects) if effect)
        return no("permissions", f"you may not {listed}: {told}", mend)
    return no("permissions", f"you may not {listed}", mend, stops=_STOPS)


def _admission(found: dict[str, Any]) -> Check:
    said = str(found.get("said", ""))
    if found.get("admitted"):
        warned = f" (the cluster warns: {said})" if said and not said.startswith("pod/") else ""
        return yes("admission", f"a pod of this platform would be admitted{warned}")
    if not found or "cannot create resource" in said:
        return not_asked("admission", "you may create jobs, not pods: what the cluster admits shows with the first run")
    mend = (
        "correct the platform, or ask the administrators; what pods need: docs/how-to/kubernetes-for-administrators.md"
    )
    return no("admission", f"a pod of this platform would not be admitted: {said}", mend, stops=_STOPS)


def _quotas(found: dict[str, Any]) -> tuple[Check, ...]:
    if "quotas" not in found:
        return (not_asked("quotas", f"the cluster does not say: {found.get('problem') or 'no answer'}"),)
    if not found["quotas"]:
        return (yes("quotas", "the namespace has none"),)
    full = [each for each in found["quotas"] if _amount(each["used"]) >= _amount(each["hard"]) > -1]
    if full:
        listed = ", ".join(f"`{each['what']}` of `{each['quota']}` ({each['used']} of {each['hard']})" for each in full)
        return (no("quotas", f"used up: {listed}", "wait for others to end, or ask the administrators for more"),)
    listed = ", ".join(f"{each['what']} {each['used']} of {each['hard']}" for each in found["quotas"])
    asked = [
        each["what"] for each in found["quotas"] if each["what"].startswith(("requests.", "limits.", "cpu", "memory"))
    ]
    must = "; tasks must say what they need of it: `resources`" if asked else ""
    return (yes("quotas", f"there is room ({listed}){must}"),)


def _amount(text: str) -> float:
    """A quantity of Kubernetes as a number; -1 for what is none."""
    factors = {"m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
    factors |= {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50}
    digits = text.rstrip("KMGTPEikm")
    try:
        return float(digits) * factors.get(text[len(digits) :], 1.0)
    except ValueError:
        return -1


def _nodes(found: dict[str, Any]) -> Check:
    if "all" not in found:
        return not_asked("nodes", "you may not list them: whether one has room shows with the first run")
    if not found["ready"]:
        return no("nodes", f"none of {found['all']} takes pods now", "see why: `kubectl describe nodes`")
    return yes("nodes", f"{found['ready']} of {found['all']} take pods")


def _gpus(found: dict[str, Any]) -> Check:
    if "gpus" not in found:
        return not_asked("gpus", "you may not list the nodes")
    if not found["gpus"]:
        return no("gpus", "no node offers any", "run without: `--gpus 0`; else the cluster needs a device plugin")
    return yes("gpus", ", ".join(f"{count} {name}" for name, count in found["gpus"].items()))


def _last(answer: Answer) -> str:
    lines = [line for line in (answer.error.strip() or answer.output.strip()).splitlines() if line]
    return lines[-1].removeprefix("Error from server ") if lines else f"status {answer.status}"
