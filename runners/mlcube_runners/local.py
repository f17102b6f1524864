"""Runs a task on this machine without a container, in a virtual environment made of the cube's `python:` section."""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec

from mlcube.cube import SOURCE, Gpus
from mlcube.errors import Refused
from mlcube.invocation import Invocation
from mlcube.plan import Command, Plan
from mlcube.runner import Answer, Fact, Host
from mlcube_runners import _environment
from mlcube_runners._environment import VirtualEnvironment
from mlcube_runners._places import host_path, host_text, places
from mlcube_runners._ranks import one_node_only

if TYPE_CHECKING:
    from mlcube.checking import Check

__all__ = ["LocalRunner"]

_UNSHARE = ("--user", "--map-current-user", "--net", "--")
_PATH = "/usr/local/bin:/usr/bin:/bin"
# Each of these succeeds whatever the answer is, because only answers of commands that succeed are remembered.
_ASK_NETWORK = 'found=$(command -v unshare) && "$found" "$@" true 2>/dev/null && printf %s "$found"; :'
_GPUS = "CUDA_VISIBLE_DEVICES"

_ASK_GPUS = """\
printf '%s\\n' "${CUDA_VISIBLE_DEVICES-all}"
nvidia-smi --query-gpu=index,uuid --format=csv,noheader 2>/dev/null || :
"""


class LocalRunner(msgspec.Struct, frozen=True, kw_only=True):
    """Runs cubes that have a `python:` section, in virtual environments that are cached."""

    python: Annotated[
        str | None, msgspec.Meta(description="The interpreter to use: a path or a name. Else one that the cube admits.")
    ] = None
    environments: Annotated[
        str | None, msgspec.Meta(description="Where virtual environments are kept. Else in the cache directory.")
    ] = None

    requires: ClassVar[tuple[str, ...]] = ("python3",)

    def facts(self) -> tuple[Fact, ...]:
        """Interpreters, uv, the directory of environments, GPUs, and whether the network can be taken away."""
        return (
            *_environment.facts(self.python, self.environments),
            Fact(
                name="isolated_network",
                argv=("sh", "-c", _ASK_NETWORK, "sh", *_UNSHARE),
                parse=_parse_unshare,
                environment=("PATH",),
            ),
            Fact(
                name="visible_gpus",
                argv=("sh", "-c", _ASK_GPUS),
                parse=_parse_gpus,
                environment=("CUDA_VISIBLE_DEVICES", "PATH"),
            ),
        )

    def unusable(self, host: Host) -> tuple[str, str] | None:
        """It needs a Python, and a directory for environments."""
        if not host.get("pythons"):
            wanted = f"`{self.python}`" if self.python else "Python 3"
            return (
                f"{wanted} is not there, or does not start",
                "install Python, for instance `apt install python3-venv`",
            )
        if not host.get("environments"):
            return "no directory for virtual environments was found", "set `CUBE_CACHE_DIR` to an absolute path"
        return None

    def refuses(self, invocation: Invocation, host: Host) -> tuple[str, str] | None:
        """What needs a container, and what a plain process cannot be held to."""
        if problem := _needs_container(invocation) or one_node_only(invocation) or _unlimited(invocation):
            return problem
        try:
            self._environment(invocation, host)
            _network(invocation, host)
            _gpus(invocation.resources.gpus, host)
        except Refused as refused:
            return refused.problems[0].message, refused.hint or ""
        return None

    def prepare(self, invocation: Invocation, host: Host) -> Plan:
        """Make the environment, unless it is there."""
        return Plan(steps=(_environment.make(self._environment(invocation, host)),))

    def configure(self, invocation: Invocation, host: Host) -> Plan:
        """The same: the environment follows from the interpreter and the requirements, and neither became newer."""
        return self.prepare(invocation, host)

    def run(self, invocation: Invocation, host: Host) -> Plan:
        """The task's process, with an environment of its own and with paths of this machine."""
        if refusal := self.refuses(invocation, host) or _nothing_to_run(invocation):
            raise Refused(refusal[0], hint=refusal[1])
        known = places(invocation)
        words = (*invocation.entrypoint, *(host_text(word, known) for word in invocation.arguments))
        ours, tasks = self._own_environment(invocation, host), _task_environment(invocation)
        if wrapper := _network(invocation, host):
            # What the cube says (PATH, LD_PRELOAD, ...) is not heard before the network is gone.
            argv: tuple[str, ...] = (*wrapper, *(f"{name}={value}" for name, value in tasks.items()), *words)
        else:
            argv, ours = words, ours | tasks
        return Plan(
            task=Command(
                argv=argv,
                environment=ours,
                clean=True,
                directory=host_path(invocation.directory or SOURCE, known),
                secrets=(*(secret.name for secret in invocation.secrets if not secret.mount), *_granted(invocation)),
            )
        )

    def identify(self, invocation: Invocation, host: Host) -> Fact | None:
        """The digest of the list of what is installed: interpreter and packages, with versions."""
        file = _environment.installed(self._environment(invocation, host))
        return Fact(name="environment", argv=("cat", file), parse=_parse_installed, files=(file,))

    def questions(self) -> tuple[Fact, ...]:
        """The host itself."""
        from mlcube import site

        return site.SITE, site.GPUS

    def checks(self, host: Host) -> "tuple[Check, ...]":
        """Interpreters, and what makes environments."""
        from mlcube_runners import _checks

        return _checks.local(self.unusable(host), host)

    def sources(self, invocation: Invocation, host: Host) -> tuple[Fact, ...]:  # noqa: ARG002 - the protocol's
        """It is made here."""
        return ()

    def _environment(self, invocation: Invocation, host: Host) -> VirtualEnvironment:
        if invocation.python is None:
            raise Refused(*_needs_container(invocation) or ())
        return _environment.choose(invocation.python, host)

    def _own_environment(self, invocation: Invocation, host: Host) -> dict[str, str]:
        """What a process needs, and nothing of the caller's."""
        environment = self._environment(invocation, host)
        return {
            "PATH": f"{environment.path('bin')}:{_PATH}",
            "LANG": "C.UTF-8",
            "VIRTUAL_ENV": environment.directory,
            # As in a container: a task sees the GPUs that it asks for.
            **({} if _granted(invocation) else {_GPUS: ",".join(_gpus(invocation.resources.gpus, host))}),
        }


