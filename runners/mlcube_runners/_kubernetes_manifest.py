"""The job of a run as the cluster is told it: one pod that receives, runs the task, and keeps what it wrote."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from mlcube.invocation import Invocation
from mlcube_runners._container import command_words
from mlcube_runners._kubernetes_claim import within_claim
from mlcube_runners._kubernetes_far import FAR, PLACE, STREAMS
from mlcube_runners._kubernetes_needs import limits, volume_of_shared_memory
from mlcube_runners._kubernetes_ranks import PORT
from mlcube_runners._ranks import rank_environment
from mlcube_runners._staging import Staging

__all__ = ["NOBODY", "Pod", "job_name", "labels", "manifest", "sample", "secret_names"]

NOBODY = 65534
"""Who the task of root is: a cluster that holds pods to the restricted standard admits no root."""

_BEGIN = (
    f"echo $$ >{STREAMS}/process; [ ! -p {STREAMS}/alive ] || command exec 9<>{STREAMS}/alive; "
    f'exec "$@" >>{STREAMS}/stdout 2>>{STREAMS}/stderr'
)
_SECONDS_KEPT = 3600
"""How long a job is seen in the cluster once it has ended, if nobody removes it."""

_RANK = "rank"
"""Stands for the number that only the cluster gives a pod."""
_INDEX = {"fieldRef": {"fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"}}

_RESTRICTED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


class Pod(msgspec.Struct, frozen=True, kw_only=True):
    """What the platform says of every pod."""

    image: str
    staging_image: str | None = None
    user: int | None
    """None: the image's own."""
    group: int | None
    packings: tuple[str, ...] = ()
    """Shell that prints an archive, for each parcel that comes back."""
    node_selector: Mapping[str, str] = msgspec.field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    priority_class: str | None = None
    service_account: str | None = None
    service_account_token: bool = False
    pull_secrets: tuple[str, ...] = ()
    claim: str | None = None
    ranks: int = 1
    """How many pods the task has."""

    @property
    def wrapped(self) -> bool:
        """Whether the task's output is kept apart from its errors: its image has a shell, as far as is known."""
        return self.staging_image is None and self.ranks == 1


def job_name(invocation: Invocation) -> str:
    """The name of the job."""
    return f"cube-{invocation.run_id}"


def secret_names(invocation: Invocation) -> tuple[str, ...]:
    """The names of the objects that hold the secrets, in their order."""
    return tuple(f"{job_name(invocation)}-{number}" for number in range(len(invocation.secrets)))


def labels(invocation: Invocation) -> dict[str, str]:
    """By what the objects of a run are found, and recognised by others."""
    return {
        "app.kubernetes.io/name": _label(invocation.cube),
        "app.kubernetes.io/instance": invocation.run_id,
        "app.kubernetes.io/component": _label(invocation.task),
        "app.kubernetes.io/managed-by": "cube",
    }


def manifest(invocation: Invocation, staging: Staging, pod: Pod) -> str:
    """The job; JSON, which every YAML is. The invocation's paths are those of the pod."""
    marks = labels(invocation)
    named = {"name": job_name(invocation), "labels": marks}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": named,
        "spec": {
            "backoffLimit": 0,
            "completions": pod.ranks,
            "parallelism": pod.ranks,
            **({"completionMode": "Indexed"} if pod.ranks > 1 else {}),
            "ttlSecondsAfterFinished": _SECONDS_KEPT,
            "template": {"metadata": {"labels": marks}, "spec": _pod(invocation, staging, pod)},
        },
    }
    whole: dict[str, Any] = job
    if pod.ranks > 1:
        # A name for each pod, also before it is ready: the ranks look for the first one at once.
        addressed = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": _of_run(invocation)}
        service = {"apiVersion": "v1", "kind": "Service", "metadata": named, "spec": addressed}
        whole = {"apiVersion": "v1", "kind": "List", "items": [service, job]}
    return msgspec.json.format(msgspec.json.encode(whole), indent=2).decode() + "\n"


