"""Plain data checked against a declared type: every problem at once, each with its place.

`msgspec` converts and stops at the first problem without naming its key; it is asked first, since most files are
right. Only when it refuses is the data walked along the type to find them all.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from mlcube.errors import Position, Problem, did_you_mean
from mlcube.source import Key

__all__ = ["Advice", "Where", "convert", "named"]

T = TypeVar("T")
_WRONG: Any = object()
"""Stands for a value that is left out, so that the rest can still be judged."""

Where = Callable[[Key, bool], Position]
"""Tells where a value (or, with True, its key) was written."""


Advice = Callable[[Key, Any], str | None]
"""Tells what to do about a key that is unknown or has a wrong value."""


def convert(
    data: Any,
    type_: type[T],
    where: Where,
    *,
    key: Key = (),
    advice: Advice | None = None,
    spoiled: "set[Key] | None" = None,
) -> tuple[T | None, list[Problem]]:
    """Data as `type_`, with its problems; None when what is left without the wrong parts is no `type_` at all.

    Unknown keys come as problems of severity `warning`: the caller decides. `advice` may know better than the
    types what was meant. `spoiled` gets the places where something was wrong, and with them what lies above.
    """
    try:
        return msgspec.convert(data, type_), []
    except msgspec.ValidationError:
        walk = _Walk(where, advice)
        cleaned = walk.value(data, _info(type_), key)
        if spoiled is not None:
            spoiled |= {place[:end] for place in walk.places for end in range(1, len(place) + 1)}
    try:
        return msgspec.convert(cleaned, type_), walk.problems
    except msgspec.ValidationError as error:
        if walk.meant:  # a key that must be there is misspelt
            return None, [msgspec.structs.replace(problem, severity="error") for problem in walk.problems]
        if not any(problem.severity == "error" for problem in walk.problems):  # a rule that the walk does not know
            text = str(error)
            walk.problems.append(Problem(message=text[:1].lower() + text[1:], position=where(key, False)))
        return None, walk.problems


def _info(type_: Any) -> Any:
    from msgspec import inspect

    return inspect.type_info(type_)


class _Walk:
    def __init__(self, where: Where, advice: Advice | None) -> None:
        from msgspec import inspect

        self.inspect, self.where, self.advice = inspect, where, advice
        self.problems: list[Problem] = []
        self.places: list[Key] = []
        self.meant: set[Key] = set()

    def value(self, data: Any, kind: Any, key: Key) -> Any:
        """Check `data`, and give it back without what is wrong in it."""
        inspect = self.inspect
        if isinstance(kind, inspect.Metadata):
            return self.value(data, kind.type, key)
        if isinstance(kind, inspect.UnionType):
            return self.union(data, kind, key)
        if isinstance(kind, (inspect.StructType, inspect.DataclassType)):
            return self.struct(data, kind, key)
        if isinstance(kind, inspect.DictType):
            return self.mapping(data, kind, key)
        if isinstance(kind, (inspect.ListType, inspect.VarTupleType)):
            return self.sequence(data, kind, key)
        return self.scalar(data, kind, key)

    def union(self, data: Any, kind: Any, key: Key) -> Any:
        for member in kind.types:
            if _fits(data, member, self.inspect):
                return self.value(data, member, key)
        return self.expected(data, kind, key)

    def struct(self, data: Any, kind: Any, key: Key) -> Any:
        if not isinstance(data, dict):
            return self.expected(data, kind, key)
        fields = {field.encode_name: field for field in kind.fields}
        result = {}
        for name, value in data.items():
            inner = (*key, name)
            if name not in fields:
                self.unknown(name, inner, value, tuple(fields))
                continue
            if (checked := self.value(value, fields[name].type, inner)) is not _WRONG:
                result[name] = checked
        for name, field in fields.items():
            if field.required and name not in data and (*key, name) not in self.meant:
                self.error(f"{_place(key)} needs a key `{name}`", key, self.advised((*key, name), None))
        return result

    def mapping(self, data: Any, kind: Any, key: Key) -> Any:
        if not isinstance(data, dict):
            return self.expected(data, kind, key)
        if not data and kind.min_length:
            self.error(f"{_place(key)} is empty", key, self.advised(key, data))
        checked = {name: self.value(value, kind.value_type, (*key, name)) for name, value in data.items()}
        return {name: value for name, value in checked.items() if value is not _WRONG}

    def sequence(self, data: Any, kind: Any, key: Key) -> Any:
        if not isinstance(data, list):
            return self.expected(data, kind, key)
        checked = [self.value(value, kind.item_type, (*key, index)) for index, value in enumerate(data)]
        return [value for value in checked if value is not _WRONG]

    def scalar(self, data: Any, kind: Any, key: Key) -> Any:
        if not _fits(data, kind, self.inspect):
            return self.expected(data, kind, key)
        if isinstance(kind, self.inspect.LiteralType):
            if data not in kind.values:
                choices = [str(value) for value in kind.values]
                hint = did_you_mean(str(data), choices)
                return self.error(f"`{_last(key)}` must be one of {_listed(choices)}, not `{data}`", key, hint)
        elif (least := getattr(kind, "ge", None)) is not None and data < least:
            return self.error(f"`{_last(key)}` must be {least} or more, not {data}", key)
        return data

    def unknown(self, name: str, key: Key, value: Any, known: tuple[str, ...]) -> None:
        hint = did_you_mean(str(name), known)
        self.meant |= {(*key[:-1], word) for word in known if hint == f"did you mean `{word}`?"}
        self.places.append(key)
        if value is None and ":" in str(name):
            hint = "put a space after the colon"
        hint = self.advised(key, value) or hint
        message = f"unknown key `{name}`" + (f" in {_path(key[:-1])}" if len(key) > 1 else "")
        self.problems.append(Problem(message=message, position=self.where(key, True), hint=hint, severity="warning"))

    def expected(self, data: Any, kind: Any, key: Key) -> Any:
        wanted = _description(kind, self.inspect)
        hint = self.advised(key, data) or _spelling(data, wanted)
        return self.error(f"{_place(key)} must be {wanted}, not {named(data)}", key, hint)

    def advised(self, key: Key, data: Any) -> str | None:
        return self.advice(key, data) if self.advice else None

    def error(self, message: str, key: Key, hint: str | None = None) -> Any:
        self.places.append(key)
        self.problems.append(Problem(message=message, position=self.where(key, False), hint=hint))
        return _WRONG


def _fits(data: Any, kind: Any, inspect: Any) -> bool:
    """Whether data has the outer shape of a type."""
    if isinstance(kind, inspect.Metadata):
        return _fits(data, kind.type, inspect)
    if isinstance(kind, inspect.UnionType):
        return any(_fits(data, member, inspect) for member in kind.types)
    if isinstance(kind, inspect.LiteralType):
        return any(type(data) is type(value) for value in kind.values)
    shapes: tuple[tuple[Any, Any], ...] = (
        (inspect.NoneType, type(None)),
        (inspect.BoolType, bool),
        (inspect.IntType, int),
        (inspect.FloatType, (int, float)),
        (inspect.StrType, str),
        ((inspect.StructType, inspect.DataclassType, inspect.DictType), dict),
        ((inspect.ListType, inspect.VarTupleType), list),
    )
    for of_type, shape in shapes:
        if isinstance(kind, of_type):
            return isinstance(data, shape) and (shape is bool or not isinstance(data, bool))
    return True


def _description(kind: Any, inspect: Any) -> str:
    if isinstance(kind, inspect.Metadata):
        return _description(kind.type, inspect)
    if isinstance(kind, inspect.UnionType):
        members = [member for member in kind.types if not isinstance(member, inspect.NoneType)]
        words = dict.fromkeys(_description(member, inspect) for member in members)
        if "a number" in words:
            words.pop("a whole number", None)
        return " or ".join(sorted(words, key=lambda word: word != "text"))
    if isinstance(kind, inspect.LiteralType):
        return f"one of {_listed([str(value) for value in kind.values])}"
    names = (
        (inspect.BoolType, "true or false"),
        (inspect.IntType, "a whole number"),
        (inspect.FloatType, "a number"),
        (inspect.StrType, "text"),
        ((inspect.StructType, inspect.DataclassType, inspect.DictType), "a mapping"),
        ((inspect.ListType, inspect.VarTupleType), "a list"),
    )
    return next((name for of_type, name in names if isinstance(kind, of_type)), "something else")


def _spelling(data: Any, wanted: str) -> str | None:
    """How what was written would be spelt as what was meant."""
    if wanted == "true or false" and isinstance(data, str):
        meant = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}
        return f"write `{meant.get(data.lower(), 'true')}`, without quotes"
    if "text" in wanted and isinstance(data, (bool, int, float)):
        return f'quote it, as "{str(data).lower()}"'
    return None


def named(data: Any) -> str:
    """What was written, as the end of a sentence."""
    match data:
        case None:
            return "empty"
        case bool():
            return f"the truth value `{str(data).lower()}`"
        case int() | float():
            return f"the number {data}"
        case str():
            return f"the text `{data if len(data) <= 40 else data[:37] + '...'}`"
        case list():
            return "a list"
        case _:
            return "a mapping"


def _place(key: Key) -> str:
    return f"`{_path(key)}`" if key else "the file"


def _path(key: Key) -> str:
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _last(key: Key) -> str:
    """The last name of a key, with what stands behind it: `kinds[0]`."""
    names = [place for place, part in enumerate(key) if isinstance(part, str)]
    return _path(key[names[-1] :] if names else key)


def _listed(words: list[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)
