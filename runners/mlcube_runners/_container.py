"""What docker and podman are told alike about a container: labels, environment, mounts, limits, words."""

from collections.abc import Iterator

from mlcube.invocation import Invocation, Mount
from mlcube_runners._mounts import csv_line, mount_argument

__all__ = [
    "BATCH_GPUS",
    "command_words",
    "container_name",
    "device_list",
    "entrypoint_argument",
    "environment_arguments",
    "full_name",
    "image_problem",
    "label_arguments",
    "limit_arguments",
    "mount_arguments",
    "secret_variables",
]


BATCH_GPUS = (
    "the GPUs that a batch system grants are known only on the node, and an engine with a daemon would hand on others",
    "use a platform whose `inner` is `singularity` or `local`",
)
"""Why neither docker nor podman runs a task with GPUs inside a batch job, and what to do."""


def container_name(invocation: Invocation) -> str:
    """The name under which the container can be stopped, by us or by the user."""
    return f"cube-{invocation.run_id}"


def label_arguments(invocation: Invocation) -> Iterator[str]:
    """Labels by which our containers are found: `docker ps --filter label=io.mlcube.run`."""
    yield f"--label=io.mlcube.run={invocation.run_id}"
    yield f"--label=io.mlcube.cube={invocation.cube}"
    yield f"--label=io.mlcube.task={invocation.task}"


def mount_arguments(invocation: Invocation) -> Iterator[str]:
    """The scratch directory as /tmp, the parameters' mounts, and the secrets that are files."""
    yield mount_argument(Mount(invocation.scratch, "/tmp", "rw"))  # noqa: S108 - a place in the container
    for mount in invocation.mounts:
        yield mount_argument(mount)
    for secret in invocation.secrets:
        if secret.mount is not None:
            yield mount_argument(Mount(invocation.secret_path(secret), secret.mount))


def environment_arguments(invocation: Invocation) -> Iterator[str]:
    """The task's environment. A secret is named only: the engine's client takes its value from its own environment."""
    for name, value in invocation.task_environment().items():
        yield f"--env={name}={value}"
    for name in secret_variables(invocation):
        yield f"--env={name}"


def secret_variables(invocation: Invocation) -> tuple[str, ...]:
    """The secrets that reach the task as environment variables."""
    return tuple(secret.name for secret in invocation.secrets if secret.mount is None)


def limit_arguments(invocation: Invocation, *, swap_limit: bool) -> Iterator[str]:
    """Memory, processors and shared memory."""
    resources = invocation.resources
    if resources.memory_bytes is not None:
        yield f"--memory={resources.memory_bytes}"
        if swap_limit:  # memory and swap together: without it as much again could be swapped
            yield f"--memory-swap={resources.memory_bytes}"
    if resources.cpus is not None:
        yield f"--cpus={resources.cpus:g}"
    if resources.cpu_set is not None:
        yield f"--cpuset-cpus={resources.cpu_set}"
    if resources.shared_memory_bytes is not None:
        yield f"--shm-size={resources.shared_memory_bytes}"


def device_list(devices: tuple[str, ...]) -> str:
    """Devices as one field of CSV, which is what `--gpus` reads.

    >>> device_list(("0", "1"))
    '"device=0,1"'
    """
    return csv_line([f"device={','.join(devices)}"])


def entrypoint_argument(invocation: Invocation) -> Iterator[str]:
    """The first word of the task's entrypoint, when it has one of its own."""
    if invocation.entrypoint:
        yield f"--entrypoint={invocation.entrypoint[0]}"


def command_words(invocation: Invocation) -> tuple[str, ...]:
    """What stands after the image: the entrypoint's further words, then the arguments."""
    return (*invocation.entrypoint[1:], *(str(word) for word in invocation.arguments))


def full_name(image: str) -> str:
    """The name with the registry that cubes mean when they name none. Not every tool knows it: some search, or ask.

    >>> full_name("python:3.11"), full_name("example.org/a"), full_name("mlcommons/hello_world")
    ('docker.io/library/python:3.11', 'example.org/a', 'docker.io/mlcommons/hello_world')
    """
    first, slash, _ = image.partition("/")
    if not slash:
        return f"docker.io/library/{image}"
    return image if "." in first or ":" in first or first == "localhost" else f"docker.io/{image}"


def image_problem(invocation: Invocation) -> tuple[str, str] | None:
    """Why no container can be started for it on any engine, and what to do."""
    image = invocation.image
    if not image:
        return (
            "the cube names no image",
            "add `docker: {image: NAME}` to its mlcube.yaml, or a `python:` section, or use `--platform local`",
        )
    base = invocation.python.image if invocation.python else None
    for reference in (image, base):
        if reference is not None and not _is_reference(reference):
            return f"`{reference}` is no image reference", "write it as `registry.example.org/name:tag`"
    if invocation.entrypoint and not invocation.entrypoint[0]:
        return (
            f"the entrypoint of task `{invocation.task}` begins with an empty word",
            "name a program: `entrypoint: python main.py`",
        )
    return None


def _is_reference(text: str) -> bool:
    """Whether it may stand in an argument vector or a Dockerfile: it is no option, and one word."""
    return text[0:1].isalnum() and all(character.isalnum() or character in "._-/:@" for character in text)
