"""Docker: drives the `docker` command line, so that contexts, logins and BuildKit are the user's own."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import msgspec

from mlcube.errors import Refused
from mlcube.invocation import Invocation
from mlcube.plan import Command, Diagnosis, Plan, Step, Unless, command
from mlcube.runner import Fact, Host, Transfer
from mlcube_runners import _container as container
from mlcube_runners._docker_host import docker_facts, unusable
from mlcube_runners._docker_needs import gpu_arguments, lacking
from mlcube_runners._image_build import build_steps, clean_steps, image_lock, parse_identity
from mlcube_runners._image_transfer import image_transfer
from mlcube_runners._ranks import one_node_only

if TYPE_CHECKING:
    from mlcube.checking import Check

__all__ = ["DockerRunner"]

_PULL_UNLESS_LOCAL = '"$1" pull "$2" || "$1" image inspect "$2" >/dev/null'
"""An image that was built here and never pushed cannot be pulled; that it is there is enough."""

_UNLESS_PRINTED = '[ -n "$("$@")" ] || echo nothing'


class DockerRunner(msgspec.Struct, frozen=True, kw_only=True):
    """Runs tasks in Docker containers, as the calling user."""

    requires: ClassVar[tuple[str, ...]] = ("docker",)

    executable: Annotated[str, msgspec.Meta(description="The `docker` command: a name on PATH, or a path.")] = "docker"
    arguments: Annotated[
        tuple[str, ...],
        msgspec.Meta(description="Further arguments of `docker run`, one word each, as in `[--device=/dev/fuse]`."),
    ] = ()
    user: Annotated[
        Literal["caller", "image"],
        msgspec.Meta(
            description="Who the task is: `caller`, so that outputs are yours, or `image`, as the image says."
        ),
    ] = "caller"

    def facts(self) -> tuple[Fact, ...]:
        """Who calls, what the daemon can do, and where it is."""
        return docker_facts(self.executable)

    def unusable(self, host: Host) -> tuple[str, str] | None:
        """No client, no daemon, no permission, or a daemon on another host."""
        return unusable(self.executable, host)

    def refuses(self, invocation: Invocation, host: Host) -> tuple[str, str] | None:
        """What the daemon could not enforce or provide."""
        return container.image_problem(invocation) or one_node_only(invocation) or lacking(invocation, host)

    def prepare(self, invocation: Invocation, host: Host) -> Plan:
        """Pull or build the image when it is not there."""
        image = self._image(invocation)
        if invocation.python is None and invocation.strategy == "always":
            return Plan(steps=self._build(invocation, host))
        builds = invocation.python or (invocation.recipe and invocation.strategy == "auto")
        missing = Unless(
            probe=Command(argv=self._ask_identity(image), quiet=True),
            steps=self._build(invocation, host) if builds else (self._pull(invocation),),
            title=f"building the image `{image}`" if builds else f"pulling the image `{image}`",
            lock=image_lock("docker", image, host),
        )
        return Plan(steps=(missing,), always=clean_steps(invocation))

    def configure(self, invocation: Invocation, host: Host) -> Plan:
        """Build or pull again what could be newer."""
        image = self._image(invocation)
        if invocation.python or (invocation.recipe and invocation.strategy != "pull"):
            return Plan(steps=self._build(invocation, host), always=clean_steps(invocation))
        pull = command("sh", "-c", _PULL_UNLESS_LOCAL, "sh", self.executable, image)
        return Plan(steps=(msgspec.structs.replace(pull, hint=_hint_after_pull(invocation)),))

    def run(self, invocation: Invocation, host: Host) -> Plan:
        """Run the task in a container that is removed with it."""
        if refusal := self.refuses(invocation, host):
            raise Refused(refusal[0], hint=refusal[1])
        name = container.container_name(invocation)
        remove = command(self.executable, "rm", "--force", "--volumes", name, quiet=True)
        argv = (
            *(self.executable, "run", "--name", name),
            *self._container_arguments(invocation, host),
            *invocation.raw_arguments.get("docker", ()),
            *self.arguments,
            *container.entrypoint_argument(invocation),
            self._image(invocation),
            *container.command_words(invocation),
        )
        # A user of the image's own choice must be able to write there too; others are kept out by the folder above.
        open_to_all = command("chmod", "1777", invocation.scratch, f"{invocation.scratch}/home")
        return Plan(
            steps=(open_to_all,) if "image" in (self.user, invocation.user) else (),
            task=Command(argv=argv, secrets=container.secret_variables(invocation)),
            diagnoses=self._diagnoses(invocation),
            otherwise=(remove,),  # one that succeeds has gone: `docker run --rm` has waited for that
            stop=command(self.executable, "stop", "--time", "10", name, quiet=True),
            kill=remove,
        )

    def identify(self, invocation: Invocation, host: Host) -> Fact | None:  # noqa: ARG002 - the protocol's
        """The image's id, and the digests under which registries know it."""
        return Fact(name="image", argv=self._ask_identity(self._image(invocation)), parse=parse_identity)

    def questions(self) -> tuple[Fact, ...]:
        """The room where images lie, and the host itself."""
        from mlcube_runners import _checks

        return _checks.docker_questions(self.executable)

    def checks(self, host: Host) -> "tuple[Check, ...]":
        """Client, daemon, and what it can do."""
        from mlcube_runners import _checks

        return _checks.docker(self.executable, self.unusable(host), host)

    def sources(self, invocation: Invocation, host: Host) -> tuple[Fact, ...]:  # noqa: ARG002 - the protocol's
        """The registry, unless it is built."""
        from mlcube_runners._checks_images import registry_fact

        builds = invocation.python or (invocation.recipe and invocation.strategy != "pull")
        return () if builds else (registry_fact(self._image(invocation)),)

    def facts_here(self) -> tuple[Fact, ...]:
        """Nothing: whether an image is here, and what is missing there, is asked when it is sent."""
        return ()

    def transfer(self, invocation: Invocation, host: Host, *, anew: bool) -> Transfer | None:
        """How a placement brings an image from here to another host, saved and loaded."""
        if anew and (invocation.python or (invocation.recipe and invocation.strategy != "pull")):
            return None  # it is to be built there
        return image_transfer("docker", self._image(invocation), self.executable, "archive", host)

    def _ask_identity(self, image: str) -> tuple[str, ...]:
        """Also how `prepare` looks whether the image is there: a run on the warm path asks once."""
        form = '{"id":{{json .Id}},"digests":{{json .RepoDigests}}}'
        return (self.executable, "image", "inspect", "--format", form, image)

    def _image(self, invocation: Invocation) -> str:
        if problem := container.image_problem(invocation):
            raise Refused(problem[0], hint=problem[1])
        assert invocation.image is not None  # noqa: S101 - image_problem saw to it
        return invocation.image

    def _pull(self, invocation: Invocation) -> Command:
        return Command(argv=(self.executable, "pull", self._image(invocation)), hint=_hint_after_pull(invocation))

    def _build(self, invocation: Invocation, host: Host) -> tuple[Step, ...]:
        daemon = host.get("docker", {})
        buildx = ("buildx", "build", "--load") if daemon.get("buildx") else ("build",)
        # Clients before 23 have BuildKit without buildx, but only when asked; they do not tell their version here.
        asked = {} if daemon.get("buildx") or daemon.get("client") else {"DOCKER_BUILDKIT": "1"}
        return build_steps(invocation, (self.executable, *buildx), environment=asked)

    def _container_arguments(self, invocation: Invocation, host: Host) -> Iterator[str]:
        yield from ("--rm", "--init", "--pull=never", "--log-driver=none")
        yield from container.label_arguments(invocation)
        yield from self._user_arguments(invocation, host)
        yield "--security-opt=no-new-privileges"
        yield from (f"--security-opt={option}" for option in invocation.security)
        if invocation.network not in (None, "default"):
            yield f"--network={invocation.network}"
        if invocation.directory is not None:
            yield f"--workdir={invocation.directory}"
        yield from container.mount_arguments(invocation)
        yield from container.environment_arguments(invocation)
        yield from container.limit_arguments(invocation, swap_limit=host.get("docker", {}).get("swap_limit", True))
        yield from gpu_arguments(invocation, host)

    def _user_arguments(self, invocation: Invocation, host: Host) -> Iterator[str]:
        """Who the task is and what it may do, such that what it writes belongs to the caller."""
        if "image" in (self.user, invocation.user):
            return  # as the image's author meant it: with the capabilities that the engine gives
        caller, daemon = host.get("caller") or {}, host.get("docker", {})
        if "user" not in caller:
            raise Refused("the caller's user id is not known", hint="`id -u` must work; or `--user image`")
        yield "--cap-drop=ALL"
        if daemon.get("rootless"):
            yield "--user=0:0"  # the daemon's own user namespace maps the caller to root
            return
        yield f"--user={caller['user']}:{caller['group']}"
        if daemon.get("remapped"):
            yield "--userns=host"  # else the id would be one of the daemon's subordinate ids
        if caller["user"] == 0:
            yield "--cap-add=DAC_OVERRIDE"  # root reads and writes files of others, here as everywhere

    def _diagnoses(self, invocation: Invocation) -> tuple[Diagnosis, ...]:
        name = container.container_name(invocation)
        # Events outlive the container; `--until` counts in seconds, so it must look one ahead.
        which = ("--since=24h", "--until=-1s", f"--filter=container={name}", "--format={{.Action}}")
        events = (self.executable, "events", *which)
        not_started = Diagnosis(  # a task may end with Docker's own 125, too
            probe=command("sh", "-c", _UNLESS_PRINTED, "sh", *events, "--filter=event=start"),
            message="Docker could not start the container; the task did not run",
            hint="Docker says why, in the lines before this one",
            status=125,
            started=False,
        )
        memory = invocation.resources.memory_bytes
        if memory is None:
            return (not_started,)
        return (
            not_started,
            Diagnosis(
                probe=command(*events, "--filter=event=oom"),
                message=f"the task needed more memory than its limit, {memory / (1 << 20):.6g} MiB",
                hint="give it more: `--memory`, or `resources: {memory: ...}` of the task",
            ),
        )


def _hint_after_pull(invocation: Invocation) -> str:
    if invocation.recipe is not None:
        return f"`-P docker.build_strategy=always` builds it from `{invocation.recipe.file}`"
    return "check the name; if the registry is private, log in: `docker login REGISTRY`"
