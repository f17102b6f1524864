"""Kubernetes: a job of a plain cluster, through `kubectl`, so that contexts and logins are the user's own."""

import os.path
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec

from mlcube.cube import Resources
from mlcube.errors import Refused
from mlcube.invocation import Invocation
from mlcube.plan import Command, Diagnosis, Job, Plan, SecretText, Step, Unless, WriteFile, command
from mlcube.runner import Answer, Fact, Host, Runner, find
from mlcube_runners._caller import caller_fact
from mlcube_runners._connection import packing
from mlcube_runners._kubernetes_claim import stage_beside
from mlcube_runners._kubernetes_host import cluster_fact, unusable
from mlcube_runners._kubernetes_job import LOST_STATUS, job_script
from mlcube_runners._kubernetes_manifest import NOBODY, Pod, job_name, labels, manifest, sample, secret_names
from mlcube_runners._kubernetes_needs import refusal
from mlcube_runners._kubernetes_ranks import ranks_problem
from mlcube_runners._kubernetes_registry import PLACEHOLDER, built_here, push, pushed_name, without_registry
from mlcube_runners._staging import Parcel, Staging

if TYPE_CHECKING:
    from mlcube.checking import Check

__all__ = ["KubernetesRunner"]

_EMPTY = '[ -d "$1" ] && [ -z "$(ls -A "$1")" ]'
_NONE_THERE = 'for path do [ ! -e "$path" ] || exit 1; done'
_HINT = "see what there is: `kubectl get events`, and which images, quotas and nodes"

_WAITING = {
    "create": "the cluster to take the job",
    "receive": "the pod to start, so that it can be sent what the task reads",
    "send": "what the task reads to reach the pod",
    "start": "the task to begin in its pod",
    "fetch": "what the task wrote to come back from the pod",
}
"""What the user waits for, by the step."""


