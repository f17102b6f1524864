"""A cube file in the making: what was carried over, and what could not be."""

import math
import os.path
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from mlcube.errors import CubeError, InvalidFile, Problem
from mlcube.source import Document, read_text

__all__ = ["Draft", "Foreign", "held", "invalid", "name_of", "number", "text_of", "word", "words_of"]

_NAME = re.compile(r"[^A-Za-z0-9_.-]+")
_TOO_LARGE = 10**60
"""Digits of a greater length are text where a cube file is read."""


class Foreign(msgspec.Struct, frozen=True, kw_only=True):
    """A file of another tool, and the folder in which it lies: its code and its other files are found there."""

    path: str
    document: Document
    text: str

    @property
    def folder(self) -> str:
        """The folder that becomes the cube."""
        return os.path.dirname(os.path.abspath(self.path))

    def beside(self, name: str) -> str | None:
        """The text of another file of that folder, or of one below it; None where there is none.

        Raises CubeError for a name that leads out of the folder, also by way of a link: its text would be published.
        """
        if "\0" in name:
            return None
        folder = os.path.realpath(self.folder)
        path = os.path.realpath(os.path.join(self.folder, name))
        if os.path.relpath(path, folder).split(os.sep)[0] == os.pardir:
            raise CubeError(f"`{name}` lies outside `{self.folder}`, which becomes the cube", hint="move it into it")
        return text_of(path, name) if os.path.isfile(path) else None

    def mapping(self, *key: str | int) -> dict[str, Any]:
        """The mapping at a place of the file; an empty one where nothing is written. Raises InvalidFile."""
        found: Any = self.document.data
        for each in key:
            found = found.get(each) if isinstance(found, dict) else None
        if found is None:
            return {}
        if not isinstance(found, dict):
            where = f"`{'.'.join(map(str, key))}`" if key else "the file"
            hint = f"write it as `{key[-1]}: {{KEY: VALUE}}`" if key else "write it as lines of `KEY: VALUE`"
            raise invalid(self, f"{where} must be a mapping", *key, hint=hint)
        return found


class Draft(msgspec.Struct, kw_only=True):
    """What is written: the cube file's data, files beside it, and notes."""

    data: dict[str, Any]
    files: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Text by name, for what the cube file needs beside it."""
    notes: dict[str, None] = msgspec.field(default_factory=dict)
    """In order, and each once: what could not be carried over, or means something else here."""

    def note(self, text: str) -> None:
        """Add a note, once."""
        self.notes[text] = None


def text_of(path: str, name: str) -> str:
    """A file's text; what describes a model is written by people, and what is read of it takes many times its size."""
    return read_text(path, name, most_mib=1, kind="file written by hand")


def invalid(foreign: Foreign, message: str, *key: str | int, hint: str) -> InvalidFile:
    """An error at a place of the foreign file."""
    return InvalidFile((Problem(message=message, position=foreign.document.at(key), hint=hint),))


def name_of(foreign: Foreign, written: object) -> str:
    """The cube's name: what the file says, else its folder's."""
    text = written if isinstance(written, str) and written.strip() else os.path.basename(foreign.folder)
    return _NAME.sub("-", text.strip()).strip("-.") or "cube"


def word(text: str) -> str:
    """A name as a task or a parameter may have it."""
    return _NAME.sub("_", text.strip()).strip("-.") or "value"


def words_of(foreign: Foreign, names: Iterable[str], *key: str | int) -> dict[str, str]:
    """Names as a cube may have them, by what they are in the other file. Raises InvalidFile for two that become one."""
    found: dict[str, str] = {}
    first: dict[str, str] = {}
    for name in names:
        found[name] = word(name)
        if first.setdefault(found[name], name) != name:
            message = f"`{first[found[name]]}` and `{name}` would both be called `{found[name]}` in the cube"
            raise invalid(foreign, message, *key, hint="give one of them another name, of ASCII letters and digits")
    return found


def held(value: object) -> bool:
    """Whether a cube file can hold a value that stands in no mapping: it is text, UTF-8 as all of it is, and JSON."""
    if isinstance(value, list | tuple):
        return all(map(held, value))
    if isinstance(value, str):
        return not any("\ud800" <= letter <= "\udfff" for letter in value)
    if isinstance(value, int):
        return -_TOO_LARGE < value < _TOO_LARGE
    return value is None or (isinstance(value, float) and math.isfinite(value))


def number(value: object) -> float | None:
    """A value as a number that a cube file can hold; None for one that is none."""
    try:
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None
