"""What `--offline` and `--locked` ask of a run before anything starts."""

import os
from collections.abc import Sequence

import msgspec

from mlcube import directories
from mlcube.cli import console
from mlcube.cube import Cube
from mlcube.errors import Unreachable
from mlcube.invocation import Invocation
from mlcube.named import Named
from mlcube.offline import offline
from mlcube.platforms import Choice
from mlcube.record import new_id

__all__ = ["check_available", "check_data", "check_image", "preferred"]


def check_available(choice: Choice, invocation: Invocation) -> None:
    """With the network forbidden an image must be there already; installers of packages are told to look here only."""
    if not offline():
        return
    os.environ.setdefault("PIP_NO_INDEX", "1")
    os.environ.setdefault("UV_OFFLINE", "1")
    fact = choice.platform.runner.identify(invocation, choice.host)
    if fact is None or fact.name != "image":
        return
    own = str(invocation.singularity.get("image") or "")
    if choice.platform.runner_name == "singularity" and os.path.isabs(own) and os.path.isfile(own):
        return  # a SIF file, which is read when it is first used
    from mlcube.asking import ask

    if fact.parse(ask(fact.argv)) is None:
        name = invocation.image or f"image of `{invocation.cube}`"
        raise Unreachable(
            f"the image `{name}` is not on {choice.platform.name}, and no network call may be made",
            hint="run `cube configure` once without `--offline` and CUBE_OFFLINE, or carry it here in a bundle",
        )


def check_data(named: Named, cube: Cube, tasks: Sequence[str]) -> None:
    """The inputs of these tasks must be those of the lock."""
    if named.lock is None:
        return
    from mlcube.pinning.making import data_of

    named.lock.check_data(data_of(cube, named.workspace, tasks), tasks)


def preferred(named: Named) -> dict[str, str]:
    """The platforms whose image is locked, and why they come first: others would make one that is not."""
    return {} if named.lock is None else dict.fromkeys(named.lock.images, "its image is in `mlcube.lock`")


def check_image(named: Named, choice: Choice, invocation: Invocation) -> None:
    """The image must be that of the lock; one that is not there yet is made available before it is judged."""
    if named.lock is None:
        return
    from mlcube.pinning.making import image_of
    from mlcube.running import configure

    found = image_of(choice.platform, choice.host, invocation)
    if found is None:
        with console.progress() as descriptor:
            configure(_unrecorded(invocation), choice.platform, stderr=descriptor, report=console.note)
        found = image_of(choice.platform, choice.host, invocation)
    named.lock.check_image(choice.platform.name, found)


def _unrecorded(invocation: Invocation) -> Invocation:
    """The same with another place for what passes: that of the run is made when the run begins."""
    run_id = new_id()
    scratch = os.path.join(directories.cache(), "scratch", run_id)
    return msgspec.structs.replace(invocation, run_id=run_id, scratch=scratch)
