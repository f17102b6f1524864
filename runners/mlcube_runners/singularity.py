"""Apptainer or Singularity: containers for people without root, without a daemon, from SIF files in a shared cache."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar

import msgspec

from mlcube.errors import Refused
from mlcube.invocation import Invocation, Mount
from mlcube.plan import Command, Plan, command
from mlcube.runner import Answer, Fact, Host, Transfer
from mlcube_runners import _singularity_needs as needs
from mlcube_runners._mounts import mount_argument
from mlcube_runners._ranks import one_node_only
from mlcube_runners._singularity_cache import ENVIRONMENT, Cache, Image
from mlcube_runners._singularity_host import facts, facts_here, unusable
from mlcube_runners._singularity_images import find_image, source_mount
from mlcube_runners._singularity_transfer import singularity_transfer

if TYPE_CHECKING:
    from mlcube.checking import Check

__all__ = ["SingularityRunner"]

_IN_THE_IMAGE_S_DIRECTORY = """\
directory=; [ ! -r "$1/directory" ] || read -r directory <"$1/directory"
executable=$2 verb=$3; shift 3
set -- "$executable" --silent "$verb" --pwd "${directory:-/}" "$@"
"""
"""PLACE EXECUTABLE VERB ARGUMENT...: Apptainer keeps the WORKDIR of an image, and does not go there."""

_KILL = """\
grep -lszxF -- "CUBE_RUN_ID=$1" /proc/[0-9]*/environ | while IFS=/ read -r _ _ process _; do
  kill -KILL "$process" 2>/dev/null
done
:
"""
"""RUN: the task's processes, not the engine's, which then ends in order and takes its FUSE mounts with it."""


_SWEEP = """\
helpers= engines=" "
for process in /proc/[0-9]*; do
  [ -O "$process" ] && read -r _ name state _ _ session _ <"$process/stat" && [ "$state" != Z ] || continue
  case $name in
    "(squashfuse"* | "(fuse-overlayfs)" | "(fuse2fs)") helpers="$helpers ${process#/proc/}:$session" ;;
    "(starter"* | "(apptainer)" | "(singularity)") engines="$engines$session " ;;
  esac
done 2>/dev/null
for helper in $helpers; do
  case $engines in *" ${helper#*:} "*) ;; *) kill -KILL "${helper%:*}" 2>/dev/null ;; esac
