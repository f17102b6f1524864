"""Zoos: indexes of cubes that anyone can host as plain files; built, read and searched."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlcube.zoo.finding import Found, find

__all__ = ["Found", "find"]


def __getattr__(name: str) -> Any:
    """Imported when it is first used: who builds pages needs none of it."""
    if name not in __all__:
        raise AttributeError(name)
    from mlcube.zoo import finding

    return getattr(finding, name)
