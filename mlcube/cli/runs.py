"""`cube runs`: past runs, their records and logs."""

from collections.abc import Sequence
from typing import Annotated, Literal

import typer

from mlcube.cli import console
from mlcube.cli.arguments import Json
from mlcube.cli.settling import settle_killed
from mlcube.errors import UsageError
from mlcube.record import Record, RunDirectory, find_id, find_run, remove, runs

EXAMPLE = """\b
Examples:
  cube runs
  cube runs show last
  cube runs log 20250131
  cube runs remove 20250131-101500-a1b2c3d4
"""

Action = Annotated[Literal["list", "show", "log", "remove"] | None, typer.Argument(metavar="[list|show|log|remove]")]
Ids = Annotated[
    list[str] | None, typer.Argument(metavar="[ID]...", help="a run, by the beginning of its id, or `last`")
]

Force = Annotated[
    bool, typer.Option("--force", help="remove also what left outputs on a host that cannot be reached any more")
]


def command(action: Action = None, ids: Ids = None, force: Force = False, as_json: Json = False) -> int:
    """List past runs; show the record of one, print what its task printed, or remove it."""
    if action in (None, "list"):
        if ids:
            raise UsageError("`list` takes no run", hint=f"cube runs show {ids[0]}")
        return _list(as_json)
    if not ids:
        raise UsageError(f"`{action}` needs a run", hint=f"cube runs {action} last")
    if action == "remove":
        return _remove([find_id(each) for each in ids], force, as_json)
    if force:
        raise UsageError("`--force` is for `remove`", hint="cube runs remove --force ID")
    found = [find_run(each) for each in ids]
    if action == "log":
        if as_json:
            raise UsageError("a log is text, not JSON", hint=f"cube runs log {ids[0]}")
        for record in found:
            _log(record)
    elif as_json:
        console.document(found[0] if len(found) == 1 else found)
    else:
        for record in found:
            _show(record)
    return 0


def _remove(found: Sequence[str], force: bool, as_json: bool) -> int:
    """Also what has no record that can be read."""
    for run_id in dict.fromkeys(found):
        remove(run_id, force=force)
        console.note(f"removed run {run_id}")
    if as_json:
        console.document({"removed": list(dict.fromkeys(found))})
    return 0


def _list(as_json: bool) -> int:
    settle_killed()
    found = runs()
    if as_json:
        console.document({"runs": found})
        return 0
    rows = [("RUN", "CUBE", "TASK", "PLATFORM", "STARTED", "SECONDS", "STATUS")]
    rows += [
        (
            each.id,
            each.cube.name,
            each.task,
            each.platform.name,
            each.started.replace("T", " ")[:19],
            f"{each.seconds.run:.1f}" if each.seconds.run is not None else "",
            _status(each),
        )
        for each in found
    ]
    if found:
        console.table(rows)
    else:
        console.note("no runs yet")
    return 0


def _status(record: Record) -> str:
    told = f"{record.status} ({record.exit_status})" if record.exit_status else record.status
    attempt = record.attempt
    return f"{told}, attempt {attempt.number} of {attempt.most}" if attempt else told


def _show(record: Record) -> None:
    rows = [
        ("run", record.id),
        ("cube", f"{record.cube.name} {record.cube.version or ''}".rstrip()),
        ("file", record.cube.file),
        ("task", record.task),
        ("platform", record.platform.name),
        ("image", record.image.reference or record.image.id or "" if record.image else ""),
        ("status", _status(record)),
        ("reason", record.message or ""),
        ("started", record.started),
        ("finished", record.finished or ""),
        ("seconds", "" if record.seconds.run is None else f"{record.seconds.run:g}"),
        *(("argument", word) for word in record.invocation.get("arguments", ())),
        *((f"output {output.name}", output.path) for output in record.outputs),
        ("log", RunDirectory(record.id).log),
    ]
    console.table([(name, str(text)) for name, text in rows if text])
    console.note("plan, checksums and the rest: add `--json`")


def _log(record: Record) -> None:
    """As it was printed, byte for byte."""
    try:
        with open(RunDirectory(record.id).log, "rb") as file:
            while chunk := file.read(1 << 16):
                console.raw(chunk)
    except FileNotFoundError:
        raise UsageError(f"run {record.id} has no log") from None
