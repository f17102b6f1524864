"""Why a command could not be started, or failed, in words."""

import os.path
import shlex
from collections.abc import Mapping, Sequence

from mlcube import patience
from mlcube.errors import (
    Busy,
    CubeError,
    Damaged,
    Denied,
    EngineUnavailable,
    MissingInput,
    MissingOutput,
    PreparationFailed,
    Refused,
    TimedOut,
    Unreachable,
    Untrusted,
    UsageError,
)
from mlcube.plan import Command, SecretText

__all__ = ["ERRORS", "CannotStart", "Failed", "content", "late", "said", "shortened", "too_late", "why"]

ERRORS: dict[int, type[CubeError]] = {
    error.status: error
    for error in (
        UsageError,
        Damaged,
        MissingInput,
        Denied,
        Unreachable,
        EngineUnavailable,
        MissingOutput,
        PreparationFailed,
        Busy,
        Refused,
        Untrusted,
        TimedOut,
    )
}


Failed = tuple[Command, int, str]
"""A command that failed, its status, and what it said."""


class CannotStart(Exception):
    """A command that could not even be started."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def why(error: OSError | ValueError, command: Command) -> CannotStart:
    """What kept a command from starting, with the status that a shell would give."""
    executable = command.argv[0]
    if isinstance(error, ValueError):  # a NUL, or a name of a variable with `=`; the text holds no value
        return CannotStart(f"`{executable}` cannot be started: {error}", 126)
    if command.directory and error.filename == command.directory:
        return CannotStart(f"the directory `{command.directory}` cannot be entered: {error.strerror}", 126)
    if isinstance(error, FileNotFoundError):
        # Also a script whose interpreter is missing, which the kernel reports in the same words.
        missing = "its interpreter is missing" if os.path.isfile(executable) else "there is no such executable"
        return CannotStart(f"`{executable}` cannot be started: {missing}", 127)
    return CannotStart(f"`{executable}` cannot be started: {error.strerror}", 126)


def content(text: str | SecretText, secrets: Mapping[str, str]) -> bytes:
    """What is written or fed: the text, or the secret's value. What is not UTF-8 has its bytes escaped in it."""
    if isinstance(text, SecretText):
        if text.name not in secrets:
            raise UsageError(f"the secret `{text.name}` has no value")
        text = secrets[text.name]
    return text.encode(errors="surrogateescape")


def late(seconds: float | None) -> TimedOut:
    """The error that tells of a task's time limit."""
    return TimedOut(f"the task was stopped after its time limit of {seconds or 0:g} seconds")


def too_late(seconds: float) -> TimedOut:
    """The error that tells of the time that preparing may take."""
    return TimedOut(
        f"what comes before the task took longer than {seconds:g} seconds",
        hint=f"give it more: {patience.PREPARE}=2h, or unset it",
    )


def said(kept: Sequence[bytearray], quiet: bool) -> str:
    """What to add to an error of what a command printed; of its errors, if there are any."""
    texts = (bytes(each).decode(errors="replace").strip() for each in kept)
    lines = [line.rstrip() for line in next(filter(None, texts), "").splitlines() if line.strip()]
    # What was shown already is not shown again, but for the line that usually says why.
    lines = lines[-10:] if quiet else lines[-1:]
    return "".join(f"\n  {line}" for line in lines) if len(lines) > 1 else "".join(f": {line}" for line in lines)


def shortened(argv: tuple[str, ...], longest: int = 200) -> str:
    """A command as one line that fits into a message."""
    text = " ".join(shlex.join(argv).split())
    return text if len(text) <= longest else text[: longest - 3] + "..."
