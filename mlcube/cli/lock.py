"""`cube lock`: the file that says exactly what is run, by digests."""

import os
import shlex
from collections.abc import Mapping
from typing import Annotated

from mlcube.cli import console
from mlcube.cli.arguments import CubeName, Json, MlcubePath, Overrides, Workspace, overrides
from mlcube.cli.declared import option
from mlcube.cli.naming import cube_of
from mlcube.cube import Cube
from mlcube.errors import CubeError
from mlcube.named import Named
from mlcube.pinning.lockfile import (
    FILE_NAME,
    Lock,
    LockedCube,
    LockedImage,
    digest_of_requirements,
    read_lock,
    write_lock,
)

EXAMPLE = """\b
Examples:
  cube lock
  cube lock oci://registry.example.org/digits:1.2
  cube run --locked --task train
  cube lock examples/digits --platform docker,podman
"""

Platforms = Annotated[
    list[str] | None,
    option("--platform", metavar="A,B", help="make the image available there and lock it; else those that are there"),
]


def command(
    cube: CubeName = None,
    mlcube: MlcubePath = ".",
    platform: Platforms = None,
    workspace: Workspace = None,
    override: Overrides = None,
    as_json: Json = False,
) -> int:
    """Write `mlcube.lock`: the cube, its images and their bases, its data and its requirements, each by digest.

    `--locked` holds `cube run`, `cube configure` and `cube pull` to it.
    """
    from mlcube.pinning.making import (
        base_digest,
        bases_of,
        data_of,
        digest_of_file,
        missing_data,
        requirements_of,
        source_of,
    )
    from mlcube.trust.covering import check_requirements
    from mlcube.workspace import locate

    if cube is None and mlcube == "." and not os.path.exists("mlcube.yaml") and os.path.exists(FILE_NAME):
        cube = read_lock().reference  # as `--locked` takes it
    named = cube_of(mlcube, cube, workspace=workspace)
    of_cube, _ = overrides(override)
    exact, warnings, read = named.admitted(of_cube)
    console.warnings(warnings)
    check_requirements(named.admission, exact.python)
    locate(read, named.workspace)
    digest = named.obtained.digest if named.obtained else digest_of_file(read)
    source = None if named.obtained else source_of(read)
    bases = bases_of(read)
    lock = Lock(
        reference=named.text,
        cube=LockedCube(name=read.name, digest=digest, version=read.version, source=source),
        bases={base: base_digest(base) for base in bases},
        data=data_of(read, named.workspace, tuple(read.tasks)),
        requirements=requirements_of(exact, console.note, asked=digest_of_requirements(read)),
    )
    for base, found in lock.bases.items():
        if found is None:
            console.note(f"no registry says which image `{base}` is: it is locked by its name alone")
    lock = _with_images(lock, exact if exact is not read else lock.applied(read), named, platform)
    write_lock(lock)
    _tell_missing(lock, read, missing_data(read, named.workspace, tuple(read.tasks)))
    if as_json:
        console.document(lock)
    else:
        inputs = f", {len(lock.data)} input{'s' if len(lock.data) != 1 else ''}" if lock.data else ""
        packages = f", {len(lock.requirements.exact)} packages" if lock.requirements else ""
        images = f", images on {', '.join(lock.images)}" if lock.images else ""
        console.result(f"{os.path.abspath(FILE_NAME)}: {read.name} {digest}{images}{inputs}{packages}")
    return 0


def _tell_missing(lock: Lock, cube: Cube, inputs: Mapping[str, str]) -> None:
    """What `--locked` looks at and the lock does not hold yet."""
    again = "cube lock" if lock.reference == "." else f"cube lock {shlex.quote(lock.reference)}"
    for name, path in inputs.items():
        console.note(f"not locked: the input `{name}`, for there is no `{path}`; once there is one: {again}")
    if cube.python is None and cube.image is not None and not lock.images:
        image = cube.image.reference
        console.note(f"not locked: the image `{image}`, which no platform here has; with it: {again} --platform docker")


def _with_images(lock: Lock, cube: Cube, named: Named, given: list[str] | None) -> Lock:
    """The lock with what each platform has; on those that are named it is made available."""
    import msgspec

    from mlcube.cli.configure import without_task
    from mlcube.errors import MissingInput
    from mlcube.host import gather
    from mlcube.pinning.making import image_of
    from mlcube.platforms import choose
    from mlcube.running import configure
    from mlcube.settings import read_settings

    settings = read_settings()
    names = [part for text in given or () for part in text.split(",") if part]
    invocation = without_task(cube)
    pinned = named.obtained.config.image if named.obtained and named.obtained.config else None
    found: dict[str, LockedImage] = {}
    for name in names or settings.names():
        try:
            choice = choose(name, settings, [invocation], gather)
        except CubeError:
            if names:
                raise
            continue
        image = image_of(choice.platform, choice.host, invocation)
        if image is None and names:
            named.check_made(invocation, choice)
            with console.progress() as descriptor:
                configure(invocation, choice.platform, stderr=descriptor, report=console.note)
            image = image_of(choice.platform, choice.host, invocation)
        if image is not None:
            found[name] = image
        elif pinned and pinned.pinned and invocation.image == pinned.pinned:
            found[name] = LockedImage(reference=pinned.pinned, digest=pinned.pinned.rpartition("@")[2])
        elif names:
            raise MissingInput(f"the image of `{cube.name}` is not on {name}", hint=f"cube inspect --platform {name}")
    return msgspec.structs.replace(lock, images=found)
