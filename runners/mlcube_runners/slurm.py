"""Slurm: another runner's plan, as the body of a batch job."""

import math
import re
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec

from mlcube.cube import Resources
from mlcube.errors import Refused
from mlcube.invocation import Invocation
from mlcube.job import JOB, task_script, write_secrets
from mlcube.plan import Command, Diagnosis, Job, Plan, Step, WriteFile, command
from mlcube.runner import Answer, Fact, Host, Runner, Transfer, Transferring, chain
from mlcube_runners._slurm_job import SCHEDULER
from mlcube_runners._slurm_ranks import diagnoses_of_ranks, files_of_ranks, for_ranks

if TYPE_CHECKING:
    from mlcube.checking import Check

__all__ = ["SlurmRunner"]

_MINIMUM_MEMORY = 6 << 20
"""What the batch shell and an engine need themselves; Slurm takes anything."""

_TIME = re.compile(r"(?i:infinite|unlimited)|\d+(:\d+(:\d+)?)?|\d+-\d+(:\d+(:\d+)?)?")

_MODULES = "command -v module >/dev/null || [ ! -r /etc/profile ] || . /etc/profile"
"""A shell that is no login shell may not know `module` yet."""


class SlurmRunner(msgspec.Struct, frozen=True, kw_only=True):
    """Runs tasks as batch jobs of Slurm, in what another platform calls its containers or environments."""

    requires: ClassVar[tuple[str, ...]] = ("sbatch", "squeue", "scancel", "scontrol")

    inner: Annotated[Runner, msgspec.Meta(description="The platform that runs the task on its node.")]
    partition: Annotated[str | None, msgspec.Meta(description="The partition. Else the cluster's default.")] = None
    account: Annotated[str | None, msgspec.Meta(description="Who is charged.")] = None
    qos: Annotated[str | None, msgspec.Meta(description="The quality of service.")] = None
    time: Annotated[str | None, msgspec.Meta(description="The job's time limit in Slurm's words: `\"4:00:00\"`.")] = (
        None
    )
    nodes: Annotated[
        int | None,
        msgspec.Meta(description="How many nodes a job gets; a task that asks for none itself starts on the first."),
    ] = None
    gres: Annotated[str | None, msgspec.Meta(description="Generic resources, as in `gpu:a100`.")] = None
    modules: Annotated[
        tuple[str, ...], msgspec.Meta(description="Environment modules to load before the task, as in `[apptainer]`.")
    ] = ()
    before: Annotated[
        tuple[str, ...], msgspec.Meta(description="Lines of shell to perform on the node before the task.")
    ] = ()
    root: Annotated[
        str | None,
        msgspec.Meta(
            description="A directory that the nodes see too, for what belongs to runs. Else with the records."
        ),
    ] = None

    def __post_init__(self) -> None:
        """The task starts on the node itself, and its time is one that sbatch understands."""
        if any({"ssh", "sbatch"} & set(inner.requires) for inner in chain(self.inner)):
            raise ValueError("`inner` of runner `slurm` must run tasks on its node: put `slurm` into `ssh`")
        if self.time is not None and not _TIME.fullmatch(self.time):
            raise ValueError(f"`{self.time}` is no time of Slurm's: write `HOURS:MINUTES:SECONDS` or `DAYS-HOURS`")

    def facts(self) -> tuple[Fact, ...]:
        """What the inner runner must know, and which limits Slurm enforces here."""
        return *self.inner.facts(), _CONFIGURATION, _NODES

    def unusable(self, host: Host) -> tuple[str, str] | None:
        """There is no Slurm, it does not answer, or the inner runner cannot be used."""
        slurm = host.get("slurm") or {}
        match slurm.get("problem"):
            case "missing":
                hint = "use it where jobs are submitted: `{runner: ssh, host: LOGIN-NODE, inner: PLATFORM}`"
                return "Slurm's commands are not installed here", hint
            case str(said):
                return f"Slurm does not answer: {said}", "see what `sinfo` says"
        return self.inner.unusable(host)

    def refuses(self, invocation: Invocation, host: Host) -> tuple[str, str] | None:
        """What neither Slurm nor the inner runner can honour."""
        return (
            self._nodes_problem(invocation)
            or _gpu_problem(invocation, host)
            or _memory_problem(invocation, host)
            or self.inner.refuses(self._inside(invocation, host), host)
        )

    def prepare(self, invocation: Invocation, host: Host) -> Plan:
        """As the inner runner does; here, because nodes often have no network."""
        return self.inner.prepare(invocation, host)

    def configure(self, invocation: Invocation, host: Host) -> Plan:
        """The same on the user's demand."""
        return self.inner.configure(invocation, host)

    def run(self, invocation: Invocation, host: Host) -> Plan:
        """Submit, follow, and tell how Slurm calls the end."""
        if refusal := self.refuses(invocation, host):
            raise Refused(refusal[0], hint=refusal[1])
        directory = self._directory(invocation)
        inside, nodes = self._inside(invocation, host), invocation.resources.nodes
        ranked = for_ranks(inside, nodes, directory) if nodes else inside
        inner = self.inner.run(ranked, host)
        job = f"{directory}/job"
        limit = invocation.resources.timeout_seconds
        files = {
            "job": JOB,
            "scheduler": SCHEDULER,
            "name": f"cube-{invocation.run_id}",
            "cluster": str((host.get("slurm") or {}).get("cluster") or ""),
            "batch": self._batch(directory),
            "submit": self._submit(invocation, directory),
            **({"limit": f"{limit:f}".rstrip("0").rstrip(".") + "\n"} if limit else {}),
        }
        if nodes:
            files |= files_of_ranks(inside, ranked, inner, directory, cpus=invocation.resources.cpus)
        else:
            files["task"] = task_script(inner, directory, inside)
            files |= {"kill": inner.kill.script()} if inner.kill else {}
        reasons = diagnoses_of_ranks(inner, directory) if nodes else _kept(inner, directory)
        secrets = tuple(write_secrets(inside, directory))
        private = dict.fromkeys(step.path.rpartition("/")[0] for step in secrets)
        steps: list[Step] = [
            command("mkdir", "-p", "-m", "700", "--", directory),
            command("mkdir", "-p", "--", f"{inside.scratch}/home"),
            *(command("mkdir", "-p", "-m", "700", "--", folder) for folder in private),
            *(WriteFile(path=f"{directory}/{name}", text=text) for name, text in files.items()),
            *secrets,
        ]
        return Plan(
            steps=tuple(steps),
            task=Job(
                start=Command(
                    argv=("sh", job, "start"),
                    failure="the job could not be submitted",
                    hint="see which partitions and limits there are: `sinfo`",
                    quiet=True,
                    waiting="Slurm to take the job",
                ),
                waiting=f"the job `cube-{invocation.run_id}`: it begins when Slurm has room, see `squeue --me --start`",
                follow=command("sh", job, "follow"),
                status=command("sh", job, "status"),
                timed=limit is not None,
                directory=directory,
            ),
            diagnoses=(*reasons, *_endings(invocation, directory)),
            stop=command("sh", job, "stop", quiet=True),
            kill=command("sh", job, "kill", quiet=True),
            always=(command("rm", "-rf", "--", directory),),
        )

    def identify(self, invocation: Invocation, host: Host) -> Fact | None:
        """As the inner runner does."""
        return self.inner.identify(invocation, host)

    def facts_here(self) -> tuple[Fact, ...]:
        """As the inner runner does."""
        return self.inner.facts_here() if isinstance(self.inner, Transferring) else ()

    def transfer(self, invocation: Invocation, host: Host, *, anew: bool) -> Transfer | None:
        """As the inner runner does."""
        return self.inner.transfer(invocation, host, anew=anew) if isinstance(self.inner, Transferring) else None

    def questions(self) -> tuple[Fact, ...]:
        """What the inner runner asks, and what the scheduler would say to a job."""
        from mlcube.checking import Checking
        from mlcube_runners._checks_placements import slurm_questions

        inner = self.inner.questions() if isinstance(self.inner, Checking) else ()
        return *inner, *slurm_questions(tuple(self._options(Resources())))

    def checks(self, host: Host) -> "tuple[Check, ...]":
        """The scheduler, then what the inner runner says of this host."""
        from mlcube_runners._checks_placements import inner_checks, slurm

        return slurm(self.partition, self.unusable(host), host, inner_checks(self.inner, host))

    def sources(self, invocation: Invocation, host: Host) -> tuple[Fact, ...]:
        """As for the inner runner."""
        from mlcube.checking import Checking

        return self.inner.sources(invocation, host) if isinstance(self.inner, Checking) else ()

    def _nodes_problem(self, invocation: Invocation) -> tuple[str, str] | None:
        """The platform's own number is for tasks that start on one node and see to the others themselves."""
        nodes = invocation.resources.nodes
        if nodes is None or self.nodes in (None, nodes):
            return None
        message = f"task `{invocation.task}` asks for {nodes} nodes, and the platform's `nodes` says {self.nodes}"
        return message, f"leave `nodes` out of the platform, or say `nodes: {nodes}`"

    def _directory(self, invocation: Invocation) -> str:
        return f"{self.root}/runs/{invocation.run_id}" if self.root else f"{invocation.scratch}.job"

    def _inside(self, invocation: Invocation, host: Host) -> Invocation:
        """As the inner runner gets it: without the limits that Slurm enforces and the inner runner would refuse."""
        replace = msgspec.structs.replace
        if invocation.resources.nodes:  # on each of them it is one task
            invocation = replace(invocation, resources=replace(invocation.resources, nodes=None))
        if self.root:
            invocation = replace(invocation, scratch=f"{self._directory(invocation)}/scratch")
        slurm = host.get("slurm") or {}
        carried: dict[str, Any] = {}
        if slurm.get("memory"):
            carried["memory_bytes"] = None
        if slurm.get("cpus") and float(invocation.resources.cpus or 0).is_integer():
            carried["cpus"] = None
        if invocation.resources.gpus:  # this host's have nothing to do with those of the node
            granted = replace(invocation.resources, gpus="granted")
            invocation = replace(invocation, resources=granted)
        if not carried or self.inner.refuses(invocation, host) is None:
            return invocation
        return replace(invocation, resources=replace(invocation.resources, **carried))

    def _submit(self, invocation: Invocation, directory: str) -> str:
        """The line that submits. A secret in the caller's environment does not reach Slurm's spool."""
        names = sorted(secret.name for secret in invocation.secrets)
        without = ["env", *(word for name in names for word in ("-u", name))] if names else []
        argv = (*without, "sbatch", *self._arguments(invocation), f"{directory}/batch")
        return f"exec {shlex.join(argv)}\n"

    def _arguments(self, invocation: Invocation) -> Iterator[str]:
        yield from ("--parsable", "--no-requeue", f"--ntasks={invocation.resources.nodes or 1}", "--chdir=/")
        yield f"--job-name=cube-{invocation.run_id}"
        yield from ("--output=/dev/null", "--error=/dev/null")  # the job writes its own, under names without patterns
        yield from self._options(invocation.resources)

    def _options(self, resources: Resources) -> Iterator[str]:
        for name in ("partition", "account", "qos"):
            if value := getattr(self, name):
                yield f"--{name}={value}"
        if nodes := resources.nodes or self.nodes:
            yield f"--nodes={nodes}"
        if resources.nodes:
            yield "--ntasks-per-node=1"
        yield from _needs(resources, self.gres, self.time)

    def _batch(self, directory: str) -> str:
        lines = ["#!/bin/sh"]
        if self.modules:
            lines += [_MODULES, *(f"module load {shlex.quote(name)} || exit 1" for name in self.modules)]
        return "\n".join([*lines, *self.before, f"exec sh {shlex.quote(f'{directory}/job')} run", ""])


