"""Parser events made into plain data, with the place of every key and value."""

from collections.abc import Callable
from typing import Any, NoReturn

from mlcube.errors import InvalidFile, Position, Problem

__all__ = ["Key", "Reader", "Span"]

Key = tuple[str | int, ...]
"""A place in a document: keys and indices from the top."""

Span = tuple[int, int, int]
"""Line and column, counted from 0, and the length on that line."""

_MOST_DEPTH = 64
_MOST_VALUES = 200_000
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_NUMBER_STARTS = frozenset("0123456789+-.")
_INFINITIES = {".inf": float("inf"), "+.inf": float("inf"), "-.inf": float("-inf"), ".nan": float("nan")}


class Reader:
    """Builds data from parser events. Recursion is bounded, so that no text can exhaust the stack."""

    def __init__(self, name: str, lines: tuple[str, ...]) -> None:
        from yaml import events

        self.name, self.lines, self.events = name, lines, events
        self.values: dict[Key, Span] = {}
        self.keys: dict[Key, Span] = {}
        self.anchors: dict[str, tuple[Any, Key]] = {}
        self.borrowed: dict[Key, tuple[Key, ...]] = {}
        self.count = 0
        self.next: Callable[[], Any] = lambda: None

    def read(self, parser: Any) -> Any:
        events = self.events
        self.next = parser.get_event
        self.next()  # stream start
        if isinstance(self.next(), events.StreamEndEvent):
            return None
        data = self.value(self.next(), (), 0)
        self.next()  # document end
        if not isinstance(extra := self.next(), events.StreamEndEvent):
            self.fail("a second document begins here", extra, "one file holds one cube: remove what follows `---`")
        return data

    def value(self, event: Any, key: Key, depth: int) -> Any:
        start, end = event.start_mark, event.end_mark
        line, column = start.line, start.column
        self.values[key] = (line, column, end.column - column if end.line == line else self.rest(line, column))
        self.count += 1
        if depth > _MOST_DEPTH or self.count > _MOST_VALUES:
            self.fail("this is nested more deeply or repeated more often than any cube needs", event)
        events = self.events
        kind = type(event)
        if kind is events.ScalarEvent:
            if "\0" in event.value:
                self.fail("a null character has no meaning in a cube file", event, "remove it")
            if event.tag is not None:
                data = self.tagged(event.tag, event.value, event)
            else:
                data = _scalar(event.value) if event.implicit[0] else event.value
        elif kind is events.AliasEvent:
            return self.alias(event, key)
        else:
            self.values[key] = (line, column, 1)
            self.untagged(event)
            data = self.mapping(key, depth) if kind is events.MappingStartEvent else self.sequence(key, depth)
        if event.anchor:
            self.anchors[event.anchor] = data, key
        return data

    def mapping(self, key: Key, depth: int) -> dict[Any, Any]:
        scalar: Any = self.events.ScalarEvent
        end = self.events.MappingEndEvent
        result: dict[Any, Any] = {}
        merged: list[Any] = []
        while type(event := self.next()) is not end:
            if type(event) is not scalar:
                self.fail("a key must be a word", event, "quote it")
            name = event.value
            if name == "<<" and event.implicit[0]:
                merged.append(self.merged(key, depth))
                continue
            inner = (*key, name)
            start, stop = event.start_mark, event.end_mark
            line, column = start.line, start.column
            if name in result:
                first = self.keys[inner]
                self.fail(f"key `{name}` stands here a second time", event, f"the first is on line {first[0] + 1}")
            same_line = stop.line == line
            self.keys[inner] = (line, column, stop.column - column if same_line else self.rest(line, column))
            result[name] = self.value(self.next(), inner, depth + 1)
        for layer in merged:
            for part in layer:
                result = {**part, **result}
        return result

    def merged(self, key: Key, depth: int) -> list[Any]:
        """The mappings that a merge key takes in; what the mapping says itself is stronger, and the first of them."""
        place: Key = (*key, "<<")
        event = self.next()
        layer = self.value(event, place, depth + 1)
        layers, places = [layer], [place]
        if isinstance(layer, list):
            layers, places = layer, [(*place, index) for index in range(len(layer))]
        if not all(isinstance(each, dict) for each in layers):
            self.fail("`<<` takes in mappings, as `<<: *name` does", event, "remove `<<`, or name a mapping's anchor")
        self.borrowed[key] = self.borrowed.get(key, ()) + tuple(places)
        return layers

    def sequence(self, key: Key, depth: int) -> list[Any]:
        end = self.events.SequenceEndEvent
        result: list[Any] = []
        while type(event := self.next()) is not end:
            result.append(self.value(event, (*key, len(result)), depth + 1))
        return result

    def alias(self, event: Any, key: Key) -> Any:
        if event.anchor not in self.anchors:
            self.fail(
                f"`*{event.anchor}` refers to an anchor that is not there, or that holds it",
                event,
                "name a value first, as in `&name value`",
            )
        data, origin = self.anchors[event.anchor]
        self.borrowed[key] = (origin,)
        return self.copied(data, event, len(key))

    def copied(self, data: Any, event: Any, depth: int) -> Any:
        """Copied, so that what one place means is never changed through another; counted, against bombs."""
        self.count += 1
        if self.count > _MOST_VALUES or depth > _MOST_DEPTH:
            self.fail("aliases repeat this more often than any cube needs", event)
        if isinstance(data, dict):
            return {name: self.copied(value, event, depth + 1) for name, value in data.items()}
        return [self.copied(value, event, depth + 1) for value in data] if isinstance(data, list) else data

    def tagged(self, tag: str, text: str, event: Any) -> Any:
        if tag in ("!", "tag:yaml.org,2002:str"):
            return text
        if tag in {f"tag:yaml.org,2002:{name}" for name in ("int", "float", "bool", "null")}:
            return _scalar(text)
        return self.untagged(event)

    def untagged(self, event: Any) -> None:
        if event.tag not in (None, "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"):
            shown = event.tag.replace("tag:yaml.org,2002:", "!!")
            self.fail(f"tag `{shown}` has no meaning in a cube file", event, "remove it")

    def rest(self, line: int, column: int) -> int:
        """The length of what follows on the first line of something longer."""
        return max(1, len(self.lines[line]) - column) if line < len(self.lines) else 1

    def fail(self, message: str, event: Any, hint: str | None = None) -> NoReturn:
        mark = event.start_mark
        line = self.lines[mark.line] if mark.line < len(self.lines) else ""
        length = event.end_mark.column - mark.column if event.end_mark.line == mark.line else 1
        position = Position(self.name, mark.line + 1, mark.column + 1, max(1, length), line)
        raise InvalidFile((Problem(message=message, position=position, hint=hint),))


def _scalar(text: str) -> str | int | float | bool | None:
    """A plain scalar by the YAML 1.2 core schema."""
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if text[0] not in _NUMBER_STARTS or len(text) > 64:
        return text
    digits = text.lstrip("+-") if len(text) - len(text.lstrip("+-")) <= 1 else ""
    if digits.isascii() and digits.isdigit():
        return int(text)
    if text.startswith(("0x", "0o")):
        try:
            return int(text, 0) if "_" not in text else text
        except ValueError:
            return text
    if text.lower() in _INFINITIES:
        return _INFINITIES[text.lower()]
    if not set(digits) <= set("0123456789.eE+-") or not any(letter.isdigit() for letter in digits):
        return text
    try:
        return float(text)
    except ValueError:
        return text
