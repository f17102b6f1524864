"""The contract between the core and its runners, and how runners are found."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Protocol, cast, runtime_checkable

import msgspec

from mlcube.errors import UsageError, did_you_mean
from mlcube.invocation import Invocation
from mlcube.plan import Command, Plan, Step

__all__ = [
    "GROUP",
    "ORDER",
    "Answer",
    "Fact",
    "Folder",
    "Host",
    "Runner",
    "Transfer",
    "Transferring",
    "built_in",
    "candidates",
    "chain",
    "find",
    "installed",
]

GROUP = "mlcube.runners"
"""The entry-point group of every runner, ours and anyone's."""

ORDER = ("docker", "podman", "singularity", "sandbox", "local")
"""Who is asked first when the user names no platform."""

_BUILT_IN = {
    "docker": "mlcube_runners.docker:DockerRunner",
    "kubernetes": "mlcube_runners.kubernetes:KubernetesRunner",
    "local": "mlcube_runners.local:LocalRunner",
    "podman": "mlcube_runners.podman:PodmanRunner",
    "sandbox": "mlcube_runners.sandbox:SandboxRunner",
    "singularity": "mlcube_runners.singularity:SingularityRunner",
    "slurm": "mlcube_runners.slurm:SlurmRunner",
    "ssh": "mlcube_runners.ssh:SshRunner",
}
"""So that a built-in runner is found without importlib.metadata, which costs 40 ms."""


class Answer(msgspec.Struct, frozen=True):
    """What a fact's command did."""

    status: int
    """127 when there is no such executable."""
    output: str
    error: str


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a runner must know of a host: a command, and a pure parser of what it prints."""

    name: str
    argv: tuple[str, ...]
    parse: Callable[[Answer], Any]
    """Gives plain data (what JSON can hold). Never raises."""
    environment: tuple[str, ...] = ()
    """Variables of the caller's environment that change the answer, as DOCKER_HOST does."""
    files: tuple[str, ...] = ()
    """Files whose change changes the answer; `~` is understood."""


class Folder(msgspec.Struct, frozen=True, kw_only=True):
    """Files of this host to copy into a directory of another one. A copy that was cut is resumed."""

    source: str
    names: tuple[str, ...]
    """Of files in `source`. One that is a link is copied as what it leads to."""
    target: str


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """How an image that this host has, or can make, gets to the host where the plan is performed.

    What is called a word here is a name of the image's content: with other content, it is another word.
    """

    name: str
    """The image, as the user knows it."""
    here: Command
    """Prints the word of the image as it is here; fails where there is none."""
    there: Command
    """Gets the word, perhaps an empty one, as a further argument. Succeeds where nothing need be sent: the image is
    there, and is none that was sent and has changed here since. What is there under another name gets this one."""
    content: "Command | Folder"
    """Prints what `load` reads; or the files that `load` finds."""
    load: Command
    """Makes the image of it, at once or not at all. It gets the word as a further argument if `content` is a folder."""
    known: Command | None = None
    """Prints, there, what `difference` reads."""
    difference: Command | None = None
    """As `content`, without what is there already."""
    make: tuple[Step, ...] = ()
    """Performed here before it is sent: makes the image, unless it is made."""
    clean: tuple[Step, ...] = ()
    """Performed here at the end, whatever happened."""
    covers: int = 1
    """How many of the first steps of the plan that prepares it stands for."""
    sooner: bool = False
    """Whether it is sent, if it is here, before the other host tries to make it."""
    alone: bool = False
    """Whether there is no other way, because the other host can not make the image."""


Host = Mapping[str, Any]
"""The facts of the host where the plan will be performed, by name."""


