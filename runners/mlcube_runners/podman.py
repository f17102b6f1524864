"""Podman: drives the `podman` command line, as root or as an ordinary user, without a daemon."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import msgspec

from mlcube.errors import Refused
from mlcube.invocation import Invocation
from mlcube.plan import Command, Diagnosis, Plan, Step, Unless, command
from mlcube.runner import Fact, Host, Transfer
from mlcube_runners import _container as container
from mlcube_runners._image_build import PODMAN_BUILD, build_steps, clean_steps, image_lock, parse_identity, podman_file
from mlcube_runners._image_transfer import image_transfer
from mlcube_runners._podman_host import podman_facts, unusable
from mlcube_runners._podman_needs import gpu_arguments, lacking
from mlcube_runners._ranks import one_node_only

if TYPE_CHECKING:
    from mlcube.checking import Check

__all__ = ["PodmanRunner"]

_PULL_UNLESS_LOCAL = '"$1" pull "$2" || "$1" image exists "$3"'
"""An image that was built here and never pushed cannot be pulled; that it is there is enough."""

# `podman rm --force` alone forgets a container that `podman stop` was about to stop, and lets it run (4.3).
_KILL = '"$1" kill "$2" 2>/dev/null; "$1" rm --force --time=0 --volumes "$2"'

# Podman says that memory did not suffice; some versions of conmon (2.1.6) note it where they were started instead.
_ASK_MEMORY = """\
[ -e "$3/oom" ] && echo noted
"$1" container inspect --format '{{if .State.OOMKilled}}told{{end}}' "$2"; :"""


class PodmanRunner(msgspec.Struct, frozen=True, kw_only=True):
    """Runs tasks in Podman containers, as the calling user."""

    requires: ClassVar[tuple[str, ...]] = ("podman",)

    executable: Annotated[str, msgspec.Meta(description="The `podman` command: a name on PATH, or a path.")] = "podman"
    arguments: Annotated[
        tuple[str, ...],
        msgspec.Meta(description="Further arguments of `podman run`, one word each, as in `[--device=/dev/fuse]`."),
    ] = ()
    user: Annotated[
        Literal["caller", "image"],
        msgspec.Meta(
            description="Who the task is: `caller`, so that outputs are yours, or `image`, as the image says."
        ),
    ] = "caller"

    def facts(self) -> tuple[Fact, ...]:
        """Who calls, what Podman can do for this user, and what the host has for containers."""
        return podman_facts(self.executable)

    def unusable(self, host: Host) -> tuple[str, str] | None:
        """No Podman, one that does not work, or one on another host."""
        return unusable(self.executable, host)

    def refuses(self, invocation: Invocation, host: Host) -> tuple[str, str] | None:
        """What Podman could not enforce or provide."""
        return container.image_problem(invocation) or one_node_only(invocation) or lacking(invocation, host)

    def prepare(self, invocation: Invocation, host: Host) -> Plan:
        """Pull or build the image when it is not there."""
        image = self._image(invocation)
        if invocation.python is None and invocation.strategy == "always":
            return Plan(steps=self._build(invocation))
        builds = invocation.python or (invocation.recipe and invocation.strategy == "auto")
        missing = Unless(
            probe=Command(argv=self._ask_identity(image), quiet=True),
            steps=self._build(invocation) if builds else (self._pull(invocation),),
            title=f"building the image `{image}`" if builds else f"pulling the image `{image}`",
            lock=image_lock("podman", image, host),
        )
        return Plan(steps=(missing,), always=clean_steps(invocation))

    def configure(self, invocation: Invocation, host: Host) -> Plan:  # noqa: ARG002 - the protocol's
        """Build or pull again what could be newer."""
        image = self._image(invocation)
        if invocation.python or (invocation.recipe and invocation.strategy != "pull"):
            return Plan(steps=self._build(invocation), always=clean_steps(invocation))
        pull = command("sh", "-c", _PULL_UNLESS_LOCAL, "sh", self.executable, container.full_name(image), image)
        return Plan(steps=(msgspec.structs.replace(pull, hint=_hint_after_pull(invocation)),))

    def run(self, invocation: Invocation, host: Host) -> Plan:
        """Run the task in a container that is removed with it."""
        if refusal := self.refuses(invocation, host):
            raise Refused(refusal[0], hint=refusal[1])
        name = container.container_name(invocation)
        remove = command(self.executable, "rm", "--force", "--time=0", "--volumes", name, quiet=True)
        as_image = "image" in (self.user, invocation.user)
        # Only a container that is still there can be asked whether its memory sufficed.
        limited = invocation.resources.memory_bytes is not None
        argv = (
            *(self.executable, "run", "--name", name, *(() if limited else ("--rm",))),
            *self._container_arguments(invocation, host),
            *invocation.raw_arguments.get("docker", ()),  # the cube's `docker:` section, in words that Podman shares
            *invocation.raw_arguments.get("podman", ()),
            *self.arguments,
            *container.entrypoint_argument(invocation),
            self._image(invocation),
            *container.command_words(invocation),
        )
        # A user of the image's own choice must be able to write there too; others are kept out by the folder above.
        open_to_all = command("chmod", "1777", invocation.scratch, f"{invocation.scratch}/home")
        place = _place(invocation) if limited else None
        steps = (*((open_to_all,) if as_image else ()), *((command("mkdir", "-p", place),) if place else ()))
        return Plan(
            steps=steps,
            task=Command(argv=argv, directory=place, secrets=container.secret_variables(invocation)),
            diagnoses=self._diagnoses(invocation),
            otherwise=() if limited else (remove,),
            always=(
                *((remove, command("rm", "-rf", place)) if place else ()),
                *self._clear_scratch(invocation, host, as_image),
            ),
            stop=command(self.executable, "stop", "--time=10", name, quiet=True),
            kill=command("sh", "-c", _KILL, "sh", self.executable, name, quiet=True),
        )

    def identify(self, invocation: Invocation, host: Host) -> Fact | None:  # noqa: ARG002 - the protocol's
        """The image's id, and the digests under which registries know it."""
        return Fact(name="image", argv=self._ask_identity(self._image(invocation)), parse=parse_identity)

    def questions(self) -> tuple[Fact, ...]:
        """The room where images lie, and the host itself."""
        from mlcube_runners import _checks

        return _checks.podman_questions(self.executable)

    def checks(self, host: Host) -> "tuple[Check, ...]":
        """The engine, and what its user may do."""
        from mlcube_runners import _checks

        return _checks.podman(self.unusable(host), host)

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
        return image_transfer("podman", self._image(invocation), self.executable, "directory", host)

    def _ask_identity(self, image: str) -> tuple[str, ...]:
        """Also how `prepare` looks whether the image is there: a run on the warm path asks once."""
        form = '{"id":{{json .ID}},"digests":{{json .RepoDigests}}}'
        return (self.executable, "image", "inspect", "--format", form, image)

    def _image(self, invocation: Invocation) -> str:
        if problem := container.image_problem(invocation):
            raise Refused(problem[0], hint=problem[1])
        assert invocation.image is not None  # noqa: S101 - image_problem saw to it
        return invocation.image

    def _pull(self, invocation: Invocation) -> Command:
        argv = (self.executable, "pull", container.full_name(self._image(invocation)))
        return Command(argv=argv, hint=_hint_after_pull(invocation))

    def _build(self, invocation: Invocation) -> tuple[Step, ...]:
        hint = (
            "if a short name after FROM was not found: write `docker.io/library/NAME`, "
            'or add `unqualified-search-registries = ["docker.io"]` to /etc/containers/registries.conf'
        )
        return build_steps(invocation, (self.executable, *PODMAN_BUILD[1:]), written=podman_file, recipe_hint=hint)

    def _container_arguments(self, invocation: Invocation, host: Host) -> Iterator[str]:
        # Podman would hand on the caller's proxies, and they may hold passwords.
        yield from ("--pull=never", "--log-driver=none", "--http-proxy=false")
        init = host.get("init")
        if init == "catatonit":
            yield "--init"
        elif init:
            yield from ("--init", f"--init-path={init}")
        yield from container.label_arguments(invocation)
        yield from self._user_arguments(invocation, host)
        yield "--security-opt=no-new-privileges"
        if host.get("podman", {}).get("selinux"):
            yield "--security-opt=label=disable"  # else mounts of the user's files would have to be relabelled
        yield from (f"--security-opt={option}" for option in invocation.security)
        if invocation.network not in (None, "default"):
            yield f"--network={invocation.network}"
        if invocation.directory is not None:
            yield f"--workdir={invocation.directory}"
        yield from container.mount_arguments(invocation)
        yield from container.environment_arguments(invocation)
        yield from container.limit_arguments(invocation, swap_limit=True)
        yield from gpu_arguments(invocation, host)

    def _user_arguments(self, invocation: Invocation, host: Host) -> Iterator[str]:
        """Who the task is and what it may do, such that what it writes belongs to the caller."""
        if "image" in (self.user, invocation.user):
            return  # as the image's author meant it: with the capabilities that the engine gives
        caller = host.get("caller") or {}
        if "user" not in caller:
            raise Refused("the caller's user id is not known", hint="`id -u` must work; or `--user image`")
        yield "--cap-drop=ALL"
        rootless = host.get("podman", {}).get("rootless", caller["user"] != 0)
        if rootless:
            yield "--userns=keep-id"  # else the caller would be root in the container, and everyone else a stranger
        yield f"--user={caller['user']}:{caller['group']}"
        if caller["user"] == 0:
            yield "--cap-add=DAC_OVERRIDE"  # root reads and writes files of others, here as everywhere

    def _clear_scratch(self, invocation: Invocation, host: Host, as_image: bool) -> tuple[Step, ...]:
        """What a user of the image's left in scratch belongs to one of the caller's subordinate ids."""
        if not as_image or not host.get("podman", {}).get("rootless"):
            return ()
        return (command(self.executable, "unshare", "rm", "-rf", "--", invocation.scratch, quiet=True),)

    def _diagnoses(self, invocation: Invocation) -> tuple[Diagnosis, ...]:
        memory = invocation.resources.memory_bytes
        if memory is None:
            return ()
        name = container.container_name(invocation)
        return (
            Diagnosis(
                probe=command("sh", "-c", _ASK_MEMORY, "sh", self.executable, name, _place(invocation)),
                message=f"the task needed more memory than its limit, {memory / (1 << 20):.6g} MiB",
                hint="give it more: `--memory`, or `resources: {memory: ...}` of the task",
            ),
        )


def _place(invocation: Invocation) -> str:
    """Where Podman stands when a task has a memory limit, so that what conmon leaves is in nobody's way."""
    return f"{invocation.scratch}.podman"


def _hint_after_pull(invocation: Invocation) -> str:
    if invocation.recipe is not None:
        return f"`-P docker.build_strategy=always` builds it from `{invocation.recipe.file}`"
    return "check the name; if the registry is private, log in: `podman login REGISTRY`"