class KubernetesRunner(msgspec.Struct, frozen=True, kw_only=True):
    """Runs tasks as jobs of a Kubernetes cluster. What they read is sent there, and what they write comes back."""

    requires: ClassVar[tuple[str, ...]] = ("kubectl",)

    kubeconfig: Annotated[str | None, msgspec.Meta(description="A configuration file. Else as `kubectl` finds it.")] = (
        None
    )
    context: Annotated[str | None, msgspec.Meta(description="The context of it. Else the current one.")] = None
    namespace: Annotated[str | None, msgspec.Meta(description="The namespace. Else the context's.")] = None
    registry: Annotated[
        str | None,
        msgspec.Meta(
            description="Where images that are made here are pushed by Docker, as in `registry.example.org/me`."
        ),
    ] = None
    staging_image: Annotated[
        str | None,
        msgspec.Meta(
            description="An image with `sh`, `tar`, `find`, `cksum` and `dd`, where cubes have none. Else the cube's."
        ),
    ] = None
    claim: Annotated[
        str | None, msgspec.Meta(description="A volume claim of the namespace whose files are used in place.")
    ] = None
    claim_at: Annotated[
        str | None,
        msgspec.Meta(description="The directory here that shows the claim's top. What lies elsewhere is still sent."),
    ] = None
    node_selector: Annotated[Mapping[str, str], msgspec.Meta(description="Labels of the nodes that may be taken.")] = (
        msgspec.field(default_factory=dict)
    )
    tolerations: Annotated[
        tuple[Mapping[str, Any], ...], msgspec.Meta(description="Tolerations, in the cluster's own words.")
    ] = ()
    priority_class: Annotated[str | None, msgspec.Meta(description="The priority class.")] = None
    service_account: Annotated[
        str | None, msgspec.Meta(description="The service account. Else the namespace's default.")
    ] = None
    service_account_token: Annotated[
        bool, msgspec.Meta(description="Whether the task gets the service account's token.")
    ] = False
    pull_secrets: Annotated[
        tuple[str, ...], msgspec.Meta(description="Secrets of the namespace with which images are pulled.")
    ] = ()
    patience: Annotated[
        int, msgspec.Meta(description="For how many seconds no node need have room for the task.", ge=0)
    ] = 10
    start_limit: Annotated[
        int, msgspec.Meta(description="Within how many seconds the pod must start, images pulled.", ge=1)
    ] = 3600

    def facts(self) -> tuple[Fact, ...]:
        """Who calls, which cluster answers, and what Docker can do if it is to push images."""
        own = self._builder.facts() if self.registry else (caller_fact(),)
        return (cluster_fact(self._kubectl, self.kubeconfig), *own)

    def unusable(self, host: Host) -> tuple[str, str] | None:
        """There is no `kubectl`, or no cluster answers."""
        return unusable(host)

    def refuses(self, invocation: Invocation, host: Host) -> tuple[str, str] | None:
        """What no cluster can honour, and images that this one cannot reach."""
        if reason := refusal(invocation, host):
            return reason
        if (self.claim is None) != (self.claim_at is None) or not (self.claim_at or "/").startswith("/"):
            return (
                "the platform must say which claim is used, and the directory here that shows it",
                "set both: `claim: NAME, claim_at: /absolute/path`",
            )
        if reason := ranks_problem(invocation, stage_beside(invocation, self.claim_at), host):
            return reason
        if invocation.user == "image" and self.staging_image:
            return (
                "what is sent by the user of `staging_image` is not that of the image's user",
                "leave `staging_image` out, or `user: image`",
            )
        if self.registry is None:
            return without_registry(invocation)
        if built_here(invocation):
            return self._builder.unusable(host) or self._builder.refuses(_only_image(invocation), host)
        return None

    def prepare(self, invocation: Invocation, host: Host) -> Plan:
        """Make and push the image if it is made here; every other one the cluster pulls."""
        return self._prepared(invocation, host, anew=False)

    def configure(self, invocation: Invocation, host: Host) -> Plan:
        """The same on the user's demand."""
        return self._prepared(invocation, host, anew=True)

    def run(self, invocation: Invocation, host: Host) -> Plan:
        """Create the job, send what it reads, follow it, bring back what it wrote, and remove it."""
        if reason := self.refuses(invocation, host):
            raise Refused(reason[0], hint=reason[1])
        staging, directory = stage_beside(invocation, self.claim_at), f"{invocation.scratch}.job"
        job = f"{directory}/job"
        pod = self._pod(invocation, staging, host)
        back = tuple(each for each in staging.parcels if each.back is not None)
        secrets = tuple(zip(invocation.secrets, secret_names(invocation), strict=True))
        owned = [f"secret/{held}" for _, held in secrets]
        if pod.ranks > 1:
            owned.append(f"service/{job_name(invocation)}")
        own = (self._step(job, "own", *owned),) if owned else ()
        fetched: tuple[Step, ...] = tuple(
            msgspec.structs.replace(
                self._step(job, "fetch", str(number), each.source), transient=(LOST_STATUS,), patient=True
            )
            for number, each in enumerate(back)
        )
        remove = command("sh", "-c", 'sh "$1/job" remove && rm -rf -- "$1"', "sh", directory, quiet=True)
        remove = msgspec.structs.replace(remove, waiting="the cluster to remove the job")
        return Plan(
            steps=(
                command("mkdir", "-p", "-m", "700", "--", directory),
                WriteFile(path=job, text=self._script(invocation, pod, staging)),
                WriteFile(path=f"{directory}/manifest.json", text=manifest(staging.invocation, staging, pod)),
                *(
                    msgspec.structs.replace(self._step(job, "secret", held), input=SecretText(secret.name))
                    for secret, held in secrets
                ),
                self._step(job, "create"),
                *own,
                self._step(job, "receive"),
                *(self._sent(number, each, job) for number, each in enumerate(staging.parcels)),
            ),
            task=Job(
                start=self._step(job, "start"),
                follow=command("sh", job, "follow"),
                status=command("sh", job, "status"),
                lost=(LOST_STATUS,),
            ),
            after=fetched,
            diagnoses=tuple(_endings(invocation, directory)),
            otherwise=fetched,
            always=(msgspec.structs.replace(remove, transient=(LOST_STATUS,)),),
            stop=command("sh", job, "stop", quiet=True),
            kill=command("sh", job, "kill", quiet=True),
            elsewhere=f"{self.context or 'the cluster'}, job {job_name(invocation)}",
        )

    def identify(self, invocation: Invocation, host: Host) -> Fact | None:
        """Which image it is: the one that was made here, or what the cluster says while the job is there."""
        if self.registry and built_here(invocation):
            return self._builder.identify(invocation, host)
        which = 'jsonpath={.items[0].status.containerStatuses[?(@.name=="task")].imageID}'
        pods = (*self._kubectl, "get", "pods", f"--selector=job-name={job_name(invocation)}", f"--output={which}")
        return Fact(name="image", argv=pods, parse=_parse_identity)

    def questions(self) -> tuple[Fact, ...]:
        """What the user may do in the cluster, whether it admits a pod of this platform, and what it has."""
        from mlcube_runners._checks_kubernetes import kubernetes_questions

        pod = sample(self._with_options(Pod(image="cube-doctor", user=NOBODY, group=NOBODY)))
        return kubernetes_questions(self._kubectl, self.namespace, pod, self.claim)

    def checks(self, host: Host) -> "tuple[Check, ...]":
        """The cluster, and whether images that are made here could be pushed."""
        from mlcube_runners._checks_kubernetes import claimed, kubernetes, pushing

        lacking = self._builder.unusable(host) if self.registry else None
        return (
            *kubernetes(self.unusable(host), host, self.context),
            *claimed(self.claim, host),
            pushing(self.registry, lacking),
        )

    def sources(self, invocation: Invocation, host: Host) -> tuple[Fact, ...]:
        """As for Docker if it makes and pushes the image; else the nodes pull, and only they could tell."""
        from mlcube.checking import Checking

        if not (self.registry and built_here(invocation)):
            return ()
        builder = self._builder
        return builder.sources(invocation, host) if isinstance(builder, Checking) else ()

    @property
    def _kubectl(self) -> tuple[str, ...]:
        named = {"kubeconfig": self.kubeconfig, "context": self.context, "namespace": self.namespace}
        return ("kubectl", *(f"--{name}={value}" for name, value in named.items() if value))

    @property
    def _builder(self) -> Runner:
        return find("docker")()

    def _prepared(self, invocation: Invocation, host: Host, *, anew: bool) -> Plan:
        if reason := self.refuses(invocation, host):
            raise Refused(reason[0], hint=reason[1])
        if not (self.registry and built_here(invocation)):
            return Plan()
        make = self._builder.configure if anew else self._builder.prepare
        plan = make(invocation, host)
        return msgspec.structs.replace(plan, steps=(*plan.steps, *push(invocation, self.registry, anew=anew)))

    def _pod(self, invocation: Invocation, staging: Staging, host: Host) -> Pod:
        caller = host["caller"]
        root, own = caller["user"] == 0, invocation.user == "image"
        assert invocation.image is not None  # noqa: S101 - it would have been refused
        pod = Pod(
            image=PLACEHOLDER if self.registry and built_here(invocation) else invocation.image,
            staging_image=self.staging_image,
            user=None if own else NOBODY if root else caller["user"],
            group=None if own else NOBODY if root else caller["group"],
            packings=tuple(packing(each) for each in staging.parcels if each.back is not None),
            claim=self.claim,
            ranks=invocation.resources.nodes or 1,
        )
        return self._with_options(pod)

    def _with_options(self, pod: Pod) -> Pod:
        """As the platform places it."""
        return msgspec.structs.replace(
            pod,
            node_selector=self.node_selector,
            tolerations=self.tolerations,
            priority_class=self.priority_class,
            service_account=self.service_account,
            service_account_token=self.service_account_token,
            pull_secrets=self.pull_secrets,
        )

    def _script(self, invocation: Invocation, pod: Pod, staging: Staging) -> str:
        built = self.registry and built_here(invocation)
        return job_script(
            kubectl=self._kubectl,
            job=job_name(invocation),
            selector=f"app.kubernetes.io/instance={invocation.run_id}",
            labels=tuple(f"{name}={value}" for name, value in labels(invocation).items()),
            secrets=secret_names(invocation),
            wrapped=pod.wrapped and bool(invocation.entrypoint),
            sends=bool(staging.parcels),
            local_image=pushed_name(invocation, self.registry) if built and self.registry else None,
            patience_seconds=self.patience,
            longest_seconds=self.start_limit,
            ranks=pod.ranks,
        )

    def _step(self, job: str, *words: str) -> Command:
        return Command(argv=("sh", job, *words), quiet=True, hint=_HINT, waiting=_WAITING.get(words[0]))

    def _sent(self, number: int, parcel: Parcel, job: str) -> Step:
        """Nothing is started for what is empty, as the directories of outputs mostly are."""
        if parcel.names:
            paths = (os.path.join(parcel.source, name) for name in parcel.names)
            probe = command("sh", "-c", _NONE_THERE, "sh", *paths)
        else:
            probe = command("sh", "-c", _EMPTY, "sh", parcel.source)
        words = (str(number), parcel.target, parcel.source, "-h" if parcel.follow else "", *parcel.names)
        send = msgspec.structs.replace(self._step(job, "send", *words), transient=(LOST_STATUS,))
        return Unless(probe=probe, steps=(send,))


