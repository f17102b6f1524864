"""What a cube means: tasks, parameters, image or environment, needs. Frozen, no I/O, no engine."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from mlcube.errors import Position

__all__ = [
    "SOURCE",
    "Access",
    "Cube",
    "Gpus",
    "Image",
    "Parameter",
    "ParameterType",
    "PythonEnvironment",
    "RawNeeds",
    "Recipe",
    "Refusal",
    "Resources",
    "Secret",
    "Task",
]

SOURCE = "/mlcube/source"
"""Where the code of a `python:` cube lies in its image."""

Access = Literal["ro", "rw"]
ParameterType = Literal["file", "directory", "string", "integer", "float", "boolean"]
Scalar = str | int | float | bool
Gpus = int | Literal["all", "granted"] | tuple[str, ...]
"""How many devices, all of them, or the named ones (indices or UUIDs).

`granted` is said by no cube and no user: those that a batch system names in CUDA_VISIBLE_DEVICES where the task starts.
"""


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """A named input or output of a task."""

    name: str
    direction: Literal["input", "output"]
    type: ParameterType | None = None
    """None: decided by looking at the workspace when the task is bound."""
    default: Scalar | None = None
    """None: the parameter's name is the path; a scalar without a default must be given."""
    access: Access | None = None
    """What `opts` says; None: read-only for inputs, read-write for outputs."""
    optional: bool = False
    mount: str | None = None
    """The place in the container, instead of `/mlcube_io<N>`."""
    choices: tuple[Scalar, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    pattern: str | None = None
    description: str | None = None

    @property
    def scalar(self) -> bool:
        """Whether the value is passed as it is, not as a path."""
        return self.type in ("string", "integer", "float", "boolean")

    @property
    def variable(self) -> str:
        """The variable of the task's environment that holds its value."""
        import re

        return f"CUBE_{self.direction.upper()}_{re.sub(r'[^A-Za-z0-9]', '_', self.name).upper()}"


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """What a task needs or is limited to. None: nothing was said."""

    gpus: Gpus | None = None
    cpus: float | None = None
    """How many processors the task may use at once."""
    cpu_set: str | None = None
    """Which processors, as in `0-3,7`."""
    memory_bytes: int | None = None
    """The limit beyond which the task is killed."""
    shared_memory_bytes: int | None = None
    """The size of /dev/shm."""
    disk_bytes: int | None = None
    """What must be free where the workspace lies."""
    host_memory_bytes: int | None = None
    """What the machine must have; no limit."""
    nodes: int | None = None
    """On how many nodes it starts at once, if that is more than one. The other amounts are those of each node."""
    timeout_seconds: float | None = None


class Secret(msgspec.Struct, frozen=True, kw_only=True):
    """A value that the user supplies at run time and that is written nowhere else."""

    name: str
    mount: str | None = None
    """The file in the container that holds it; None: an environment variable of the same name."""
    optional: bool = False
    from_environment: bool = True
    """Whether the user's variable of that name may be its value without being asked for."""
    description: str | None = None


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """What would open the host, as some raw engine arguments do; nothing runs without the user's consent."""

    message: str
    position: Position | None = None


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """How an image is built from a Dockerfile."""

    context: str
    """Absolute path of the build context."""
    file: str
    """Absolute path of the Dockerfile."""
    arguments: Mapping[str, str] = msgspec.field(default_factory=dict)


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """The container image of a cube, and how it comes to be there."""

    reference: str
    recipe: Recipe | None = None
    strategy: Literal["pull", "auto", "always"] = "auto"
    refused: tuple[Refusal, ...] = ()
    """Why it may not be built without the user's consent."""


class PythonEnvironment(msgspec.Struct, frozen=True, kw_only=True):
    """A Python environment of which a virtual environment and an image can be made."""

    version: str
    """Version range, as in `>=3.10,<3.13`."""
    requirements: str = ""
    """The text of the requirements file."""
    source: str
    """Absolute path of the folder with the code."""
    excluded: tuple[str, ...] = ()
    """Names at the top of that folder that are no code: the cube's own workspace, where it lies there."""
    image: str | None = None
    """The base image; None: `python:<lowest admitted version>-slim`."""
    entrypoint: tuple[str, ...] = ()
    """What runs the tasks that have no entrypoint of their own."""


class RawNeeds(msgspec.Struct, frozen=True, kw_only=True):
    """What raw engine arguments were understood to ask for."""

    resources: Resources = Resources()
    environment: Mapping[str, str] = msgspec.field(default_factory=dict)
    secrets: tuple[Secret, ...] = ()
    network: str | None = None
    mounts: tuple[tuple[str, str, Access], ...] = ()
    """Source, target and access; only there with the user's consent."""
    raw_arguments: Mapping[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    """What has no neutral meaning, by engine; only there with the user's consent."""
    refused: tuple[Refusal, ...] = ()


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One named thing that a cube can do."""

    name: str
    description: str | None = None
    inputs: tuple[Parameter, ...] = ()
    outputs: tuple[Parameter, ...] = ()
    entrypoint: tuple[str, ...] = ()
    """Empty: the image's own entrypoint, and the arguments begin with the task's name."""
    command: tuple[str, ...] | None = None
    """MedPerf's containers get these words instead of the task's name and the parameters."""
    environment: Mapping[str, str] = msgspec.field(default_factory=dict)
    resources: Resources = Resources()
    network: str | None = None
    """`none`, `default`, `host`, or a network that only the engine knows; None: the platform's default."""
    secrets: tuple[Secret, ...] = ()
    refused: tuple[Refusal, ...] = ()
    """What opens the host, where the user did not consent."""

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Inputs, then outputs, each in the order of the file."""
        return self.inputs + self.outputs


class Cube(msgspec.Struct, frozen=True, kw_only=True):
    """A directory with an `mlcube.yaml`, understood."""

    name: str
    file: str
    """Absolute path of the file that was read."""
    root: str
    """Absolute path of the directory to which recipes and sources refer."""
    digest: str
    """`sha256:...` of the file's content, with what was set on the command line; paths stay out of it."""
    version: str | None = None
    description: str | None = None
    authors: tuple[str, ...] = ()
    license: str | None = None
    links: Mapping[str, str] = msgspec.field(default_factory=dict)
    tasks: Mapping[str, Task]
    image: Image | None = None
    singularity: Mapping[str, Any] = msgspec.field(default_factory=dict)
    """The `singularity:` section as it stands in the file, for the runner of that name."""
    python: PythonEnvironment | None = None
    cpu_needs: RawNeeds = RawNeeds()
    """What the raw arguments ask for when no GPU is."""
    gpu_needs: RawNeeds = RawNeeds()
    """What they ask for when GPUs are."""
    trusted: bool = False
    """Whether the user lets it do what needs consent."""
    where: Callable[[tuple[str | int, ...]], Position] = lambda key: Position(".".join(map(str, key)))
    """Tells where the value at a place of the file was written, or its nearest parent."""

    @property
    def internal_workspace(self) -> str:
        """The workspace that lies in the cube."""
        import os.path

        return os.path.join(self.root, "workspace")

    def position(self, *key: str | int) -> Position:
        """Where a value was written, or its nearest parent that was."""
        return self.where(key)