@runtime_checkable
class Runner(Protocol):
    """Renders an invocation as a plan. A frozen msgspec Struct whose fields are its options.

    A field typed `Runner` names another platform to wrap. Every method is pure: it reads no file, environment
    or clock. What must be known of the host comes in as facts. What cannot be honoured is raised as
    `mlcube.errors.Refused`, naming the field and what to do.
    """

    requires: ClassVar[tuple[str, ...]]
    """Executables that it drives, by their usual names."""

    def facts(self) -> tuple[Fact, ...]:
        """What it must know of the host."""
        ...

    def unusable(self, host: Host) -> tuple[str, str] | None:
        """Why it cannot be used there, and what would make it so; None when it can."""
        ...

    def refuses(self, invocation: Invocation, host: Host) -> tuple[str, str] | None:
        """What of this invocation it cannot honour there, and what to do; None when it can carry it whole."""
        ...

    def prepare(self, invocation: Invocation, host: Host) -> Plan:
        """Make the image or environment available. Doing it twice is harmless."""
        ...

    def configure(self, invocation: Invocation, host: Host) -> Plan:
        """The same on the user's demand, for `cube configure`: builds or pulls also what could be newer."""
        ...

    def run(self, invocation: Invocation, host: Host) -> Plan:
        """Run the task to completion; `plan.task` exits with the task's own status."""
        ...

    def identify(self, invocation: Invocation, host: Host) -> Fact | None:
        """How to ask which image this is: an answer `{"id": "sha256:...", "digests": [...]}` or None."""
        ...


@runtime_checkable
class Transferring(Protocol):
    """What a runner has besides if its images can be brought to another host, by a placement around it.

    The host is then the other one; what is known of this one is in its fact `here`, by name: the answers to
    `facts_here`, and `root` and `workspace`, the directories that the invocation's paths are relative to here.
    """

    def facts_here(self) -> tuple[Fact, ...]:
        """What it must know of this host for that."""
        ...

    def transfer(self, invocation: Invocation, host: Host, *, anew: bool) -> Transfer | None:
        """How an image gets there, None where it can not. The invocation is as it is here.

        `anew`: what could be newer is made again, as `configure` does.
        """
        ...


def chain(runner: Runner) -> Iterator[Runner]:
    """The runner and those that it wraps, outermost first."""
    yield runner
    for name in getattr(runner, "__struct_fields__", ()):
        if isinstance(inner := getattr(runner, name), Runner):
            yield from chain(inner)


def find(name: str) -> type[Runner]:
    """The runner of that name.

    Raises UsageError when there is none, or when its package cannot be imported.
    """
    from importlib import import_module

    if name in _BUILT_IN:
        module, _, attribute = _BUILT_IN[name].partition(":")
        built_in: type[Runner] = getattr(import_module(module), attribute)
        return built_in
    from importlib.metadata import entry_points

    for point in entry_points(group=GROUP, name=name):
        try:
            runner: Any = point.load()
        except Exception as error:
            raise UsageError(
                f"runner `{name}` is installed but cannot be loaded: {error}", hint=f"reinstall `{point.value}`"
            ) from error
        if not (isinstance(runner, type) and issubclass(runner, msgspec.Struct)):
            raise UsageError(
                f"runner `{name}` is installed but is no `msgspec.Struct`", hint=f"mend `{point.value}`, or remove it"
            )
        return cast("type[Runner]", runner)
    raise UsageError(f"no runner is named `{name}`", hint=did_you_mean(name, installed()))


def built_in() -> tuple[str, ...]:
    """The runners that come with mlcube: engines in the order in which they are asked, then placements."""
    return (*candidates(), *sorted(name for name in _BUILT_IN if name not in ORDER))


def candidates() -> tuple[str, ...]:
    """The built-in runners, in the order in which they are asked when the user names no platform."""
    return tuple(name for name in ORDER if name in _BUILT_IN)


def installed() -> tuple[str, ...]:
    """The names of all runners, those of other packages included."""
    from importlib.metadata import entry_points

    return tuple(sorted({*_BUILT_IN, *(point.name for point in entry_points(group=GROUP))}))