def _task_environment(invocation: Invocation) -> dict[str, str]:
    """What the cube declares, which stands above what a process needs."""
    known = places(invocation)
    return {name: host_text(word, known) for name, word in invocation.task_environment().items()}


def _nothing_to_run(invocation: Invocation) -> tuple[str, str] | None:
    """No reason not to prepare."""
    if invocation.entrypoint:
        return None
    return f"task `{invocation.task}` has no entrypoint", "write one, as in `entrypoint: python main.py`"


def _needs_container(invocation: Invocation) -> tuple[str, str] | None:
    """What only a container gives."""
    if invocation.python is None:
        image = f" (`{invocation.image}`)" if invocation.image else ""
        return f"the cube needs a container{image}", "use `--platform docker`, or add a `python:` section to the cube"
    if invocation.user == "image":
        return "`user: image` needs a container", "leave `user` out: the task runs as you"
    if invocation.security:
        return "security options need a container", "leave `security` out, or use `--platform docker`"
    if any(invocation.raw_arguments.values()):
        return "raw engine arguments need that engine", "use `--platform docker`, or take them out of the cube"
    known = places(invocation)
    words = (*invocation.arguments, *invocation.task_environment().values())
    told = {word.path for word in words if word.path is not None}
    for place in (invocation.directory or SOURCE, *sorted(told)):
        if host_path(place, known) is None:
            return f"`{place}` is a place in a container", "use `--platform docker`"
    for mount in invocation.mounts:
        if not any(place == mount.target or place.startswith(f"{mount.target}/") for place in told):
            return f"`{mount.source}` would lie at `{mount.target}` in a container", "use `--platform docker`"
    for secret in invocation.secrets:
        if secret.mount and secret.mount not in told:
            return (
                f"secret `{secret.name}` would lie at `{secret.mount}`, which is a place in a container",
                "leave its `mount` out, so that it comes as an environment variable, or use `--platform docker`",
            )
    return None