def sample(pod: Pod) -> dict[str, Any]:
    """A pod with all that the platform says and no task, to ask the cluster whether it would be admitted."""
    container = {"name": "task", "image": pod.image, "securityContext": _RESTRICTED}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "cube-doctor-", "labels": {"app.kubernetes.io/managed-by": "cube"}},
        "spec": {**_placement(pod), "containers": [container]},
    }


def _pod(invocation: Invocation, staging: Staging, pod: Pod) -> dict[str, Any]:
    return {
        **_placement(pod),
        "shareProcessNamespace": True,  # so that the task can be told to end, and is not process 1
        "initContainers": [
            _own(
                "receive",
                pod,
                ("receive", *_folders(invocation, staging), "--", *(("all",) if staging.parcels else ())),
            )
        ],
        "containers": [_task(invocation, pod), *_collectors(pod)],
        "volumes": list(_volumes(invocation, pod)),
        **(_apart(invocation) if pod.ranks > 1 else {}),
    }


def _collectors(pod: Pod) -> Iterator[dict[str, Any]]:
    """What stays with the task, unless everything that it writes lies on a claim."""
    if pod.ranks == 1:
        yield _own("collect", pod, ("collect", *pod.packings))


def _apart(invocation: Invocation) -> dict[str, Any]:
    """Each rank on a node of its own, where the others find it by its name."""
    others = {"labelSelector": {"matchLabels": _of_run(invocation)}, "topologyKey": "kubernetes.io/hostname"}
    return {
        "subdomain": job_name(invocation),
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [others]}},
    }


def _of_run(invocation: Invocation) -> dict[str, str]:
    return {"app.kubernetes.io/instance": invocation.run_id}


def _placement(pod: Pod) -> dict[str, Any]:
    """What is the same for every pod of a platform."""
    who = {} if pod.user is None else {"runAsUser": pod.user, "runAsGroup": pod.group}
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 10,
        "enableServiceLinks": False,
        "automountServiceAccountToken": pod.service_account_token,
        "securityContext": {"runAsNonRoot": True, **who, "seccompProfile": {"type": "RuntimeDefault"}},
    }
    named = {"serviceAccountName": pod.service_account, "priorityClassName": pod.priority_class}
    spec |= {name: value for name, value in named.items() if value}
    if pod.node_selector:
        spec["nodeSelector"] = dict(pod.node_selector)
    if pod.tolerations:
        spec["tolerations"] = [dict(each) for each in pod.tolerations]
    if pod.pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in pod.pull_secrets]
    return spec


def _own(name: str, pod: Pod, words: tuple[str, ...]) -> dict[str, Any]:
    """A container of cube's own, beside the task's."""
    return {
        "name": name,
        "image": pod.staging_image or pod.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", _literal('eval "$CUBE_FAR"'), "far", *map(_literal, words)],
        "workingDir": "/",
        "env": [{"name": "CUBE_FAR", "value": _literal(FAR)}],
        "securityContext": _RESTRICTED,
        "volumeMounts": [{"name": "run", "mountPath": PLACE}],
    }


def _task(invocation: Invocation, pod: Pod) -> dict[str, Any]:
    words = [_literal(word) for word in command_words(invocation)]
    container: dict[str, Any] = {"name": "task", "image": pod.image, "imagePullPolicy": "IfNotPresent"}
    if invocation.entrypoint:
        first = _literal(invocation.entrypoint[0])
        wrapper = ["sh", "-c", _literal(_BEGIN), "sh"] if pod.wrapped else []
        container["command"] = [*wrapper, first, *words] if wrapper else [first]
        words = [] if wrapper else words
    if words:
        container["args"] = words
    if invocation.directory is not None:
        container["workingDir"] = invocation.directory
    container["env"] = list(_environment(invocation, pod.ranks))
    if found := limits(invocation):
        container["resources"] = {"requests": found, "limits": found}
    container["securityContext"] = _RESTRICTED
    container["volumeMounts"] = list(_mounts(invocation, pod))
    return container


