"""Runs whose `cube` was killed: what they left is ended and cleaned up as soon as somebody looks."""

import msgspec

from mlcube.cli import console
from mlcube.errors import CubeError
from mlcube.record import killed, settle

__all__ = ["settle_killed"]


def settle_killed() -> None:
    """End and note what runs left that were killed; trouble with one of them stops nothing."""
    for run_id in killed():
        try:
            settle(run_id)
        except CubeError as error:  # noqa: PERF203 - each in turn
            console.warnings(tuple(msgspec.structs.replace(each, severity="warning") for each in error.problems))
        else:
            console.note(f"run {run_id} was killed: what it left is cleaned up")
