"""One task of one cube, bound to concrete arguments, paths and needs: all that a runner needs to know."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from mlcube.cube import Access, PythonEnvironment, Recipe, Resources, Secret
from mlcube.errors import Problem

__all__ = ["Invocation", "Mount", "Parameter", "Word"]


class Word(msgspec.Struct, frozen=True):
    """One word of a command line or one value of an environment: text, and perhaps a place in the container.

    Kept apart, so that a runner without containers can translate the place and never touches the text.

    >>> str(Word("--data=", "/mlcube_io0/x"))
    '--data=/mlcube_io0/x'
    """

    text: str
    path: str | None = None

    def __str__(self) -> str:
        return self.text + (self.path or "")


class Mount(msgspec.Struct, frozen=True):
    """A file or directory of the host (`source`) that the task sees at `target`. Both absolute."""

    source: str
    target: str
    access: Access = "ro"


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """A path parameter as it was bound."""

    name: str
    direction: Literal["input", "output"]
    type: Literal["file", "directory"]
    path: str
    """On the host, where the user finds it."""
    staged: str | None = None
    """On the host, where the task writes it, when that is another place."""
    target: str
    """In the container."""
    optional: bool = False
    created: bool = False
    """An output file that must exist before the task, because it is mounted itself."""


class Invocation(msgspec.Struct, frozen=True, kw_only=True):
    """What a task needs, engine-neutral; the same on every platform, and so is its digest."""

    cube: str
    """The cube's name."""
    task: str
    run_id: str
    """Unique; names containers, jobs and the run's directory. No part of the digest."""
    digest: str = ""
    workspace: str
    """Absolute path on the host."""
    root: str | None = None
    """Absolute path of the cube's directory, to which files that the cube names refer. No part of the digest."""
    scratch: str
    """A directory of this run alone on the host, which becomes /tmp. No part of the digest."""
    image: str | None = None
    recipe: Recipe | None = None
    strategy: Literal["pull", "auto", "always"] = "auto"
    python: PythonEnvironment | None = None
    source_digest: str | None = None
    """Hex sha256 of the code of a `python:` cube; names the image made of it."""
    singularity: Mapping[str, Any] = msgspec.field(default_factory=dict)
    entrypoint: tuple[str, ...] = ()
    arguments: tuple[Word, ...] = ()
    mounts: tuple[Mount, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    copies: tuple[tuple[str, str], ...] = ()
    """What is copied from the cube's own workspace into another one first: source and target on the host."""
    environment: Mapping[str, Word] = msgspec.field(default_factory=dict)
    """What the task sees besides HOME, TMPDIR and CUBE_RUN_ID, which every runner adds (see task_environment)."""
    directory: str | None = None
    """The working directory in the container; None: the image's own."""
    resources: Resources = Resources()
    network: str | None = None
    user: Literal["caller", "image"] = "caller"
    security: tuple[str, ...] = ()
    """The user's own security options, in the engine's words."""
    secrets: tuple[Secret, ...] = ()
    raw_arguments: Mapping[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    warnings: tuple[Problem, ...] = ()
    """What the user should know before it runs. No part of the digest."""

    def task_environment(self) -> dict[str, Word]:
        """Everything that the task's environment holds, secrets aside."""
        return {
            "HOME": Word("", "/tmp/home"),  # noqa: S108 - a place in the container
            "TMPDIR": Word("", "/tmp"),  # noqa: S108
            "CUBE_RUN_ID": Word(self.run_id),
            **self.environment,
        }

    def secret_path(self, secret: Secret) -> str:
        """Where on the host a secret that is mounted as a file lies while the task runs."""
        return f"{self.scratch}.secrets/{secret.name}"

    def relocated(self, moved: Callable[[str], str]) -> "Invocation":
        """The same where every path of the host is another one, as `moved` says. The digest stays."""
        replace = msgspec.structs.replace
        recipe, python = self.recipe, self.python
        return replace(
            self,
            workspace=moved(self.workspace),
            root=moved(self.root) if self.root else None,
            scratch=moved(self.scratch),
            recipe=recipe and replace(recipe, context=moved(recipe.context), file=moved(recipe.file)),
            python=python and replace(python, source=moved(python.source)),
            mounts=tuple(replace(mount, source=moved(mount.source)) for mount in self.mounts),
            parameters=tuple(
                replace(each, path=moved(each.path), staged=moved(each.staged) if each.staged else None)
                for each in self.parameters
            ),
            copies=(),
        )

    @property
    def outputs(self) -> tuple[Parameter, ...]:
        """The path parameters that the task writes."""
        return tuple(parameter for parameter in self.parameters if parameter.direction == "output")

    def as_json(self) -> dict[str, Any]:
        """The invocation as `cube run --dry-run --json` prints it and the record keeps it."""
        return {
            "task": self.task,
            "image": self.image,
            "entrypoint": list(self.entrypoint),
            "arguments": [str(word) for word in self.arguments],
            "mounts": [msgspec.structs.asdict(mount) for mount in self.mounts],
            "environment": {key: str(value) for key, value in self.environment.items()},
            "resources": {
                key: value for key, value in msgspec.structs.asdict(self.resources).items() if value is not None
            },
            "network": self.network,
            "user": self.user,
            "directory": self.directory,
            "secrets": [secret.name for secret in self.secrets],
            "digest": self.digest,
        }
