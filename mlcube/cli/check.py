"""`cube check`: every problem of a cube's file, without running anything."""

from typing import Annotated

from mlcube.cli import console
from mlcube.cli.arguments import Json, MlcubePath, Overrides, overrides
from mlcube.cli.declared import argument
from mlcube.cli.naming import cube_of
from mlcube.errors import CubeError, Problem

EXAMPLE = """\b
Examples:
  cube check
  cube check examples/hello_world examples/digits
"""

Paths = Annotated[list[str] | None, argument(metavar="[PATH]...", help="cubes to check")]


def command(mlcube: MlcubePath = ".", paths: Paths = None, override: Overrides = None, as_json: Json = False) -> int:
    """Validate a cube strictly: unknown keys are errors, and every problem is told at once."""
    of_cube, _ = overrides(override)
    status = 0
    checked = []
    for path in paths or [mlcube]:
        problems: tuple[Problem, ...] = ()
        summary = ""
        try:
            cube, problems = cube_of(path, told=False).read(of_cube, strict=True)
            count = len(cube.tasks)
            summary = f"{cube.file}: valid, {count} task{'s' if count != 1 else ''}"
        except CubeError as error:
            problems, status = error.problems, error.status
        if as_json:
            checked.append(
                {"path": path, "valid": bool(summary), "problems": [console.plain(each) for each in problems]}
            )
            continue
        console.warnings(tuple(each for each in problems if summary))
        for each in problems if not summary else ():
            console.problem(each)
        if summary:
            console.result(summary)
    if as_json:
        console.document({"cubes": checked})
    return status
