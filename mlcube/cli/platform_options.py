"""The options of a new platform: from flags, from `key=value` words, or by question and answer on a terminal."""

import sys
import typing
from collections.abc import Sequence
from typing import Any

import msgspec

from mlcube.cli import console
from mlcube.errors import UsageError, did_you_mean, lowered
from mlcube.runner import Runner, find

__all__ = ["ask_options", "read_options"]


def read_options(runner: str, words: Sequence[str]) -> dict[str, Any]:
    """What `--host gpu1`, `--host=gpu1` or `host=gpu1` say, as the runner's options."""
    kinds = typing.get_type_hints(find(runner), include_extras=True)
    known = tuple(_fields(runner))
    options: dict[str, Any] = {}
    rest = iter(words)
    for word in rest:
        key, equals, text = word.removeprefix("--").partition("=")
        name = key.replace("-", "_")
        if name not in known or not (equals or word.startswith("--")):
            known_flags = tuple(f"--{each.replace('_', '-')}" for each in known)
            raise UsageError(f"runner `{runner}` has no option `{key}`", hint=did_you_mean(f"--{key}", known_flags))
        if not equals:
            text = next(rest, "")
            if not text:
                raise UsageError(f"option `{key}` has no value", hint=f"--{key} VALUE")
        if name in options:
            raise UsageError(f"option `{key}` is given twice")
        options[name] = _value(text, kinds[name], name)
    return options


def ask_options(runner: str, options: dict[str, Any]) -> dict[str, Any]:
    """The same with what the person at the terminal says; asked only if something is missing that is needed."""
    fields = _fields(runner)
    needed = [name for name, field in fields.items() if field.required and name not in options]
    if not needed or not sys.stdin.isatty():
        return options
    described = typing.get_type_hints(find(runner), include_extras=True)
    console.note(f"options of runner `{runner}`; an empty answer leaves one out")
    answers = dict(options)
    for name in sorted(fields, key=lambda name: name not in needed):
        if name in options:
            continue
        notes = [note.description for note in typing.get_args(described[name]) if isinstance(note, msgspec.Meta)]
        said = f"{name}{' (needed)' if name in needed else ''}: {notes[0] if notes else ''}".rstrip(": ")
        while True:
            console.note(said)
            text = sys.stdin.readline()
            if not text:
                raise UsageError(f"`{name}` was not answered", hint=f"--{name.replace('_', '-')} VALUE")
            if text.strip():
                answers[name] = _value(text.strip(), described[name], name)
            if text.strip() or name not in needed:
                break
    return answers


def _fields(runner: str) -> dict[str, msgspec.structs.FieldInfo]:
    kind: Any = find(runner)
    return {field.name: field for field in msgspec.structs.fields(kind)}


def _value(text: str, kind: Any, name: str) -> Any:
    """Text where the option is a text or a platform; else as in the settings file.

    Raises UsageError for what the option cannot be.
    """
    plain = typing.get_args(kind)[0] if typing.get_origin(kind) is typing.Annotated else kind
    if plain in (str, Runner) or (str in typing.get_args(plain) and typing.get_origin(plain) is not tuple):
        return text
    from mlcube.source import Document

    if typing.get_origin(plain) is tuple and not text.startswith("["):
        return [text]
    value = Document.from_yaml(text, f"--{name}").data
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise UsageError(f"option `--{name.replace('_', '-')}` cannot be `{text}`: {lowered(str(error))}") from None
    return value
