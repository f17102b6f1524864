"""`cube wait`: until a run is over, wherever it was begun."""

from typing import Annotated

import typer

from mlcube.awaiting import until_over
from mlcube.cli import console
from mlcube.cli.arguments import Json, seconds, secrets
from mlcube.cli.attending import attend
from mlcube.errors import CubeError
from mlcube.record import Record, RunDirectory, find_id

EXAMPLE = """\b
Examples:
  cube wait last
  cube wait 20250131-101500-a1b2c3d4 --timeout 2h
"""

Id = Annotated[str, typer.Argument(metavar="[ID]", help="a run, by the beginning of its id, or `last`")]
Secret = Annotated[
    list[str] | None,
    typer.Option("--secret", metavar="NAME=FILE", help="where a secret lies; else the variable of its name"),
]
Limit = Annotated[str | None, typer.Option("--timeout", metavar="TIME", help="how long to wait, as 90s or 2h30m")]


def command(run_id: Id = "last", timeout: Limit = None, secret: Secret = None, as_json: Json = False) -> int:
    """Wait until a run is over; the exit status is the run's. One whose `cube` was killed is brought to its end."""
    run = RunDirectory(find_id(run_id))
    limit = seconds("--timeout", timeout)
    try:
        found = waited(run, limit, secret)
    except KeyboardInterrupt:
        console.note(f"run {run.id} goes on; to end it: cube cancel {run.id}")
        raise
    if as_json:
        console.document(found)
    return ending(found)


def waited(run: RunDirectory, limit: float | None, secret: list[str] | None) -> Record:
    """The record of a run that is over."""
    while True:
        attend(run, lambda names: secrets([(name, False) for name in names], secret))
        found = until_over(run, timeout_seconds=limit, what=f"the end of run {run.id}", waiting=console.note)
        if found.finished:
            return found


def ending(found: Record) -> int:
    """Tell how a run went; gives its exit status."""
    if found.exit_status:
        message = f"run {found.id} {found.status}: {found.message or f'status {found.exit_status}'}"
        error = CubeError(message, hint=f"what it printed: cube logs {found.id}")
        console.failure(error)
        return found.exit_status
    console.note(f"run {found.id} {found.status}")
    for output in found.outputs:
        console.note(f"  {output.name}: {output.path}")
    return 0
