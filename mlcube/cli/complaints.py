"""What the parser complains of, in our words: what was at fault, what was expected, and what was most likely meant."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from mlcube.errors import CubeError, UsageError, closest, did_you_mean, lowered

__all__ = ["GLOBAL", "about_words", "translated"]

GLOBAL = ("--log-level", "--version", "--install-completion", "--show-completion")
"""Options that stand before the command."""


def translated(error: Any) -> CubeError:
    """A complaint of the parser, with a suggestion."""
    context: Any = getattr(error, "ctx", None)
    command: Any = context.command if context else None
    if context is None or command is None:
        return UsageError(_lowered(error))
    if name := getattr(error, "option_name", None):
        return _option(error, context, name)
    parameter = getattr(error, "param", None)
    ask_help = f"see `{context.command_path} --help`"
    if type(error).__name__ == "MissingParameter" and parameter is not None:
        return _missing(context, parameter)
    if parameter is not None and (message := getattr(error, "message", "")):
        return UsageError(f"`{_named(parameter)}` takes no such value: {_quoted(lowered(message))}", hint=ask_help)
    return UsageError(_lowered(error), hint=ask_help)


def about_words(error: Any, values: Mapping[str, Any], more: Sequence[str], context: Any) -> CubeError | None:
    """What is said of a word that is none of the few that may stand there, and of words that are too many.

    `values` are the words as they were given, `more` those that are no parameter's. None: the complaint is another.
    """
    parameter = getattr(error, "param", None)
    if parameter is None:
        return _too_many(context, values, more) if more else None
    if more and type(error).__name__ == "MissingParameter" and parameter.param_type_name == "option":
        words = [each for each in (values.get(name) for name in _arguments(context)) if isinstance(each, str)]
        hint = f"{context.command_path} {shlex.join((*words, _named(parameter), more[0]))}"
        return UsageError(f"`{context.command_path}` needs the option `{_named(parameter)}`", hint=hint)
    given = values.get(parameter.name)
    known = _choices(parameter)
    if not known or not isinstance(given, str) or given in known:
        return None
    near = closest(given.replace("_", "-"), known)
    path, listed = context.command_path, ", ".join(f"`{each}`" for each in known)
    if parameter.param_type_name == "option":
        return UsageError(
            f"`{_named(parameter)}` takes one of {listed}, not `{given}`", hint=near and f"did you mean `{near}`?"
        )
    if near is None:
        near = next((each for each in _ALSO.get(given, ()) if each in known), None)
    hint = f"did you mean `{path} {near}`?" if near else f"see `{path} --help`"
    if near is None and context.parent and given in context.parent.command.list_commands(context.parent):
        hint = f"did you mean `{context.parent.command_path} {given}`?"
    return UsageError(f"`{path}` takes one of {listed}, not `{given}`", hint=hint)


def _too_many(context: Any, values: Mapping[str, Any], more: Sequence[str]) -> CubeError:
    path = context.command_path
    arguments = [each for each in context.command.params if each.param_type_name == "argument"]
    if not arguments:
        return UsageError(f"`{path}` takes options alone, not `{more[0]}`", hint=f"see `{path} --help`")
    taken = " and ".join(f"`{_named(each)}`" for each in arguments)
    hint = f"see `{path} --help`"
    options = [each for option in context.command.params for each in option.opts]
    if "--key" in options and more[0].endswith((".key", ".pub")):
        hint = f"a key is given as `--key {more[0]}`"
    elif len(arguments) == 1 and not _choices(arguments[0]):
        each = (values.get(arguments[0].name), *more)
        hint = "once for each: " + "; ".join(f"{path} {shlex.quote(str(word))}" for word in each)
    return UsageError(f"`{path}` takes {taken} and no word more: `{more[0]}` is too much", hint=hint)


_ALSO: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("rm", "remove", "delete", "del"), ("remove", "unset", "prune")),
    **dict.fromkeys(("clean", "clear", "gc", "purge"), ("prune", "remove")),
    **dict.fromkeys(("ls", "all"), ("list",)),
    **dict.fromkeys(("new", "make", "generate", "gen", "build", "init"), ("create", "build")),
    **dict.fromkeys(("info", "inspect", "get", "cat", "print"), ("show", "list")),
    **dict.fromkeys(("check", "validate"), ("verify",)),
    **dict.fromkeys(("register", "update"), ("add",)),
    "merge": ("join",),
    "logs": ("log",),
}
"""What other programs call such actions: the first that is known is meant."""


def _arguments(context: Any) -> tuple[str, ...]:
    return tuple(each.name for each in context.command.params if each.param_type_name == "argument")


def _option(error: Any, context: Any, name: str) -> CubeError:
    command, ask_help = context.command, f"see `{context.command_path} --help`"
    if type(error).__name__ != "NoSuchOption":
        metavar = next((each.metavar for each in command.params if name in each.opts), None)
        return UsageError(_lowered(error), hint=f"{name} {metavar}" if metavar else ask_help)
    if name.replace("_", "-") in GLOBAL:
        return UsageError(
            f"`{name}` stands before the command", hint=f"{context.parent.command_path} {name} ... {command.name}"
        )
    bare = {option.lstrip("-"): option for each in command.params for option in each.opts if option.startswith("--")}
    hint = did_you_mean(name.replace("_", "-").lstrip("-"), tuple(bare))
    for word, option in bare.items():
        hint = hint.replace(f"`{word}`", f"`{option}`") if hint else None
    if hint is None and command.name == "run":
        hint = f"a task's parameter is given without dashes: {name.lstrip('-')}=VALUE"
    return UsageError(f"there is no option `{name}`", hint=hint or ask_help)


def _missing(context: Any, parameter: Any) -> CubeError:
    """Something must be said, and was not: an example says how."""
    path = context.command_path
    if (choices := _choices(parameter)) and parameter.param_type_name == "argument":
        listed = ", ".join(f"`{path} {each}`" for each in choices)
        return UsageError(f"`{path}` does several things: say which", hint=f"{listed}; see `{path} --help`")
    kind = "option" if parameter.param_type_name == "option" else "argument"
    return UsageError(f"`{path}` needs the {kind} `{_named(parameter)}`", hint=_example(context.command) or path)


def _example(command: Any) -> str | None:
    """The first of the examples that help shows."""
    lines = (command.epilog or "").splitlines()
    return next((line.strip() for line in lines if line.startswith("  ")), None)


def _choices(parameter: Any) -> tuple[str, ...]:
    return tuple(getattr(parameter.type, "choices", ()))


def _named(parameter: Any) -> str:
    """As the user writes it."""
    if parameter.param_type_name == "option":
        return str(max(parameter.opts, key=len))
    return str(parameter.metavar or parameter.name).strip("[].")


def _lowered(error: Any) -> str:
    return _quoted(lowered(error.format_message()))


def _quoted(text: str) -> str:
    return text.replace("'", "`")
