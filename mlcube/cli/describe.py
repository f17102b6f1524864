"""`cube describe`: what a cube is, what it needs, and the commands to run it."""

import shlex
from typing import Annotated, Any

import typer

from mlcube.cli import console
from mlcube.cli.arguments import CubeName, Json, MlcubePath, Offline, Overrides, overrides
from mlcube.cli.naming import cube_of
from mlcube.cube import Cube, Parameter, Task
from mlcube.named import Named

EXAMPLE = """\b
Examples:
  cube describe examples/digits
  cube describe oci://registry.example.org/digits:1.2
  cube describe -P docker.image=mine:2 --origins
"""

Origins = Annotated[bool, typer.Option("--origins", help="show which file, line or flag set each value")]


def command(
    cube: CubeName = None,
    mlcube: MlcubePath = ".",
    override: Overrides = None,
    origins: Origins = False,
    offline: Offline = False,
    as_json: Json = False,
) -> int:
    """Show a cube's tasks, their parameters and needs, and commands that run them."""
    named = cube_of(mlcube, cube, offline=offline, told=False)
    of_cube, _ = overrides(override)
    if origins:
        return _origins(named.path, (*named.overrides, *of_cube), as_json)
    read, warnings = named.read(of_cube)
    console.warnings(warnings)
    if as_json:
        console.document(_plain(read, named))
    else:
        _print(read, named)
    return 0


def _print(cube: Cube, named: Named) -> None:
    title = f"{cube.name} {cube.version or ''}".rstrip()
    console.result(f"{title}: {_in_a_line(cube.description)}" if cube.description else title)
    console.result(f"file       {cube.file}")
    console.result(f"workspace  {named.workspace or cube.internal_workspace}")
    if named.obtained:
        console.result(f"digest     {named.obtained.digest}")
    if cube.image:
        console.result(f"image      {cube.image.reference}")
    if cube.python:
        console.result(f"python     {cube.python.version}")
    for label, text in (("license", cube.license), ("authors", ", ".join(cube.authors))):
        if text:
            console.result(f"{label:<9}  {_in_a_line(text)}")
    for task in cube.tasks.values():
        _task(task)
    console.result("\nrun it")
    where = "" if named.text == "." else f" {'' if named.obtained else '--mlcube '}{shlex.quote(named.text)}"
    for name in cube.tasks:
        console.result(f"  cube run{where} --task {shlex.quote(name)}")


def _in_a_line(text: str) -> str:
    """What a cube says of itself takes no line of its own, which could look like one of ours."""
    return " ".join(text.split())


def _task(task: Task) -> None:
    console.result(f"\ntask {task.name}{f': {_in_a_line(task.description)}' if task.description else ''}")
    rows: list[tuple[str, ...]] = [
        (f"  {parameter.direction}", parameter.name, parameter.type or "path", _about(parameter))
        for parameter in task.parameters
    ]
    rows += [("  secret", secret.name, "", secret.description or "") for secret in task.secrets]
    rows += [("  needs", name, "", str(value)) for name, value in _needs(task).items()]
    if rows:
        console.table(rows)


def _about(parameter: Parameter) -> str:
    parts = []
    if parameter.default is not None:
        parts.append(f"default {parameter.default}")
    elif not parameter.scalar:
        parts.append(f"default {parameter.name}")
    else:
        parts.append("must be given")
    if parameter.optional:
        parts.append("optional")
    if parameter.choices:
        parts.append(f"one of {', '.join(map(str, parameter.choices))}")
    limits = (("from", parameter.minimum), ("to", parameter.maximum), ("like", parameter.pattern))
    parts += [f"{word} {limit}" for word, limit in limits if limit is not None]
    if parameter.description:
        parts.append(parameter.description)
    return ", ".join(parts)


def _needs(task: Task) -> dict[str, Any]:
    import msgspec

    needs = {key: value for key, value in msgspec.structs.asdict(task.resources).items() if value is not None}
    return {**needs, **({"network": task.network} if task.network else {})}


def _plain(cube: Cube, named: Named) -> dict[str, Any]:
    import msgspec

    hidden = ("where", "cpu_needs", "gpu_needs", "singularity")
    plain: dict[str, Any] = msgspec.to_builtins(
        {key: value for key, value in msgspec.structs.asdict(cube).items() if key not in hidden}
    )
    workspace = named.workspace or cube.internal_workspace
    kept = {"kept": named.obtained.digest} if named.obtained else {}
    return {**plain, **kept, "workspace": workspace, "tasks": list(plain["tasks"].values())}


def _origins(path: str, of_cube: tuple[str, ...], as_json: bool) -> int:
    from mlcube.reading import read_layers

    found = [
        (".".join(map(str, key)), value, str(position))
        for key, value, position in read_layers(path, overrides=of_cube).origins()
    ]
    if as_json:
        console.document([{"key": key, "value": value, "origin": origin} for key, value, origin in found])
    elif found:
        console.table([(key, _word(value), origin) for key, value, origin in found])
    return 0


def _word(value: Any) -> str:
    import msgspec

    return value if isinstance(value, str) and value else msgspec.json.encode(value).decode()
