"""What code written for Cog imports, as far as a single prediction needs it; nothing else of Cog is there."""

import pathlib
from typing import Any


class Path(pathlib.PosixPath):
    """A file that goes in or comes out."""


File = Any


class Secret(str):
    """A value that shows itself only when it is asked."""

    __slots__ = ()

    def get_secret_value(self) -> str:
        return str.__str__(self)

    def __repr__(self) -> str:
        return "Secret('**********')"


class Given:
    """What `Input(...)` says of a parameter."""

    def __init__(self, default: Any) -> None:
        self.default = default


def Input(default: Any = ..., **_: Any) -> Any:
    return Given(default)


class BasePredictor:
    def setup(self) -> None:
        pass


BaseRunner = BasePredictor


class BaseModel:
    """A result with several named parts."""

    def __init__(self, **parts: Any) -> None:
        names = [name for each in reversed(type(self).__mro__) for name in getattr(each, "__annotations__", {})]
        for name in names:
            setattr(self, name, parts.get(name, getattr(type(self), name, None)))


class ConcatenateIterator(list[Any]):
    """Text that comes in pieces."""

    def __class_getitem__(cls, item: Any) -> Any:
        return cls


class AsyncConcatenateIterator(ConcatenateIterator):
    pass