def _unlimited(invocation: Invocation) -> tuple[str, str] | None:
    """The first limit that was asked for and that a plain process has not."""
    asked = invocation.resources
    limits = {
        "resources.memory": asked.memory_bytes,
        "resources.cpus": asked.cpus,
        "resources.cpu_set": asked.cpu_set,
        "resources.shared_memory": asked.shared_memory_bytes,
    }
    for key, value in limits.items():
        if value is not None:
            return f"`{key}` cannot be enforced without a container", f"use `--platform docker`, or leave `{key}` out"
    return None


def _network(invocation: Invocation, host: Host) -> tuple[str, ...]:
    """What the command begins with, so that the task has the network that was asked for.

    It ends with `env`, which gives the task variables that its own command must not see.
    """
    match invocation.network:
        case None | "default" | "host":
            return ()
        case "none" if host.get("isolated_network"):
            return (host["isolated_network"], *_UNSHARE, "/usr/bin/env")
        case "none":
            raise Refused(
                "`network: none` cannot be enforced here: this machine does not let you make a network namespace",
                hint="use `--platform docker`, or leave `network` out",
            )
        case other:
            raise Refused(f"network `{other}` needs an engine that knows it", hint="use `--platform docker`")


def _granted(invocation: Invocation) -> tuple[str, ...]:
    """The variable by which a batch system says which GPUs it grants, if it is to be heard where the task starts."""
    return (_GPUS,) if invocation.resources.gpus == "granted" else ()


def _gpus(asked: Gpus | None, host: Host) -> tuple[str, ...]:
    """The UUIDs of the GPUs that the task gets."""
    if not asked or asked == "granted":
        return ()
    there: list[dict[str, str]] = host.get("visible_gpus") or []
    if isinstance(asked, tuple):
        chosen = [gpu for name in asked for gpu in there if name in (gpu["index"], gpu["uuid"])]
        missing = len(chosen) < len(asked)
    else:
        chosen = there if asked == "all" else there[:asked]
        missing = not chosen if asked == "all" else len(chosen) < asked
    if missing:
        wanted = ", ".join(asked) if isinstance(asked, tuple) else asked
        have = ", ".join(gpu["index"] for gpu in there) or "none"
        raise Refused(
            f"`resources.gpus` asks for {wanted}, and this machine shows {have}",
            hint="compare with `nvidia-smi -L` and `$CUDA_VISIBLE_DEVICES`, or ask for fewer, as in `--gpus 1`",
        )
    return tuple(gpu["uuid"] for gpu in chosen)


def _parse_gpus(answer: Answer) -> list[dict[str, str]]:
    """Those that the caller may use: a batch system says so in CUDA_VISIBLE_DEVICES."""
    first, _, rest = answer.output.partition("\n")
    rows = [line.split(", ") for line in rest.splitlines()]
    gpus = [{"index": row[0].strip(), "uuid": row[1].strip()} for row in rows if row[0].isdigit() and len(row) == 2]
    allowed = [name.strip() for name in first.split(",")]
    return gpus if first == "all" else [gpu for gpu in gpus if gpu["index"] in allowed or gpu["uuid"] in allowed]


def _parse_unshare(answer: Answer) -> str | None:
    """Where the command lies that takes the network away; None when it is not there, or may not."""
    return answer.output if answer.output.startswith("/") else None


def _parse_installed(answer: Answer) -> dict[str, Any] | None:
    from hashlib import sha256

    if answer.status:
        return None
    return {"id": f"sha256:{sha256(answer.output.encode()).hexdigest()}", "digests": []}
