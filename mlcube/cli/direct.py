"""Runs the commands that are run most without the parser, when their words are plainly right.

It understands a part of what typer does, and that part in the same way. Whatever it does not understand, help and
mistakes above all, is left to typer.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, Literal, get_args, get_origin

from mlcube.cli.declared import Declared
from mlcube.cli.interruption import is_raised
from mlcube.cli.outcome import outcome

__all__ = ["COMMANDS", "start", "understood"]

COMMANDS = ("check", "pull", "run")


def start(words: Sequence[str]) -> int | None:
    """The exit status of `cube` with these words; None when typer must see to them."""
    if not words or words[0] not in COMMANDS or any(name.endswith("_COMPLETE") for name in os.environ):
        return None
    command = import_module(f"mlcube.cli.{words[0]}").command
    given = understood(command, words[1:])
    if given is None:
        return None
    is_raised()
    return outcome(lambda: command(**given), as_json=bool(given.get("as_json")))


def understood(command: Callable[..., Any], words: Sequence[str]) -> dict[str, Any] | None:
    """What a command is to be called with; None when that is not plain."""
    options, positional = _declared(command)
    given: dict[str, Any] = {}
    rest = iter(words)
    for word in rest:
        if not word.startswith("-"):
            if positional is None or not word:
                return None
            if not _take(given, *positional, word):
                return None
            continue
        name, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
        if name not in options:
            return None
        parameter, kind = options[name]
        if kind is bool:
            if equals:
                return None
            given[parameter] = True
            continue
        if not equals:
            value = next(rest, "-")
            if value.startswith("-"):
                return None
        if not value or not _take(given, parameter, kind, value):
            return None
    return given


def _take(given: dict[str, Any], parameter: str, kind: Any, value: str) -> bool:
    """Note the value of a parameter. False: that is not plain."""
    repeatable, choices = _admitted(kind)
    if choices is None or (choices and value not in choices) or (parameter in given and not repeatable):
        return False
    if repeatable:
        given.setdefault(parameter, []).append(value)
    else:
        given[parameter] = value
    return True


def _declared(command: Callable[..., Any]) -> tuple[Mapping[str, tuple[str, Any]], tuple[str, Any] | None]:
    """The parameter and the type of every option, and those that take the other words."""
    options: dict[str, tuple[str, Any]] = {}
    positional = None
    for parameter, hint in command.__annotations__.items():
        kind, *notes = get_args(hint) or (hint,)
        if notes and isinstance(notes[0], Declared):
            options.update(dict.fromkeys(notes[0].names, (parameter, kind)))
            if not notes[0].names:
                positional = parameter, kind
    return options, positional


def _admitted(kind: Any) -> tuple[bool, tuple[str, ...] | None]:
    """Whether an option may be repeated, and its choices: none of them for any text, None for what is not plain."""
    kinds = [each for each in (get_args(kind) if type(None) in get_args(kind) else (kind,)) if each is not type(None)]
    match kinds:
        case [only] if only is str or only is bool:
            return False, ()
        case [only] if only == list[str]:
            return True, ()
        case [only] if get_origin(only) is Literal:
            return False, get_args(only)
    return False, None