def _needs(resources: Resources, gres: str | None, time: str | None) -> Iterator[str]:
    """The cube's needs in sbatch's own options."""
    if resources.cpus:
        yield f"--cpus-per-task={math.ceil(resources.cpus)}"
    if resources.memory_bytes:
        yield f"--mem={math.ceil(resources.memory_bytes / 1024)}K"
    if resources.gpus:
        kind = gres if gres and gres.startswith("gpu") else "gpu"
        yield f"--gres={kind}:{resources.gpus}"
    elif gres:
        yield f"--gres={gres}"
    if time:
        yield f"--time={time}"
    elif resources.timeout_seconds:  # the job itself is exact; Slurm counts in minutes
        yield f"--time={math.ceil(resources.timeout_seconds / 60) + 1}"


def _gpu_problem(invocation: Invocation, host: Host) -> tuple[str, str] | None:
    """GPUs that Slurm cannot grant; what kind they are is its own business."""
    gpus, most = invocation.resources.gpus, host.get("gpus_per_node")
    if not gpus:
        return None
    if not isinstance(gpus, int):
        wanted = "all of them" if gpus == "all" else ", ".join(gpus)
        message = f"task `{invocation.task}` asks for certain GPUs ({wanted}), and Slurm chooses them"
        return message, "ask for a number of them, as in `--gpus 1`"
    if most is not None and gpus > most:
        have = f"no node here has more than {most}" if most else "no node here has any"
        return f"task `{invocation.task}` asks for {gpus} GPUs, and {have}", "see what there is: `sinfo -o '%P %G'`"
    return None


