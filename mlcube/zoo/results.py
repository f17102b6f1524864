"""Measured results of a cube: the file `results.yaml` (or `results.json`) beside its `mlcube.yaml`."""

import os
from typing import Any

import msgspec

from mlcube.errors import InvalidFile, Problem
from mlcube.source import Document
from mlcube.zoo.entries import Result

__all__ = ["FILES", "read_results"]

FILES = ("results.yaml", "results.json")
_MOST = 1000


def read_results(root: str) -> tuple[Result, ...]:
    """What the file says, if there is one. Raises InvalidFile with the place of the first mistake."""
    for name in FILES:
        path = os.path.join(root, name)
        if os.path.isfile(path) and not os.path.islink(path):
            return _understood(Document.from_file(path))
    return ()


def _understood(document: Document) -> tuple[Result, ...]:
    data: Any = document.data
    if isinstance(data, dict):
        data = data.get("results")
    if not isinstance(data, list):
        message = "results are a list of mappings with `metric` and `value`"
        raise InvalidFile((Problem(message=message, position=document.at(())),))
    found = []
    for index, each in enumerate(data[:_MOST]):
        try:
            found.append(msgspec.convert(each, Result))
        except msgspec.ValidationError as error:  # noqa: PERF203 - the first mistake is enough
            key = (index,) if document.span((index,)) else ("results", index)
            raise InvalidFile((Problem(message=str(error).lower(), position=document.at(key)),)) from None
    return tuple(found)
