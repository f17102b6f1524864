"""`cube logs`: what the task of a run printed, and prints."""

import os
import sys
from typing import Annotated

import typer

from mlcube import watching
from mlcube.awaiting import process_here
from mlcube.cli import console, streams
from mlcube.cli.arguments import secrets
from mlcube.cli.attending import attend
from mlcube.cli.wait import Id, Secret
from mlcube.errors import UsageError
from mlcube.patience import SILENT_SECONDS
from mlcube.record import RunDirectory, find_id

EXAMPLE = """\b
Examples:
  cube logs last
  cube logs -f 20250131-101500-a1b2c3d4
"""

Follow = Annotated[bool, typer.Option("-f", "--follow", help="go on until the run is over")]


def command(run_id: Id = "last", follow: Follow = False, secret: Secret = None) -> int:
    """Print what the task of a run printed, byte for byte."""
    run = RunDirectory(find_id(run_id))
    if follow:
        attend(run, lambda names: secrets([(name, False) for name in names], secret))
    elif not os.path.exists(run.log):
        raise UsageError(f"run {run.id} has no log", hint=f"cube runs show {run.id}")
    known, waited, pause = 0, 0.0, watching.FIRST_PAUSE
    while True:
        with watching.growing(run.log, process_here(run)) as events:
            over = not follow or not run.live()
            printed = _printed(run.log, known)
            known += printed
            if over or streams.unwritten():
                return 0
            pause = watching.FIRST_PAUSE if printed else pause
            watching.doze(pause, *events)
        waited += pause
        if not known and waited >= SILENT_SECONDS > waited - pause:
            console.note(f"waiting for the task of run {run.id} to print something")
        pause = watching.grown(pause, watching.WATCHED_PAUSE)


def _printed(path: str, known: int) -> int:
    """Print what came after so many bytes; gives how many that were."""
    try:
        with open(path, "rb") as file:
            file.seek(known)
            while chunk := file.read(1 << 16):
                console.raw(chunk)
            sys.stdout.flush()
            return file.tell() - known
    except FileNotFoundError:
        return 0