def _memory_problem(invocation: Invocation, host: Host) -> tuple[str, str] | None:
    """A limit below what Slurm limits any job to."""
    memory = invocation.resources.memory_bytes
    least = (host.get("slurm") or {}).get("least_memory_bytes") or _MINIMUM_MEMORY
    if memory is None or memory >= least:
        return None
    mebibytes = math.ceil(least / (1 << 20))
    message = f"task `{invocation.task}` has a memory limit below {mebibytes} MiB, the least that Slurm enforces"
    return message, f"give it more: `--memory {mebibytes}m`"


def _kept(inner: Plan, directory: str) -> Iterator[Diagnosis]:
    """What the inner runner found out on the node."""
    for number, diagnosis in enumerate(inner.diagnoses):
        probe = command("cat", f"{directory}/reason.{number}")
        yield msgspec.structs.replace(diagnosis, probe=probe)


def _endings(invocation: Invocation, directory: str) -> Iterator[Diagnosis]:
    """What Slurm itself ends a job for."""
    memory, limit = invocation.resources.memory_bytes, invocation.resources.timeout_seconds
    of = f", {memory / (1 << 20):.6g} MiB" if memory else ""
    after = f" of {limit:g} seconds" if limit else ""
    for state, message, hint, status in (
        (
            "OUT_OF_MEMORY",
            f"the task needed more memory than its limit{of}",
            "give it more: `--memory`, or `resources: {memory: ...}` of the task",
            None,
        ),
        (
            "TIMEOUT|DEADLINE",
            f"the task was stopped after its time limit{after}",
            "give it more: `--timeout`, or `time` of the platform",
            124,
        ),
        ("PREEMPTED", "the job had to make way for another one", "run it again, or with another `partition`", 75),
        ("CANCELLED", "somebody cancelled the job", "see with `scontrol show job` who did", None),
        ("NODE_FAIL|BOOT_FAIL", "the node failed", "run it again", 69),
    ):
        probe = command("grep", "-E", "-x", state, f"{directory}/state")
        yield Diagnosis(probe=probe, message=message, hint=hint, status=status)


