"""How an engine that reads Dockerfiles is told to build a cube's image, and what else belongs to having one."""

from collections.abc import Callable
from typing import Any

import msgspec

from mlcube.errors import Refused
from mlcube.invocation import Invocation
from mlcube.plan import Command, Step, command
from mlcube.runner import Answer, Host
from mlcube_runners._mounts import csv_line
from mlcube_runners._python_image import context_directory, hint_after_build, write_context

__all__ = ["PODMAN_BUILD", "build_steps", "clean_steps", "image_lock", "parse_identity", "podman_file"]

PODMAN_BUILD = ("podman", "build", "--format=docker")
"""Docker's format, because OCI's has no place for the Dockerfile's SHELL and HEALTHCHECK."""

_AFTER_BUILD = "if an image after `FROM` cannot be pulled, name another there; or log in: `docker login REGISTRY`"


def build_steps(
    invocation: Invocation,
    first: tuple[str, ...],
    *,
    written: Callable[[str], str] = lambda path: path,
    recipe_hint: str = _AFTER_BUILD,
    **command_fields: Any,
) -> tuple[Step, ...]:
    """The steps that build the image, of a `python:` section or of a Dockerfile.

    `first` is what the command begins with, as `docker build`; `written`: how the value of `--file` is written;
    `recipe_hint`: what to do when a Dockerfile cannot be built; `command_fields` are further fields of the Command.
    Raises Refused when there is nothing to build it from.
    """
    argv = (*first, f"--tag={invocation.image}", f"--label=io.mlcube.cube={invocation.cube}")
    if python := invocation.python:
        context = context_directory(invocation)
        words = (*argv, f"--file={written(f'{context}/Dockerfile')}", context)
        build = Command(argv=words, hint=hint_after_build(python), **command_fields)
        return (*write_context(invocation, python), build)
    recipe = invocation.recipe
    if recipe is None:
        raise Refused(
            f"image `{invocation.image}` is to be built, and there is no recipe for it",
            hint="name a Dockerfile: `docker: {build_file: Dockerfile}`; or `-P docker.build_strategy=pull`",
        )
    values = (f"--build-arg={name}={value}" for name, value in recipe.arguments.items())
    words = (*argv, f"--file={written(recipe.file)}", *values, recipe.context)
    return (Command(argv=words, hint=recipe_hint, **command_fields),)


def podman_file(path: str) -> str:
    """How Podman wants the value of `--file`: it reads a list there, separated by commas."""
    return csv_line([path])


def clean_steps(invocation: Invocation) -> tuple[Step, ...]:
    """What a build leaves nothing behind with."""
    return (command("rm", "-rf", context_directory(invocation)),) if invocation.python else ()


def image_lock(engine: str, image: str, host: Host) -> str | None:
    """One pull or build of an image at a time; the others find it done."""
    cache = host.get("caller", {}).get("cache")
    name = "".join(character if character.isalnum() else "-" for character in image)
    return f"{cache}/locks/{engine}-{name[-100:]}.lock" if cache else None


def parse_identity(answer: Answer) -> dict[str, object] | None:
    """The image's id and digests out of `{"id": ..., "digests": [...]}`, whichever engine says it."""
    if answer.status != 0:
        return None
    try:
        found = msgspec.json.decode(answer.output, type=dict[str, str | list[str] | None])
    except msgspec.DecodeError:
        return None
    identity = found.get("id")
    if isinstance(identity, str) and ":" not in identity:  # Podman leaves the algorithm out
        identity = f"sha256:{identity}"
    return {"id": identity, "digests": found.get("digests") or []}
