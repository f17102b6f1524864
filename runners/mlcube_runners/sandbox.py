"""The sandbox: runs tasks from an unpacked image by bubblewrap, without a daemon, without root, in milliseconds."""

import os.path
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import msgspec

from mlcube.errors import Refused
from mlcube.invocation import Invocation, Mount
from mlcube.plan import Command, Plan, command
from mlcube.runner import Fact, Host, Transfer
from mlcube_runners import _container as container
from mlcube_runners import _sandbox_images as images
from mlcube_runners._caller import caller_fact
from mlcube_runners._image_build import parse_identity
from mlcube_runners._ranks import one_node_only
from mlcube_runners._sandbox_host import NAMESPACES, sandbox_facts, sources_fact, unusable
from mlcube_runners._sandbox_transfer import sandbox_transfer

if TYPE_CHECKING:
    from mlcube.checking import Check

__all__ = ["SandboxRunner"]

# The task is in the group of the sandbox's first process, and that one hears nothing from outside.
_STOP = """\
process=$(sed -n 's/.*"child-pid": *\\([0-9]*\\).*/\\1/p' "$1") && [ -n "$process" ] && kill -s TERM -- "-$process\""""

_NETWORK_FILES = ("/etc/resolv.conf", "/etc/hosts")
"""What the task needs of the host to find other hosts by their names."""

_KERNEL_SETTINGS = ("/proc/sys", "/proc/fs", "/proc/scsi", "/proc/acpi", "/proc/irq", "/proc/bus")
"""Where root could change the whole host without any capability. Bubblewrap itself leaves the first one writable."""

_ELSEWHERE = "use `--platform docker` or `--platform podman`"


class SandboxRunner(msgspec.Struct, frozen=True, kw_only=True):
    """Runs tasks from unpacked images by bubblewrap, as the calling user."""

    requires: ClassVar[tuple[str, ...]] = ("bwrap",)

    executable: Annotated[str, msgspec.Meta(description="The `bwrap` command: a name on PATH, or a path.")] = "bwrap"
    arguments: Annotated[
        tuple[str, ...], msgspec.Meta(description="Further options of `bwrap`, one word each, as in `[--dir, /data]`.")
    ] = ()
    network: Annotated[
        Literal["host", "none"],
        msgspec.Meta(description="What network tasks have that do not say: the `host`'s, or `none`."),
    ] = "host"
    archive: Annotated[
        str | None,
        msgspec.Meta(
            description="An absolute path of an image to use instead of the cube's: a file that `docker save` or"
            " `skopeo copy` wrote, or a directory with an OCI layout."
        ),
    ] = None

    def __post_init__(self) -> None:
        """A path that refers to nothing in particular would mean another image in each directory."""
        if self.archive is not None and not os.path.isabs(self.archive):
            raise ValueError("the option `archive` of runner `sandbox` must be an absolute path")

    def facts(self) -> tuple[Fact, ...]:
        """Who calls, whether bubblewrap works here, and who could have or fetch images."""
        return sandbox_facts(self.executable)

    def unusable(self, host: Host) -> tuple[str, str] | None:
        """No bubblewrap, or no leave to make namespaces."""
        return unusable(self.executable, host)

    def refuses(self, invocation: Invocation, host: Host) -> tuple[str, str] | None:
        """What no sandbox gives: limits that need cgroups, GPUs, other users, and images that nobody can build."""
        return (
            container.image_problem(invocation)
            or one_node_only(invocation)
            or _ungranted(invocation)
            or self._no_network(invocation, host)
            or _no_shared_memory(invocation, host)
            or images.unbuildable(invocation, host.get("here") or host, self.archive)
        )

    def prepare(self, invocation: Invocation, host: Host) -> Plan:
        """Unpack the image when it is not there: out of a local engine, an archive or a registry."""
        self._check_image(invocation)
        return images.prepare(invocation, host, self.archive)

    def configure(self, invocation: Invocation, host: Host) -> Plan:
        """Build or fetch again what could be newer."""
        self._check_image(invocation)
        return images.configure(invocation, host, self.archive)

    def run(self, invocation: Invocation, host: Host) -> Plan:
        """Run the task in namespaces of its own, which end with it."""
        if refusal := self.refuses(invocation, host):
            raise Refused(refusal[0], hint=refusal[1])
        folder = f"{invocation.scratch}.sandbox"
        argv = (
            *("/bin/sh", os.path.join(images.image_folder(invocation, host, self.archive), "launch")),
            *(host.get("sandbox", {}).get("executable", self.executable), folder),
            "task" if invocation.entrypoint else "image",
            *self._options(invocation, host),
            "--",
            *invocation.entrypoint,
            *(str(word) for word in invocation.arguments),
        )
        return Plan(
            steps=(command("mkdir", "-p", folder),),
            # Secrets come as its environment, which nobody else can read; everything else comes as options: what a
            # cube says (LD_PRELOAD, PATH) must not act on programs of the host.
            task=Command(argv=argv, clean=True, secrets=container.secret_variables(invocation)),
            always=(command("rm", "-rf", "--", folder),),
            stop=command("sh", "-c", _STOP, "sh", f"{folder}/started", quiet=True),
        )

    def identify(self, invocation: Invocation, host: Host) -> Fact | None:
        """The id of the image that was unpacked."""
        file = images.identity_file(invocation, host, self.archive)
        return Fact(name="image", argv=("cat", file), parse=parse_identity, files=(file,))

    def questions(self) -> tuple[Fact, ...]:
        """The host itself."""
        from mlcube import site

        return site.SITE, site.GPUS

    def checks(self, host: Host) -> "tuple[Check, ...]":
        """Bubblewrap, and where images could come from."""
        from mlcube_runners import _checks

        return _checks.sandbox(self.unusable(host), host)

    def sources(self, invocation: Invocation, host: Host) -> tuple[Fact, ...]:
        """What an engine may hold, else the registry."""
        from mlcube_runners._checks_images import engine_facts

        builds = invocation.python or (invocation.recipe and invocation.strategy != "pull")
        if self.archive or builds or invocation.image is None:
            return ()
        return engine_facts(host.get("image_sources") or (), invocation.image)

    def facts_here(self) -> tuple[Fact, ...]:
        """Where images are unpacked here, and who could have or fetch them."""
        return (caller_fact(), sources_fact())

    def transfer(self, invocation: Invocation, host: Host, *, anew: bool) -> Transfer:
        """How a placement brings an image to another host, which need have nothing but bubblewrap and tar."""
        self._check_image(invocation)
        return sandbox_transfer(invocation, host, self.archive, anew=anew)

    def _check_image(self, invocation: Invocation) -> None:
        if problem := container.image_problem(invocation):
            raise Refused(problem[0], hint=problem[1])

    def _options(self, invocation: Invocation, host: Host) -> Iterator[str]:
        caller = host.get("caller") or {}
        if caller.get("user") != 0:
            yield "--unshare-user"
        yield from NAMESPACES
        without_network = self._without_network(invocation)
        if without_network:
            yield "--unshare-net"
        yield from ("--die-with-parent", "--new-session", "--cap-drop", "ALL")
        if caller.get("user") == 0:
            yield from ("--cap-add", "CAP_DAC_OVERRIDE")  # root reads and writes files of others, here as everywhere
        yield from ("--proc", "/proc", "--dev", "/dev")
        if caller.get("user") == 0:
            for place in _KERNEL_SETTINGS:
                yield from ("--ro-bind-try", place, place)
        if (size := invocation.resources.shared_memory_bytes) is not None:
            yield from ("--size", str(size), "--tmpfs", "/dev/shm")  # noqa: S108 - a place in the sandbox
        yield from ("--ro-bind-try", "/sys/devices/system", "/sys/devices/system")  # how many processors, and where
        if not without_network:
            for file in _NETWORK_FILES:
                yield from ("--ro-bind-try", file, file)
        for mount in _mounts(invocation):
            yield from ("--bind" if mount.access == "rw" else "--ro-bind", mount.source, mount.target)
        yield from self.arguments
        yield from ("--remount-ro", "/")
        for name, value in invocation.task_environment().items():
            yield from ("--setenv", name, str(value))
        if invocation.directory is not None:
            yield from ("--chdir", invocation.directory)

    def _without_network(self, invocation: Invocation) -> bool:
        return (self.network if invocation.network in (None, "default") else invocation.network) == "none"

    def _no_network(self, invocation: Invocation, host: Host) -> tuple[str, str] | None:
        """A network of its own kind, or none where none cannot be had."""
        if invocation.network not in (None, "default", "host", "none"):
            return f"network `{invocation.network}` needs an engine that knows it", _ELSEWHERE
        if self._without_network(invocation) and not host.get("sandbox", {}).get("network_namespace", True):
            return "`network: none` cannot be enforced here: no network namespace can be made", _ELSEWHERE
        return None


