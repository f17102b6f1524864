"""How long is waited for what, as the user says with variables; and how long without a word."""

import os

from mlcube.amounts import duration
from mlcube.errors import UsageError

__all__ = [
    "ANSWER",
    "CONNECTION",
    "PREPARE",
    "SILENT_SECONDS",
    "answer_seconds",
    "connection_seconds",
    "limited",
    "prepare_seconds",
]

PREPARE = "CUBE_PREPARE_TIMEOUT"
CONNECTION = "CUBE_CONNECTION_TIMEOUT"
ANSWER = "CUBE_ANSWER_TIMEOUT"

SILENT_SECONDS = 2.0
"""How long the user may wait without being told for what."""


def prepare_seconds() -> float | None:
    """How long all that comes before a task may take: images, environments, files on their way. None: any time."""
    return _seconds(PREPARE)


def connection_seconds() -> float | None:
    """How long a connection that failed is tried again. None: some hours, as the plans say."""
    return _seconds(CONNECTION)


def answer_seconds(otherwise: float = 30.0) -> float:
    """How long an engine, a host, or another process that writes a note, may take to answer."""
    return _seconds(ANSWER) or otherwise


def limited(pauses: tuple[float, ...]) -> tuple[float, ...]:
    """Of the pauses between attempts, those for which there is time; the last one may be cut short."""
    left = connection_seconds()
    if left is None:
        return pauses
    kept: list[float] = []
    for pause in pauses:
        if left < 1.0:
            break
        kept.append(min(pause, left))
        left -= kept[-1]
    return tuple(kept)


def _seconds(variable: str) -> float | None:
    text = os.environ.get(variable)
    if not text:
        return None
    try:
        return duration(text)
    except ValueError as error:
        raise UsageError(f"the variable `{variable}` takes {error}", hint=f"unset {variable}") from None
