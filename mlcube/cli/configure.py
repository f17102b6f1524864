"""`cube configure`: the image or environment of a cube, made available before the first run."""

import os.path

import msgspec

from mlcube import directories
from mlcube.binding import bind
from mlcube.cli import console
from mlcube.cli.arguments import (
    CubeName,
    Json,
    Locked,
    MlcubePath,
    Offline,
    Overrides,
    PlatformName,
    Trust,
    overrides,
)
from mlcube.cli.bundle_running import provided
from mlcube.cli.conditions import check_available, check_image, preferred
from mlcube.cli.naming import cube_of
from mlcube.cube import Cube, RawNeeds, Task
from mlcube.invocation import Invocation
from mlcube.named import Named
from mlcube.platforms import Choice, choose
from mlcube.record import new_id
from mlcube.settings import read_settings

EXAMPLE = """\b
Example:
  cube configure examples/hello_world --platform docker
"""


def command(
    cube: CubeName = None,
    mlcube: MlcubePath = ".",
    platform: PlatformName = None,
    override: Overrides = None,
    offline: Offline = False,
    locked: Locked = False,
    as_json: Json = False,
    trust: Trust = False,
) -> int:
    """Build or pull the image of a cube, or make its environment; also what is there but could be newer."""
    from mlcube.running import configure

    named = cube_of(mlcube, cube, locked=locked, offline=offline, told=False)
    invocation, choice = chosen(named, platform, override, trust=trust)
    check_available(choice, invocation)
    console.note(f"making `{invocation.image or invocation.cube}` available on {choice.platform.name}")
    with console.progress() as descriptor:
        configure(invocation, choice.platform, stderr=descriptor, report=console.note)
    check_image(named, choice, invocation)
    console.note(f"`{invocation.image or invocation.cube}` is available on {choice.platform.name}")
    if as_json:
        console.document({"image": invocation.image, "platform": choice.platform.name})
    return 0


def chosen(named: Named, platform: str | None, override: list[str] | None, *, trust: bool) -> tuple[Invocation, Choice]:
    """What a cube needs whatever its task, and the platform that makes it available."""
    from mlcube.host import gather

    named, platform = provided(named, platform)
    of_cube, of_runner = overrides(override, platform)
    cube, warnings, _ = named.admitted(of_cube, trust=trust)
    console.warnings(warnings)
    invocation = without_task(cube)
    settings = read_settings()
    console.warnings(settings.warnings)
    choice = choose(platform, settings, [invocation], gather, of_runner, preferred=preferred(named))
    if choice.reason:
        console.note(f"chose platform {choice.platform.name}: {choice.reason}")
    named.check_made(invocation, choice)
    return invocation, choice


def make_available(cube: Cube, platform: str | None) -> None:
    """Make the image of a cube that was read available, on a platform or the first that can."""
    from mlcube.host import gather
    from mlcube.running import configure

    invocation = without_task(cube)
    choice = choose(platform, read_settings(), [invocation], gather)
    console.note(f"making `{invocation.image or invocation.cube}` available on {choice.platform.name}")
    with console.progress() as descriptor:
        configure(invocation, choice.platform, stderr=descriptor, report=console.note)


def without_task(cube: Cube) -> Invocation:
    """The image or environment alone: no parameter and no need matter to it, and it is no run that is recorded."""
    name = next(iter(cube.tasks))
    bare = msgspec.structs.replace(cube, tasks={name: Task(name=name)}, cpu_needs=RawNeeds(), gpu_needs=RawNeeds())
    run_id = new_id()
    return bind(bare, name, run_id=run_id, scratch=os.path.join(directories.cache(), "scratch", run_id))