def _mounts(invocation: Invocation) -> list[Mount]:
    """Scratch, parameters and secrets, such that what lies in another comes after it."""
    mounts = [Mount(invocation.scratch, "/tmp", "rw"), *invocation.mounts]  # noqa: S108 - a place in the sandbox
    mounts += [Mount(invocation.secret_path(one), one.mount) for one in invocation.secrets if one.mount is not None]
    normal = [Mount(mount.source, os.path.normpath(mount.target), mount.access) for mount in mounts]
    return sorted(normal, key=lambda mount: mount.target.count("/"))


def _ungranted(invocation: Invocation) -> tuple[str, str] | None:
    """The first thing asked for that a sandbox has not."""
    resources, task = invocation.resources, f"task `{invocation.task}`"
    if resources.gpus:
        return f"{task} needs GPUs, which a sandbox cannot hand on", _ELSEWHERE
    for field, value in (
        ("a memory limit", resources.memory_bytes),
        ("a limit of processors", resources.cpus),
        ("a set of processors", resources.cpu_set),
    ):
        if value is not None:
            return f"{task} has {field}, which a sandbox cannot enforce", f"{_ELSEWHERE}, or leave the limit out"
    if invocation.user == "image":
        return "`user: image` needs more than one user, and a sandbox has only you", _ELSEWHERE
    if invocation.security:
        return "security options are in the words of another engine", _ELSEWHERE
    if any(invocation.raw_arguments.values()):
        return "raw engine arguments need that engine", f"{_ELSEWHERE}, or take them out of the cube"
    return None


def _no_shared_memory(invocation: Invocation, host: Host) -> tuple[str, str] | None:
    if invocation.resources.shared_memory_bytes is None or host.get("sandbox", {}).get("sizes", True):
        return None
    return (
        f"task `{invocation.task}` says how much shared memory it has, and this bubblewrap cannot limit it",
        "install bubblewrap 0.7 or newer: `pip install 'mlcube[sandbox]'`",
    )
