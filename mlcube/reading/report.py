"""Where problems are collected while a cube file is understood."""

from collections.abc import Callable

from mlcube.errors import Position, Problem
from mlcube.layers import Layers
from mlcube.source import Key
from mlcube.validation import Where

__all__ = ["Report"]


class Report:
    """The problems found so far, and how a place of the file is named in them."""

    def __init__(self, layers: Layers, where: Where, original: Callable[[Key], Key] = lambda key: key) -> None:
        self.layers, self.where, self.original = layers, where, original
        self.problems: list[Problem] = []
        self.spoiled: set[Key] = set()
        """Where something is wrong already, so that what follows from it need not be told."""

    def error(self, message: str, *key: str | int, hint: str | None = None, of_key: bool = False) -> None:
        """What prevents the cube from being run."""
        self.problems.append(Problem(message=message, hint=hint, position=self.where(key, of_key)))

    def error_at(self, position: Position | None, message: str, *, hint: str | None = None) -> None:
        """The same at a place that is already known."""
        self.problems.append(Problem(message=message, hint=hint, position=position))

    def warning(self, message: str, *key: str | int, hint: str | None = None) -> None:
        """What its author should mend."""
        position = self.where(key, False)
        self.problems.append(Problem(message=message, hint=hint, position=position, severity="warning"))

    def text(self, value: object, *key: str | int) -> str | None:
        """Text; a number as it was written, so that `version: 1.10` stays so."""
        if value is None or isinstance(value, str):
            return value
        return self.layers.raw(self.original(key)) or str(value)

    @property
    def failed(self) -> bool:
        """Whether there is an error among the problems."""
        return any(problem.severity == "error" for problem in self.problems)

    def in_order(self) -> tuple[Problem, ...]:
        """The problems by place, errors first, each once."""

        def rank(problem: Problem) -> tuple[bool, int, int]:
            where = problem.position or Position("")
            return (problem.severity != "error", where.line, where.column)

        return tuple(sorted(dict.fromkeys(self.problems), key=rank))
