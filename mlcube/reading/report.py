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
        self.told: set[Position | None] = set()
        """Where a reference leads to nothing: what else could be said of it would be said of its text."""

    def error(self, message: str, *key: str | int, hint: str | None = None, of_key: bool = False) -> None:
        """What prevents the cube from being run."""
        position = self.where(key, of_key)
        if position not in self.told:
            self.problems.append(Problem(message=message, hint=hint, position=position))

    def error_at(self, position: Position | None, message: str, *, hint: str | None = None) -> None:
        """The same at a place that is already known."""
        self.problems.append(Problem(message=message, hint=hint, position=position))

    def warning(self, message: str, *key: str | int, hint: str | None = None, of_key: bool = False) -> None:
        """What its author should mend."""
        position = self.where(key, of_key)
        self.problems.append(Problem(message=message, hint=hint, position=position, severity="warning"))

    def text(self, value: object, *key: str | int) -> str | None:
        """Text; a number as it was written, so that `version: 1.10` stays so."""
        if value is None or isinstance(value, str):
            return value
        return self.layers.raw(self.original(key)) or str(value)

    def item(self, key: Key, index: int) -> int:
        """The number in the file of an item of a list from which what was no such item at all is left out."""
        number = -1
        for _ in range(index + 1):
            number += 1
            while (*key, number) in self.spoiled:
                number += 1
        return number

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