done
:
"""
"""What serves the files of a container stays if its engine is ended before it could see to that: then there is no
engine any more in its session."""


class SingularityRunner(msgspec.Struct, frozen=True, kw_only=True):
    """Runs tasks with Apptainer or Singularity, whichever is installed, as the calling user."""

    requires: ClassVar[tuple[str, ...]] = ("apptainer", "singularity")

    executable: Annotated[
        str | None,
        msgspec.Meta(description="The command: a name on PATH, or a path. Else `apptainer` or `singularity`."),
    ] = None
    arguments: Annotated[
        tuple[str, ...],
        msgspec.Meta(description="Further arguments of `apptainer exec`, one word each, as in `[--fakeroot]`."),
    ] = ()
    cache: Annotated[
        str | None, msgspec.Meta(description="Where SIF files are kept, perhaps for a whole group. Else in the cache.")
    ] = None

    def facts(self) -> tuple[Fact, ...]:
        """The engine and what works with it, where images could come from, and GPUs."""
        return facts(self._executables)

    def unusable(self, host: Host) -> tuple[str, str] | None:
        """No engine, one that is too old, or none that can start a container here."""
        return unusable(self._executables, host)

    def refuses(self, invocation: Invocation, host: Host) -> tuple[str, str] | None:
        """What could not be enforced or provided."""
        try:
            self._image(invocation, host)
        except Refused as refused:
            return refused.problems[0].message, refused.hint or ""
        return one_node_only(invocation) or needs.lacking(invocation, host)

    def prepare(self, invocation: Invocation, host: Host) -> Plan:
        """Convert the image into a SIF file, unless that is there."""
        image = self._image(invocation, host)
        return Plan(steps=image.steps, always=image.always)

    def configure(self, invocation: Invocation, host: Host) -> Plan:
        """Convert again what could be newer."""
        image = self._image(invocation, host, anew=True)
        return Plan(steps=image.steps, always=image.always)

    def run(self, invocation: Invocation, host: Host) -> Plan:
        """Run the task in a container that ends with it: all its processes are in a namespace of its own."""
        if refusal := self.refuses(invocation, host):
            raise Refused(refusal[0], hint=refusal[1])
        image = self._image(invocation, host)
        verb = "exec" if invocation.entrypoint else "run"
        arguments = (
            *self._container_arguments(invocation, host, image),
            *invocation.raw_arguments.get("singularity", ()),
            *self.arguments,
            image.file,
            *invocation.entrypoint,
            *(str(word) for word in invocation.arguments),
        )
        secrets = tuple(secret.name for secret in invocation.secrets if secret.mount is None)
        secrets += needs.inherited_variables(invocation)
        return Plan(
            task=Command(
                argv=self._command(invocation, image, (verb, *arguments), secrets, host),
                environment=self._environment(invocation, host, image),
                clean=True,
                secrets=secrets,
            ),
            otherwise=(command("sh", "-c", _SWEEP, quiet=True),),
            kill=command("sh", "-c", f"{_KILL}{_SWEEP}", "sh", invocation.run_id, quiet=True),
        )

    def identify(self, invocation: Invocation, host: Host) -> Fact | None:
        """The digest of the SIF file."""
        image = self._image(invocation, host)
        if image.identity is not None:
            return Fact(name="image", argv=image.identity.argv, parse=_parse_identity)
        known = f"{image.place}/identity" if image.place else ""
        script = 'cat "$1" 2>/dev/null || sha256sum <"$2"'
        return Fact(name="image", argv=("sh", "-c", script, "sh", known, image.sif), parse=_parse_identity)

    def questions(self) -> tuple[Fact, ...]:
        """The host itself."""
        from mlcube import site

        return site.SITE, site.GPUS

    def checks(self, host: Host) -> "tuple[Check, ...]":
        """The engine, and what works with it."""
        from mlcube_runners import _checks

        return _checks.singularity(self.unusable(host), host)

    def sources(self, invocation: Invocation, host: Host) -> tuple[Fact, ...]:
        """What an engine may hold, else the registry."""
        from mlcube_runners._checks_images import engine_facts

        reference = self._image(invocation, host).reference
        builders = tuple((host.get("image_sources") or {}).get("builders") or ())
        if reference is None or (builders and invocation.recipe and invocation.strategy != "pull"):
            return ()
        return engine_facts(builders, reference)

    def facts_here(self) -> tuple[Fact, ...]:
        """Whether there is an engine to convert images with, and where they could come from."""
        return facts_here(self.requires)

    def transfer(self, invocation: Invocation, host: Host, *, anew: bool) -> Transfer | None:
        """How a placement brings a SIF file, or what it is made of, to another host."""
        return singularity_transfer(invocation, self._cache(invocation, host, anew=anew), host, anew=anew)

    @property
    def _executables(self) -> tuple[str, ...]:
        return (self.executable,) if self.executable else self.requires

    def _executable(self, host: Host) -> str:
        found: str = (host.get("singularity") or {}).get("executable") or self._executables[0]
        return found

    def _directory(self, host: Host) -> str:
        cache = (host.get("singularity") or {}).get("cache")
        directory = self.cache or (f"{cache}/images" if cache else "")
        if not directory.startswith("/"):
            raise Refused("no directory for SIF files is known", hint="set the option `cache` to an absolute path")
        return directory

    def _image(self, invocation: Invocation, host: Host, *, anew: bool = False) -> Image:
        return find_image(invocation, self._cache(invocation, host, anew=anew))

    def _cache(self, invocation: Invocation, host: Host, *, anew: bool = False) -> Cache:
        engine, sources = host.get("singularity") or {}, host.get("image_sources") or {}
        here = host.get("here")
        return Cache(
            directory=self._directory(host),
            executable=self._executable(host),
            builders=tuple(sources.get("builders", ())),
            spython=sources.get("spython"),
            unpack="executable" in engine and "sif" not in engine["works"],
            run_id=invocation.run_id,
            anew=anew,
            origin=(here.get("root") or "", here["workspace"]) if here else None,
        )

    def _command(
        self,
        invocation: Invocation,
        image: Image,
        arguments: tuple[str, ...],
        secrets: tuple[str, ...],
        host: Host,
    ) -> tuple[str, ...]:
        """The engine's argument vector; behind a shell where something is known only when it starts."""
        prefix, executable = _prefix(host), self._executable(host)
        script = "".join(
            f'[ -z "${{{name}+set}}" ] || export {prefix}{name}="${name}"; unset {name}\n' for name in secrets
        )
        words: tuple[str, ...] = (executable, "--silent", *arguments)
        if invocation.directory is None and image.place:
            script += _IN_THE_IMAGE_S_DIRECTORY
            words = (image.place, executable, *arguments)
        return ("sh", "-c", f'{script}exec "$@"', "sh", *words) if script else words

    def _container_arguments(self, invocation: Invocation, host: Host, image: Image) -> Iterator[str]:
        engine = host.get("singularity") or {}
        yield from ("--containall", "--cleanenv", "--no-eval")
        if "overlay" in engine.get("works", ("overlay",)):
            yield "--writable-tmpfs"  # as elsewhere, a task may write where its image lets it, and nothing stays
        if engine.get("user") == 0:
            # As elsewhere, root keeps one capability, and so reads and writes files of others.
            yield from ("--no-privs", "--add-caps=CAP_DAC_OVERRIDE")
        yield from (f"--security={option}" for option in invocation.security)
        if needs.asked_network(invocation) == "none":
            yield from ("--net", "--network=none")
        if invocation.directory is not None or not image.place:
            yield f"--pwd={invocation.directory or '/'}"  # of a SIF file of the user's own, no other is known
        # The home is one in memory, below /tmp, on which the run's own /tmp with its home is then mounted.
        yield f"--home={invocation.task_environment()['HOME']}"
        yield mount_argument(Mount(invocation.scratch, "/tmp", "rw"))  # noqa: S108 - a place in the container
        source = source_mount(invocation.python, invocation.source_digest, self._directory(host))
        if source is not None:
            yield mount_argument(source)
        if image.environment is not None:
            yield mount_argument(Mount(f"{image.environment}/environment", ENVIRONMENT))
        for mount in invocation.mounts:
            yield mount_argument(mount)
        for secret in invocation.secrets:
            if secret.mount is not None:
                yield mount_argument(Mount(invocation.secret_path(secret), secret.mount))
        yield from needs.limit_arguments(invocation)
        yield from needs.gpu_arguments(invocation, host)

    def _environment(self, invocation: Invocation, host: Host, image: Image) -> dict[str, str]:
        """What the engine needs, and the task's variables under the names by which the engine passes them on."""
        task = {
            **needs.section_needs(invocation).environment,
            **{name: str(word) for name, word in invocation.task_environment().items()},
            **needs.gpu_variables(invocation, host),
        }
        if image.environment is not None:
            task["PREPEND_PATH"] = f"{ENVIRONMENT}/bin"  # the engine puts it before the image's own PATH
        own = (host.get("singularity") or {}).get("environment", {})
        return {**own, **{f"{_prefix(host)}{name}": value for name, value in task.items() if name != "HOME"}}


def _prefix(host: Host) -> str:
    version = (host.get("singularity") or {}).get("version", "apptainer")
    return "APPTAINERENV_" if version.startswith("apptainer") else "SINGULARITYENV_"


def _parse_identity(answer: Answer) -> dict[str, object] | None:
    words = answer.output.split()
    if answer.status or not words:
        return None
    return {"id": f"sha256:{words[0].removeprefix('sha256:')}", "digests": []}