def _environment(invocation: Invocation, ranks: int) -> Iterator[dict[str, Any]]:
    told = _told_to_ranks(invocation, ranks) if ranks > 1 else {}
    for name, value in invocation.task_environment().items():
        if name not in told:
            yield {"name": name, "value": _literal(str(value))}
    for name, text in told.items():
        yield {"name": name, **({"valueFrom": _INDEX} if text == _RANK else {"value": text})}
    for secret, held in zip(invocation.secrets, secret_names(invocation), strict=True):
        if secret.mount is None:
            yield {"name": secret.name, "valueFrom": {"secretKeyRef": {"name": held, "key": "value"}}}


def _told_to_ranks(invocation: Invocation, ranks: int) -> dict[str, str]:
    job = job_name(invocation)
    told = rank_environment(ranks, rank=_RANK, address=f"{job}-0.{job}", port=PORT)
    return {name: str(value) for name, value in told.items()}


def _mounts(invocation: Invocation, pod: Pod) -> Iterator[dict[str, Any]]:
    yield {"name": "run", "mountPath": "/tmp", "subPath": _within(invocation.scratch)}  # noqa: S108 - of the container
    if pod.wrapped and invocation.entrypoint:
        yield {"name": "run", "mountPath": STREAMS, "subPath": "streams"}
    for mount in invocation.mounts:
        read_only = {"readOnly": True} if mount.access == "ro" else {}
        place = within_claim(mount.source)
        if place is None:
            yield {"name": "run", "mountPath": mount.target, "subPath": _within(mount.source), **read_only}
        else:
            below = {"subPath": place} if place else {}
            yield {"name": "claim", "mountPath": mount.target, **below, **read_only}
    for number, secret in enumerate(invocation.secrets):
        if secret.mount is not None:
            name = f"secret-{number}"
            yield {"name": name, "mountPath": secret.mount, "subPath": "value", "readOnly": True}
    if invocation.resources.shared_memory_bytes is not None:
        yield {"name": "shared-memory", "mountPath": "/dev/shm"}  # noqa: S108 - a place in the container


def _volumes(invocation: Invocation, pod: Pod) -> Iterator[dict[str, Any]]:
    yield {"name": "run", "emptyDir": {}}
    for number, (secret, held) in enumerate(zip(invocation.secrets, secret_names(invocation), strict=True)):
        if secret.mount is not None:
            yield {"name": f"secret-{number}", "secret": {"secretName": held, "defaultMode": 0o444}}
    if volume := volume_of_shared_memory(invocation):
        yield volume
    if pod.claim and any(within_claim(mount.source) is not None for mount in invocation.mounts):
        yield {"name": "claim", "persistentVolumeClaim": {"claimName": pod.claim}}


def _folders(invocation: Invocation, staging: Staging) -> tuple[str, ...]:
    """What must be there before anything comes, and where the task writes although nothing is sent."""
    own = ("control", "streams", _within(f"{invocation.scratch}/home"))
    staged = (each.staged.rpartition("/")[0] for each in invocation.parameters if each.staged)
    return tuple(dict.fromkeys((*own, *(_within(path) for path in (*_targets(staging), *staged)))))


def _targets(staging: Staging) -> tuple[str, ...]:
    return tuple(parcel.target for parcel in staging.parcels)


def _within(path: str) -> str:
    """A place on the volume, from its top."""
    return path.removeprefix(f"{PLACE}/")


def _literal(text: str) -> str:
    """As it is: the cluster would put the values of variables for `$(NAME)`.

    >>> _literal("$(id) $")
    '$$(id) $$'
    """
    return text.replace("$", "$$")


def _label(text: str) -> str:
    """As a label may be: 63 characters, letters and digits at its ends.

    >>> _label("a cube, it's")
    'a-cube--it-s'
    """
    plain = re.sub(r"[^A-Za-z0-9._-]", "-", text)[:63]
    return plain.strip("-._") or "cube"
