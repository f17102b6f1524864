"""`cube inspect`: which image a cube uses, told apart from every other."""

from typing import Annotated, Any, Literal

import typer

from mlcube.cli import console
from mlcube.cli.arguments import CubeName, Json, MlcubePath, Offline, Overrides, PlatformName, Trust
from mlcube.cli.configure import chosen
from mlcube.cli.naming import cube_of
from mlcube.errors import CubeError, PreparationFailed, Refused

EXAMPLE = """\b
Examples:
  cube inspect --mlcube examples/hello_world --platform docker
  cube inspect --force --format yaml --output-file image.yaml
"""

Force = Annotated[bool, typer.Option("--force", help="make the image available first, if it is not there")]
Format = Annotated[Literal["json", "yaml"], typer.Option("--format", metavar="json|yaml", help="how to write it")]
OutputFile = Annotated[str | None, typer.Option("--output-file", metavar="FILE", help="write it there, not to stdout")]


def command(
    cube: CubeName = None,
    mlcube: MlcubePath = ".",
    platform: PlatformName = None,
    override: Overrides = None,
    force: Force = False,
    format_: Format = "json",
    output_file: OutputFile = None,
    offline: Offline = False,
    as_json: Json = False,
    trust: Trust = False,
) -> int:
    """Print `{"hash": ...}` of the image or environment that a cube uses, its id and its registry digests."""
    from mlcube.asking import ask
    from mlcube.running import configure

    invocation, choice = chosen(
        cube_of(mlcube, cube, offline=offline, told=False), platform, override, trust=trust or not force
    )
    runner = choice.platform.runner
    fact = runner.identify(invocation, choice.host)
    if fact is None:
        raise Refused(f"platform `{choice.platform.name}` cannot tell images apart", hint="choose another --platform")
    identity = fact.parse(ask(fact.argv))
    if identity is None and force:
        with console.progress() as descriptor:
            configure(invocation, choice.platform, stderr=descriptor, report=console.note)
        identity = fact.parse(ask(fact.argv))
    name = invocation.image or invocation.cube
    if identity is None:
        raise PreparationFailed(f"`{name}` is not on {choice.platform.name}", hint="add `--force` to make it available")
    found: dict[str, Any] = {
        "hash": identity["id"].removeprefix("sha256:"),
        "id": identity["id"],
        "digests": identity.get("digests", []),
        "image": invocation.image,
        "platform": choice.platform.name,
    }
    _write(_text(found, "json" if as_json else format_), output_file)
    return 0


def _text(found: dict[str, Any], format_: str) -> str:
    if format_ == "yaml":
        from mlcube.editing import as_yaml

        return as_yaml(found).rstrip("\n")
    return console.as_json(found).decode()


def _write(text: str, path: str | None) -> None:
    if path is None:
        console.result(text)
        return
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"{text}\n")
    except OSError as error:
        raise CubeError(f"`{path}` cannot be written: {(error.strerror or str(error)).lower()}") from None