def _only_image(invocation: Invocation) -> Invocation:
    """What concerns whoever makes the image, and not whoever runs the task."""
    replace = msgspec.structs.replace
    return replace(invocation, resources=Resources(), network=None, security=(), raw_arguments={})


def _endings(invocation: Invocation, directory: str) -> Iterator[Diagnosis]:
    """What the cluster itself ends a task for."""
    memory = invocation.resources.memory_bytes
    limit = f", {memory / (1 << 20):.6g} MiB" if memory else " of the node or the namespace"
    for state, message, hint, status in (
        (
            "OOMKilled",
            f"the task needed more memory than its limit{limit}",
            "give it more: `--memory`, or `resources: {memory: ...}` of the task",
            None,
        ),
        ("DeadlineExceeded", "the cluster stopped the task after its deadline", "see `kubectl get limitranges`", 124),
        ("Evicted|Preempt.*", "the pod had to make way", "say what it needs, as `--memory`; then run it again", 75),
        ("NodeLost|NodeShutdown|Shutdown|Terminated", "the node failed, or was shut down", "run it again", 69),
        ("Gone", "somebody removed the pod", "see who did: `kubectl get events`", None),
    ):
        probe = command("grep", "-E", "-x", state, f"{directory}/state")
        yield Diagnosis(probe=probe, message=message, hint=hint, status=status)


def _parse_identity(answer: Answer) -> dict[str, object] | None:
    """Out of `docker-pullable://name@sha256:...`, or of an id."""
    name, _, digest = answer.output.strip().rpartition("sha256:")
    if answer.status != 0 or not digest:
        return None
    known = name.rpartition("://")[2]
    return {"id": f"sha256:{digest}", "digests": [f"{known}sha256:{digest}"] if known else []}
