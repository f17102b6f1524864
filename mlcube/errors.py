"""The error family, problems with their positions, and the exit status of each.

```
CubeError                    1
├── UsageError               2   a flag, a name or a value on the command line
├── InvalidFile              2   a cube, settings or container file: every problem of it at once
├── Damaged                 65   content is not what its digest says
├── MissingInput            66   a file, directory or reference that is needed is not there
├── Denied                  67   a registry refuses the login, or what was asked of it
├── Unreachable             68   a registry, zoo or other host does not answer as it must, or may not be asked
├── EngineUnavailable       69   the engine is not installed, or does not answer
├── MissingOutput           73   a task succeeded, but an output that it declares is not there, or is something else
├── PreparationFailed       74   the image or environment could not be made available
├── Unwritten           74, 141  a result could not be written to stdout; 141 if its reader has gone, as by SIGPIPE
├── Busy                    75   another run holds what this one would write
├── Refused                 77   the platform cannot honour what was asked
├── Untrusted               78   the trust policy forbids it
├── TimedOut               124   the task's time limit passed
└── Interrupted          128+n   a signal stopped the run
```

A task's own failure is no error of this family: its exit status passes through.
"""

from typing import Literal

import msgspec

__all__ = [
    "Busy",
    "CubeError",
    "Damaged",
    "Denied",
    "EngineUnavailable",
    "Interrupted",
    "InvalidFile",
    "MissingInput",
    "MissingOutput",
    "Position",
    "PreparationFailed",
    "Problem",
    "Refused",
    "TimedOut",
    "Unreachable",
    "Untrusted",
    "Unwritten",
    "UsageError",
    "closest",
    "did_you_mean",
    "escaped",
    "lowered",
]


class Position(msgspec.Struct, frozen=True):
    """Where something was written: a file or a flag, and the line and column there, counted from 1."""

    source: str
    line: int = 0
    column: int = 0
    length: int = 1
    excerpt: str = ""
    """The source line itself, without its end."""

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong: where, what, and what to do about it."""

    message: str
    position: Position | None = None
    hint: str | None = None
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        """The problem as it is printed, without colour."""
        where = f"{escaped(str(self.position), lines=False)}: " if self.position else ""
        lines = [f"{where}{self.severity}: {escaped(self.message, lines='indented')}"]
        if self.position and self.position.excerpt.strip():
            lines += _excerpt(self.position)
        if self.hint:
            lines.append(f"hint: {escaped(self.hint)}")
        return "\n".join(lines)


def _excerpt(position: Position) -> list[str]:
    """The source line with a caret line below it, shortened around the place when it is long."""
    text = "".join(letter if letter.isprintable() else " " for letter in position.excerpt.rstrip())
    column = position.column
    start = max(0, column - 60) if len(text) > 100 else 0
    shown = text[start : start + 100]
    number = str(position.line)
    carets = "^" * max(1, min(position.length, len(shown) - (column - start) + 1))
    return [f"{number:>3} | {shown}", f"{'':>{max(3, len(number))}} | {' ' * (column - start - 1)}{carets}"]


class CubeError(Exception):
    """Anything that a user can cause or mend. Only the command line prints it."""

    status = 1
    run_id: str | None = None
    """The run in which it happened."""

    def __init__(self, message: str, *, hint: str | None = None, position: Position | None = None) -> None:
        super().__init__(message)
        self.problems: tuple[Problem, ...] = (Problem(message=message, hint=hint, position=position),)

    @property
    def hint(self) -> str | None:
        """What to do next."""
        return self.problems[0].hint

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class UsageError(CubeError):
    """A flag, a name or a value on the command line is wrong."""

    status = 2


class InvalidFile(CubeError):
    """A file does not say what it must. Carries every problem of the file."""

    status = 2

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        errors = [problem for problem in problems if problem.severity == "error"]
        super().__init__(errors[0].message)
        self.problems = problems


class Damaged(CubeError):
    """Content is not what its digest says: it was changed, cut or mixed up on the way, or where it lay."""

    status = 65


class MissingInput(CubeError):
    """A file or directory that a task needs is not there, or a reference leads to nothing."""

    status = 66


class Denied(CubeError):
    """A registry refuses the login, or what was asked of it."""

    status = 67


class Unreachable(CubeError):
    """A registry, zoo or other host does not answer as it must, or may not be asked because of `--offline`."""

    status = 68


class EngineUnavailable(CubeError):
    """The engine is not installed, or does not answer."""

    status = 69


class MissingOutput(CubeError):
    """A task succeeded, but an output that it declares is not there, or is something else."""

    status = 73


class PreparationFailed(CubeError):
    """The image or environment could not be made available."""

    status = 74


class Unwritten(CubeError):
    """A result could not be written to stdout. That its reader has gone, as `head` does, needs no words."""

    def __init__(self, error: OSError) -> None:
        reason = (error.strerror or str(error)).lower()
        super().__init__(f"the result could not be written to stdout: {reason}")
        self.status = 74
        if isinstance(error, BrokenPipeError):
            self.status, self.problems = 141, ()


class Busy(CubeError):
    """Another run holds what this one would write."""

    status = 75


class Refused(CubeError):
    """The platform cannot honour what was asked; nothing was run with less."""

    status = 77


class Untrusted(CubeError):
    """The trust policy of this machine forbids it; nothing of it was run."""

    status = 78


class TimedOut(CubeError):
    """The task's time limit passed."""

    status = 124


class Interrupted(CubeError):
    """A signal stopped the run."""

    def __init__(self, signal_number: int, name: str, *, left: str | None = None, hint: str | None = None) -> None:
        """`left`: what there is of what was to be made."""
        super().__init__(f"stopped by {name}{f': {left}' if left else ''}", hint=hint)
        self.status = 128 + signal_number


def closest(word: str, known: "tuple[str, ...] | list[str]") -> str | None:
    """The closest of the known words, if there is one that could have been meant."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(word, known, n=1, cutoff=0.65)), None)


def did_you_mean(word: str, known: "tuple[str, ...] | list[str]") -> str | None:
    """A hint that names the closest of the known words, or all of them when there are few."""
    if found := closest(word, known):
        return f"did you mean `{found}`?"
    if known and len(known) <= 12:
        return "known: " + ", ".join(f"`{name}`" for name in known)
    return None


def lowered(text: str) -> str:
    """Somebody else's sentence in our style: lower case, no final period."""
    return text[:1].lower() + text[1:].rstrip(".")


def escaped(text: str, *, lines: "bool | Literal['indented']" = True) -> str:
    r"""A text that a terminal shows as it is: control characters as `\x1b`, line breaks in a quoted name as `\n`.

    With `lines` false no line break is left at all; with `indented` only those before a list, so that what somebody
    else wrote into a message begins no line that looks like one of ours.
    """
    if text.isprintable():
        return text
    import re

    def shown(found: "re.Match[str]") -> str:
        return found[0].encode("unicode_escape").decode()

    text = re.sub("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]", shown, text)
    if not lines:
        return re.sub("[\n\t]", shown, text)
    # Lines that are indented are a list, or what a command printed.
    if lines == "indented":
        return re.sub("\n(?!  )", shown, text)
    return re.sub("`[^`]*`", lambda quoted: re.sub("\n(?!  )", r"\\n", quoted[0]), text)
