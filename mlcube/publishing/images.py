"""The container image of a published cube: found in a registry, or pushed beside the cube, and pinned by its digest."""

import os
import tempfile
from collections.abc import Callable
from typing import Literal

import msgspec

from mlcube.artifact import PublishedImage
from mlcube.cube import Cube, Image
from mlcube.errors import CubeError, Damaged, PreparationFailed
from mlcube.execute import Execution, ask
from mlcube.plan import Command, Plan, command
from mlcube.publishing.destination import Destination, split
from mlcube.registry import Registry
from mlcube.registry.repository import Repository, insecure
from mlcube.signals import catching

__all__ = ["FoundImage", "find_image", "push_image"]

Engine = Literal["docker", "podman"]


class FoundImage(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a cube's image."""

    published: PublishedImage
    engine: Engine | None = None
    """What has it here, if it is to be pushed."""


class _Local(msgspec.Struct):
    """What an engine says of an image."""

    digests: tuple[str, ...] | None = None


def find_image(
    cube: Cube,
    destination: Destination,
    *,
    wanted: bool = True,
    check: Callable[[], None] = lambda: None,
    report: Callable[[str], None] = lambda _text: None,
) -> FoundImage | None:
    """Where the image is; None for a cube without one. That of a Python environment is made where it runs.

    An image that is pulled is pinned in its registry; one that is built is pushed beside the cube.
    Raises PreparationFailed when it is nowhere.
    """
    if cube.image is None or cube.python is not None:
        return None
    image = cube.image
    reference = image.reference
    if "@" in reference:
        name, _, digest = reference.partition("@")
        return FoundImage(published=PublishedImage(reference=reference, pinned=f"{_repository(name)[0]}@{digest}"))
    if not wanted:
        return FoundImage(published=PublishedImage(reference=reference))
    reason: CubeError | None = None
    if image.recipe is None or image.strategy == "pull":
        repository, tag = _repository(reference)
        try:
            with Registry(repository, check=check, report=report) as registry:
                digest = registry.resolve(tag).digest
            return FoundImage(published=PublishedImage(reference=reference, pinned=f"{repository}@{digest}"))
        except CubeError as error:
            reason = error
    for engine in _ENGINES:
        if (digests := _here(engine, reference)) is not None:
            pinned = _pushed_before(digests, destination, check)
            published = PublishedImage(reference=reference, pinned=pinned)
            return FoundImage(published=published, engine=None if pinned else engine)
    raise _nowhere(image, reason)


_ENGINES: tuple[Engine, ...] = ("docker", "podman")


def push_image(found: FoundImage, destination: Destination, *, stderr: int = 2) -> PublishedImage:
    """Push it beside the cube, and pin it by the digest that the registry then has. Raises PreparationFailed."""
    if found.engine is None:
        return found.published
    source, target = found.published.reference, destination.image
    hint = f"log in with `{found.engine} login {destination.repository.host}`, or leave the image out with --no-image"
    with tempfile.TemporaryDirectory(prefix="cube-push-") as folder:
        told = os.path.join(folder, "digest")
        steps: tuple[Command, ...]
        if found.engine == "docker":
            push = command("docker", "push", target)
            steps = (command("docker", "tag", source, target), msgspec.structs.replace(push, hint=hint))
        else:
            plain = ("--tls-verify=false",) if insecure(destination.repository.host) else ()
            push = command("podman", "push", *plain, "--digestfile", told, source, f"docker://{target}")
            steps = (msgspec.structs.replace(push, hint=hint),)
        with catching() as signals, Execution(signals=signals, stdout=stderr, stderr=stderr) as execution:
            execution.prepare(Plan(steps=steps))
        said = _said(told) if found.engine == "podman" else None
    with Registry(destination.repository) as registry:
        digest = registry.resolve(split(target)[1] or "latest").digest
    if found.engine == "docker":
        known = {each.partition("@")[2] for each in _here("docker", source) or ()}
    else:
        known = {said} if said else {digest}
    if digest not in known:
        raise Damaged(
            f"`{target}` is `{digest}` at the registry, which is not the image that was pushed",
            hint="somebody else may publish to the same tag",
        )
    return PublishedImage(reference=source, pinned=f"{destination.repository}@{digest}")


def _said(path: str) -> str | None:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except (OSError, UnicodeDecodeError):
        return None


def _repository(reference: str) -> tuple[Repository, str]:
    """The registry's repository and the tag that an image's name means."""
    name, tag = split(reference)
    host = name.partition("/")[0]
    if host == name or not ("." in host or ":" in host or host == "localhost"):
        name = f"docker.io/{name}"
    return Repository.parse(name), tag or "latest"


def _here(engine: Engine, reference: str) -> tuple[str, ...] | None:
    """The digests under which registries have the image of an engine; None when it has no such image."""
    answer = ask((engine, "image", "inspect", "--format", '{"digests":{{json .RepoDigests}}}', reference))
    if answer.status != 0:
        return None
    try:
        return msgspec.json.decode(answer.output, type=_Local).digests or ()
    except msgspec.MsgspecError:
        return ()


def _pushed_before(digests: tuple[str, ...], destination: Destination, check: Callable[[], None]) -> str | None:
    """The pin of an image that was pushed there before, if it is still there."""
    for each in digests:
        name, _, digest = each.partition("@")
        if _repository(name)[0] == destination.repository:
            try:
                with Registry(destination.repository, check=check) as registry:
                    if registry.resolve(split(destination.image)[1] or "latest").digest != digest:
                        continue
            except CubeError:
                continue  # it is pushed again, which tells what is wrong
            return f"{destination.repository}@{digest}"
    return None


def _nowhere(image: Image, reason: CubeError | None) -> PreparationFailed:
    told = f", and not in its registry: {reason.problems[0].message}" if reason else ""
    hint = "make it with `cube configure`, or publish without it: --no-image"
    return PreparationFailed(f"the image `{image.reference}` is neither in Docker nor in Podman{told}", hint=hint)