def _parse_configuration(answer: Answer) -> dict[str, object]:
    """Which limits are enforced; without accounting, and whatever the version."""
    if answer.status == 127:
        return {"problem": "missing"}
    if answer.status != 0:
        said = answer.error.strip() or answer.output.strip()
        return {"problem": said.splitlines()[-1] if said else f"status {answer.status}"}
    pairs = (line.partition("=") for line in answer.output.splitlines())
    settings = {name.strip().lower(): value.strip().lower() for name, _, value in pairs}
    plugins = settings.get("taskplugin", "")
    cgroup = "cgroup" in plugins
    return {
        "version": settings.get("slurm_version", ""),
        "cluster": settings.get("clustername", ""),
        # OverMemoryKill looks only now and then, and a quick task is over by then.
        "memory": cgroup and settings.get("constrainramspace") == "yes",
        "least_memory_bytes": _mebibytes(settings.get("minramspace", "")) if cgroup else None,
        "cpus": "affinity" in plugins or (cgroup and settings.get("constraincores") == "yes"),
    }


def _mebibytes(text: str) -> int | None:
    """`30 MB`, which are MiB, in bytes."""
    number = text.partition(" ")[0]
    return int(number) << 20 if number.isdecimal() else None


def _parse_nodes(answer: Answer) -> int | None:
    """The most GPUs that any node has, out of `gpu:a100:4(S:0-1),craynetwork:2`; None when nobody says."""
    if answer.status:
        return None
    counts = [0]
    for resource in answer.output.replace("\n", ",").split(","):
        words = resource.partition("(")[0].split(":")
        if words[0] == "gpu":
            counts.append(int(words[-1]) if words[-1].isdecimal() else 1)
    return max(counts)


_CONFIGURATION = Fact(name="slurm", argv=("scontrol", "show", "config"), parse=_parse_configuration)
_NODES = Fact(name="gpus_per_node", argv=("sinfo", "--noheader", "--format=%G"), parse=_parse_nodes)
