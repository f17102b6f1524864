"""Cubes in folders, as entries of an index."""

import functools
import os

import msgspec

from mlcube import oci
from mlcube.cube import Cube
from mlcube.cube import Parameter as WrittenParameter
from mlcube.cube import Task as Written
from mlcube.errors import CubeError, MissingInput
from mlcube.packing import DEFAULTS, IGNORE_FILE, Rules, contents, read_rules
from mlcube.reading import read_cube
from mlcube.zoo import describing
from mlcube.zoo.entries import Entry, Parameter, Task
from mlcube.zoo.results import read_results
from mlcube.zoo.sources import CARD_BYTES, Described

__all__ = ["CARD_FILE", "cubes_in", "describe_folder"]

CARD_FILE = "README.md"
_FILES = ("mlcube.yaml", "container_config.yaml")


def cubes_in(folder: str) -> tuple[str, ...]:
    """The folder itself if it is a cube, else the cubes directly below it."""
    if _is_cube(folder):
        return (folder,)
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise MissingInput(f"`{folder}` cannot be read: {(error.strerror or str(error)).lower()}") from None
    return tuple(path for name in names if not name.startswith(".") and _is_cube(path := os.path.join(folder, name)))


def _is_cube(folder: str) -> bool:
    return any(os.path.isfile(os.path.join(folder, name)) for name in _FILES)


def describe_folder(folder: str) -> Described:
    """The cube in a folder. Raises InvalidFile with every problem of its file."""
    cube, _ = read_cube(folder)
    tasks = tuple(_task(task) for task in cube.tasks.values())
    entries = contents(cube.root, _rules(cube.root))
    with open(cube.file, "rb") as file:
        digest = oci.digest_of(file.read())
    entry = Entry(
        name=cube.name,
        version=cube.version,
        description=cube.description,
        authors=cube.authors,
        license=cube.license,
        links=describing.links(cube.links),
        digest=digest,
        size=sum(each.size for each in entries),
        image=cube.image.reference if cube.image else None,
        python=cube.python.version if cube.python else None,
        platforms=_platforms(cube),
        accelerator=describing.accelerator(tasks),
        tasks=tasks,
        results=read_results(cube.root),
    )
    return Described(entry=entry, source=folder, card=_card(cube.root))


def _rules(root: str) -> Rules:
    """What of a folder is not published. That of most is the same, and to read it is a tenth of the work."""
    return read_rules(root) if os.path.lexists(os.path.join(root, IGNORE_FILE)) else _defaults()


@functools.cache
def _defaults() -> Rules:
    return Rules(DEFAULTS)


def _platforms(cube: Cube) -> tuple[str, ...]:
    return describing.platforms(
        image=cube.image is not None, python=cube.python is not None, singularity=bool(cube.singularity)
    )


def _task(task: Written) -> Task:
    needs = {key: value for key, value in msgspec.structs.asdict(task.resources).items() if value is not None}
    return Task(
        name=task.name,
        kind=describing.kind_of(task.name),
        description=task.description,
        inputs=tuple(_parameter(each) for each in task.inputs),
        outputs=tuple(_parameter(each) for each in task.outputs),
        needs={**needs, **({"network": task.network} if task.network else {})},
        secrets=tuple(each.name for each in task.secrets),
    )


def _parameter(one: WrittenParameter) -> Parameter:
    return msgspec.convert(one, Parameter, from_attributes=True)


def _card(root: str) -> str | None:
    """The README, which is a file of the cube and no link that leads elsewhere."""
    from mlcube import files

    try:
        content = files.read_small(os.path.join(root, CARD_FILE))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CubeError(f"`{root}/{CARD_FILE}` cannot be read: {(error.strerror or str(error)).lower()}") from None
    return content[:CARD_BYTES].decode("utf-8-sig", "replace")
