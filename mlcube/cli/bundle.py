"""`cube bundle`: one file that holds a cube with everything it needs, for a site without a network."""

from typing import Annotated, Literal

import typer

from mlcube.cli import console
from mlcube.cli.arguments import Json, Trust
from mlcube.errors import UsageError

EXAMPLE = """\b
Examples:
  cube bundle create examples/digits -o digits.cube
  cube bundle create oci://host/name:1.0 --sif -o name.cube --split 4GB
  cube bundle verify digits.cube
  cube bundle join digits.cube new.cube -o digits-new.cube
"""

Action = Annotated[Literal["create", "verify", "join", "list"], typer.Argument(metavar="create|verify|join|list")]
Names = Annotated[
    list[str] | None, typer.Argument(metavar="[CUBE|FILE]...", help="the cube that becomes a bundle, or bundles")
]
Output = Annotated[str | None, typer.Option("-o", "--output", metavar="FILE", help="the bundle to write")]
PlatformNames = Annotated[
    list[str] | None,
    typer.Option("--platform", metavar="A,B", help="for which platforms there is an image, or wheels; else all"),
]
Sif = Annotated[bool, typer.Option("--sif", help="a SIF file ready made, for Apptainer")]
WithData = Annotated[
    bool, typer.Option("--with-data", "--with-inputs", help="the inputs that the cube's own workspace holds")
]
PythonVersions = Annotated[
    list[str] | None,
    typer.Option("--python-version", metavar="3.N", help="for which Pythons wheels are collected; else this one"),
]
WithoutTool = Annotated[bool, typer.Option("--without-tool", help="leave `cube` itself out")]
Split = Annotated[str | None, typer.Option("--split", metavar="SIZE", help="parts of that size at most, as 4GB")]
Since = Annotated[
    str | None, typer.Option("--since", metavar="FILE", help="an earlier bundle: only what it lacks is written")
]


def command(
    action: Action,
    names: Names = None,
    output: Output = None,
    platform: PlatformNames = None,
    sif: Sif = False,
    with_data: WithData = False,
    python_version: PythonVersions = None,
    without_tool: WithoutTool = False,
    split: Split = None,
    since: Since = None,
    as_json: Json = False,
    trust: Trust = False,
) -> int:
    """Create a bundle of a cube; verify, list and join bundles. `cube run FILE` runs the cube in one."""
    options = (platform, sif, with_data, python_version, without_tool, since, trust)
    if action != "create" and any(options):
        raise UsageError(f"`{action}` takes only bundles{' and `-o`' if action == 'join' else ''}", hint=_HELP)
    if action in ("verify", "list"):
        if output or split:
            raise UsageError(f"`{action}` writes nothing", hint=_HELP)
        return (_verify if action == "verify" else _list)(_one(action, names), as_json)
    size = _size(split)
    given = names or []
    if output is None and action == "create" and len(given) == 2 and given[1].endswith(".cube"):
        hint = f"cube bundle create {given[0]} -o {given[1]}"
        raise UsageError("`create` takes the name of the bundle to write as `-o`", hint=hint)
    if output is None:
        raise UsageError(
            f"`{action}` needs the name of the bundle to write", hint=f"cube bundle {action} ... -o NAME.cube"
        )
    if action == "join":
        return _join(names or [], output, size, as_json)
    from mlcube.cli.bundle_creating import Wanted, create

    wanted = Wanted(
        reference=_one(action, names),
        output=output,
        platforms=tuple(part for text in platform or () for part in text.split(",") if part),
        sif=sif,
        with_data=with_data,
        python_versions=tuple(part for text in python_version or () for part in text.split(",") if part),
        tool=not without_tool,
        part_size=size,
        since=since,
        trust=trust,
    )
    return create(wanted, as_json)


_HELP = "see `cube bundle --help`"


def _one(action: str, names: list[str] | None) -> str:
    if not names or len(names) > 1:
        what = "one cube: a path, or a reference" if action == "create" else "one bundle, or the first of its parts"
        raise UsageError(
            f"`{action}` takes {what}", hint=f"cube bundle {action} {'.' if action == 'create' else 'FILE'}"
        )
    return names[0]


def _size(text: str | None) -> int | None:
    if text is None:
        return None
    from mlcube.amounts import size

    try:
        found = size(text)
    except ValueError as error:
        raise UsageError(f"`--split` takes {error}", hint="--split 4GB") from None
    if found < _LEAST_PART:
        raise UsageError(f"`--split {text}` is too small", hint="--split 4GB")
    return found


_LEAST_PART = 1 << 16


def _verify(path: str, as_json: bool) -> int:
    from mlcube.bundling.parts import Input
    from mlcube.bundling.verifying import verify
    from mlcube.cli.meter import Meter
    from mlcube.signals import catching

    with Input(path) as source:
        size = source.size
    with catching() as signals, Meter("verified", size) as meter:
        found = verify(path, progress=meter.advance, check=signals.check)
    if as_json:
        console.document(found)
        return 0
    parts = f" in {found.parts} parts" if found.parts > 1 else ""
    console.result(f"{path} is whole: {found.bytes:,} bytes{parts}, {found.blobs} blobs, {found.digest}")
    if found.since:
        console.result(f"it builds on the bundle {found.since}, which has {len(found.missing)} more of what it needs")
    return 0


def _list(path: str, as_json: bool) -> int:
    from mlcube.bundling.contents import listed

    found = listed(path)
    if as_json:
        console.document(found)
        return 0
    rows = [("WHAT", "NAME", "BYTES", "DIGEST")]
    rows += [(each.role, each.name, f"{each.bytes:,}", each.digest) for each in found.entries]
    console.table(rows)
    if found.since:
        console.note(f"it builds on the bundle {found.since}")
    return 0


def _join(names: list[str], output: str, size: int | None, as_json: bool) -> int:
    from mlcube.bundling.joining import join
    from mlcube.bundling.parts import part_name
    from mlcube.cli.bundle_output import left, note_signature
    from mlcube.cli.interruption import is_told

    if not names:
        raise UsageError("`join` needs bundles", hint="cube bundle join model.cube.001 -o model.cube")
    from mlcube.signals import catching

    first = output if size is None else part_name(output, 1)
    with is_told(lambda: left(output, first)), catching() as signals:
        written = join(names, output, part_size=size, check=signals.check)
    note_signature(written[0])
    if as_json:
        console.document({"files": written})
    else:
        console.result("\n".join(written))
    return 0
