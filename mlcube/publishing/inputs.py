"""The sample inputs that a cube declares: what its tasks read by default, and what lies in its own workspace."""

import os.path
from collections.abc import Callable

from mlcube.cube import Cube

__all__ = ["WORKSPACE", "sample_inputs", "with_inputs"]

WORKSPACE = "workspace"


def sample_inputs(cube: Cube) -> tuple[str, ...]:
    """Their paths within the cube. What a task makes is no sample."""
    made = {_place(parameter.default, parameter.name) for task in cube.tasks.values() for parameter in task.outputs}
    found: dict[str, None] = {}
    for task in cube.tasks.values():
        for parameter in task.inputs:
            place = _place(parameter.default, parameter.name)
            if parameter.scalar or place is None or any(_within(place, each) for each in made if each):
                continue
            if os.path.lexists(os.path.join(cube.root, place)):
                found[place] = None
    return tuple(found)


def with_inputs(ignore: Callable[[str, bool], bool], inputs: tuple[str, ...]) -> Callable[[str, bool], bool]:
    """The rules, which do not ignore the workspace, but of it only these inputs."""

    def decide(path: str, directory: bool) -> bool:
        if not _within(path, WORKSPACE) or any(_within(path, each) for each in inputs):
            return ignore(path, directory)
        return not (directory and any(_within(each, path) for each in inputs))

    return decide


def _place(default: object, name: str) -> str | None:
    """A default path within the cube; None if it lies outside the cube's own workspace."""
    text = name if default is None else str(default)
    if os.path.isabs(text) or "$" in text or text.startswith("~"):
        return None
    path = os.path.normpath(os.path.join(WORKSPACE, text))
    return path if _within(path, WORKSPACE) and path != WORKSPACE else None


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")
