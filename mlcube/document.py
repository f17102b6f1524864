"""The shape of `mlcube.yaml`, declared once: validation and the JSON Schema for editors come from it.

What the shape means is in `cube`; how one becomes the other is in `reading`.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

__all__ = ["CubeFile"]

Text = Annotated[str | int | float, Meta(description="Text; a number stands for itself as it is written.")]
Flags = Annotated[
    str | list[str],
    Meta(description="Engine arguments, as text or as a list. Understood as neutral needs, never passed on."),
]
Size = Annotated[
    int | float | str,
    Meta(description="An amount: bytes, or a number with a unit as in `512MiB`, `4GB`, `12g`.", examples=["4GiB"]),
]


class ParameterFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A named input or output of a task."""

    type: Annotated[
        Literal["file", "directory", "string", "integer", "float", "boolean"] | None,
        Meta(
            description="What it is. Without a type, a final slash in the default means a directory; otherwise "
            "the workspace decides."
        ),
    ] = None
    default: Annotated[
        str | int | float | bool | None,
        Meta(
            description="The path, relative to the workspace, or the value of a scalar. Without it, a path is "
            "named like the parameter and a scalar must be given."
        ),
    ] = None
    opts: Annotated[
        Literal["ro", "rw"] | None,
        Meta(description="How an input is mounted: read-only (`ro`, the default) or read-write (`rw`)."),
    ] = None
    optional: Annotated[bool, Meta(description="Leave the argument out when the input is not there.")] = False
    mount: Annotated[
        str | None,
        Meta(description="The place in the container, instead of `/mlcube_io<N>`.", examples=["/data/images"]),
    ] = None
    choices: Annotated[
        list[str | int | float | bool] | None, Meta(description="The values that a scalar may have.")
    ] = None
    minimum: Annotated[int | float | None, Meta(description="The least value of a number.")] = None
    maximum: Annotated[int | float | None, Meta(description="The greatest value of a number.")] = None
    pattern: Annotated[str | None, Meta(description="A regular expression that the whole of a string must match.")] = (
        None
    )
    description: Annotated[Text | None, Meta(description="What it is for, in a sentence.")] = None


Parameters = dict[str, ParameterFile | str | None]


class ParametersFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The inputs and outputs of a task."""

    inputs: Annotated[
        Parameters | None,
        Meta(description="What the task reads. A text is the default path; nothing means a path named like the key."),
    ] = None
    outputs: Annotated[Parameters | None, Meta(description="What the task writes.")] = None


class ResourcesFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a task needs. A platform honours it or refuses the run."""

    gpus: Annotated[
        int | str | list[int | str] | None,
        Meta(description="How many GPUs, `all`, or a list of indices or UUIDs.", examples=[1, "all", [0, 2]]),
    ] = None
    cpus: Annotated[int | float | None, Meta(description="How many processors it may use at once.", examples=[4])] = (
        None
    )
    memory: Annotated[Size | None, Meta(description="The limit beyond which it is killed.", examples=["8GiB"])] = None
    shared_memory: Annotated[
        Size | None, Meta(description="The size of /dev/shm, for data loaders of several processes.", examples=["2GiB"])
    ] = None
    disk: Annotated[Size | None, Meta(description="What must be free where the workspace lies.", examples=["50GB"])] = (
        None
    )
    nodes: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(
            description="On how many nodes it starts at once, each time with all of the above; `CUBE_RANK` tells which "
            "it is. By default one.",
            examples=[2],
        ),
    ] = None
    time_limit: Annotated[
        int | float | str | None,
        Meta(description="When it is stopped: seconds, `90s`, `2h30m` or `HH:MM:SS`.", examples=["2h"]),
    ] = None


class SecretFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value that the user supplies at run time."""

    mount: Annotated[
        str | None,
        Meta(description="The file that holds it; without it, an environment variable.", examples=["/run/secrets/key"]),
    ] = None
    optional: Annotated[bool, Meta(description="Run also without it.")] = False
    description: Annotated[Text | None, Meta(description="What it is for, in a sentence.")] = None


class TaskFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One named thing that the cube can do."""

    description: Annotated[Text | None, Meta(description="What it does, in a sentence.")] = None
    parameters: Annotated[ParametersFile | None, Meta(description="Its inputs and outputs.")] = None
    entrypoint: Annotated[
        str | list[str] | None,
        Meta(
            description="What to run instead of the image's own entrypoint: words (quotes are respected), or a list.",
            examples=["python3 /workspace/train.py"],
        ),
    ] = None
    environment: Annotated[
        dict[str, str | int | float | bool] | None, Meta(description="Variables of its environment.")
    ] = None
    resources: Annotated[ResourcesFile | None, Meta(description="What it needs.")] = None
    network: Annotated[
        Literal["none", "default", "host"] | None,
        Meta(description="`none`: no network at all. `host` needs the user's consent (`--trust`)."),
    ] = None
    secrets: Annotated[
        list[str] | dict[str, SecretFile | None] | None,
        Meta(description="Names of values that the user supplies at run time, as environment or mounted file."),
    ] = None


class PlatformFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the machine must have, for every task."""

    accelerator_count: Annotated[
        Annotated[int, Meta(ge=0)] | None, Meta(description="How many GPUs every task needs.")
    ] = None
    accelerator_maker: Annotated[Text | None, Meta(description="For the reader.")] = None
    accelerator_model: Annotated[Text | None, Meta(description="For the reader.")] = None
    host_memory_gb: Annotated[int | float | None, Meta(description="The memory that the machine must have, in GB.")] = (
        None
    )
    host_disk_space_gb: Annotated[
        int | float | None, Meta(description="What must be free where the workspace lies, in GB.")
    ] = None
    need_internet_access: Annotated[bool | None, Meta(description="False: every task runs without a network.")] = None


Values = dict[str, str | int | float | bool | None] | str


class DockerFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The container image, and how it is built."""

    image: Annotated[str | None, Meta(description="Name of the image.", examples=["mlcommons/mnist:0.0.1"])] = None
    build_context: Annotated[
        str | None, Meta(description="Folder that the image is built from, relative to the cube. Default `.`")
    ] = None
    build_file: Annotated[
        str | None, Meta(description="The Dockerfile, relative to build_context. Default `Dockerfile`")
    ] = None
    build_strategy: Annotated[
        Literal["pull", "auto", "always"] | None,
        Meta(description="`auto` (the default) builds or pulls what is missing, `pull` never builds, `always` does."),
    ] = None
    build_args: Annotated[Values | None, Meta(description="Arguments of the Dockerfile.")] = None
    env_args: Annotated[Values | None, Meta(description="Variables of every task's environment.")] = None
    cpu_args: Annotated[Flags | None, Meta(description="Engine arguments when no GPU is asked for.")] = None
    gpu_args: Annotated[Flags | None, Meta(description="Engine arguments when GPUs are asked for.")] = None
    docker: Annotated[
        str | None, Meta(description="Has no effect: which executable to use is the machine's own matter.")
    ] = None
    port: Annotated[Any, Meta(description="Has no effect.")] = None


class SingularityFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The image for Singularity or Apptainer, where it is not the one of `docker`."""

    image: Annotated[str | None, Meta(description="A SIF file in image_dir, or a `docker://` reference.")] = None
    image_dir: Annotated[str | None, Meta(description="Where the SIF file lies.")] = None
    build_file: Annotated[str | None, Meta(description="Definition file, or a `docker://` reference to convert.")] = (
        None
    )
    build_args: Annotated[Flags | None, Meta(description="Has no effect: building needs no privilege here.")] = None
    run_args: Annotated[Flags | None, Meta(description="Engine arguments.")] = None
    singularity: Annotated[
        str | None, Meta(description="Has no effect: which executable to use is the machine's own matter.")
    ] = None


class PythonFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A Python environment: a virtual environment on `local`, a generated image elsewhere; no Dockerfile."""

    version: Annotated[
        Text | None, Meta(description="The versions that the code works with. Default `>=3.10`.", examples=[">=3.10"])
    ] = None
    requirements: Annotated[
        str | list[str] | None,
        Meta(description="A requirements file in the cube, or a list.", examples=[["numpy>=1.26"]]),
    ] = None
    source: Annotated[
        str | None, Meta(description="Folder of the code, relative to the cube; tasks start there. Default `.`")
    ] = None
    image: Annotated[
        str | None, Meta(description="Base image; by default the official one of the lowest version admitted.")
    ] = None
    entrypoint: Annotated[
        str | list[str] | None,
        Meta(description="What runs a task that has no entrypoint: its first argument is the task's name."),
    ] = None


class CubeFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A cube: a model's tasks, their inputs and outputs, and what they need."""

    name: Annotated[Text | None, Meta(description="The cube's name. Default: the folder's.")] = None
    version: Annotated[Text | None, Meta(description="The cube's version.", examples=["1.0.0"])] = None
    description: Annotated[Text | None, Meta(description="What the model does, in a sentence.")] = None
    authors: Annotated[
        list[str | dict[str, Any]] | str | None,
        Meta(description="Who made it: names, or mappings with `name` and `email`."),
    ] = None
    license: Annotated[str | None, Meta(description="Licence, as an SPDX expression.", examples=["Apache-2.0"])] = None
    links: Annotated[
        dict[str, str] | None, Meta(description="Addresses by name.", examples=[{"paper": "https://example.org/paper"}])
    ] = None
    platform: Annotated[PlatformFile | None, Meta(description="What the machine must have.")] = None
    docker: Annotated[DockerFile | None, Meta(description="The container image.")] = None
    singularity: Annotated[SingularityFile | None, Meta(description="The image for Singularity or Apptainer.")] = None
    python: Annotated[PythonFile | None, Meta(description="A Python environment instead of an image.")] = None
    tasks: Annotated[dict[str, TaskFile | None], Meta(description="What the cube can do, by name.", min_length=1)]
