"""`cube show-config`: a cube's file with everything that overrides it, as MLCube printed it."""

from typing import Annotated, Any

import typer

from mlcube.cli import console
from mlcube.cli.arguments import CubeName, Json, MlcubePath, Overrides, PlatformName, Workspace, overrides
from mlcube.cli.naming import cube_of
from mlcube.errors import UsageError
from mlcube.reading import read_layers

EXAMPLE = """\b
Examples:
  cube show-config --mlcube examples/hello_world --resolve
  cube show-config -P docker.image=mine:2
"""

Resolve = Annotated[bool, typer.Option("--resolve", help="replace `${...}` by what it refers to")]


def command(
    cube: CubeName = None,
    mlcube: MlcubePath = ".",
    platform: PlatformName = None,
    workspace: Workspace = None,
    override: Overrides = None,
    resolve: Resolve = False,
    as_json: Json = False,
) -> int:
    """Print the file of a cube, with what `-P` sets, and the options of a platform if one is named."""
    of_cube, of_runner = overrides(override, platform)
    named = cube_of(mlcube, cube, told=False)
    layers = read_layers(named.path, overrides=(*named.overrides, *of_cube))
    merged: Any = layers.merged() if resolve else layers.unresolved()
    if not isinstance(merged, dict):
        raise UsageError("a cube file is a mapping with `tasks`", position=layers.at(()))
    if workspace is not None:
        merged = {**merged, "workspace": workspace}
    if platform is not None:
        import msgspec

        from mlcube.platforms import resolve as resolved
        from mlcube.settings import read_settings

        found = resolved(read_settings(), platform, of_runner)
        merged = {**merged, "runner": {"runner": found.runner_name, **msgspec.to_builtins(found.runner)}}
    if as_json:
        console.document(merged)
        return 0
    from mlcube.editing import as_yaml

    console.result(as_yaml(merged).rstrip("\n"))
    return 0
