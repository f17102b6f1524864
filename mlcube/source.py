"""YAML text as plain data that remembers where every key and value was written.

Scalars follow the YAML 1.2 core schema, not YAML 1.1: `on`, `yes`, `22:22` and `1_000` are strings, `010` is ten,
`1e3` is a number. A key may stand once in a mapping. One document, no tags but the standard ones.
"""

import os
import stat
from collections.abc import Mapping
from typing import Any

import msgspec

from mlcube._yaml_problems import meant, unprintable
from mlcube._yaml_reader import Key, Reader, Span
from mlcube.errors import InvalidFile, MissingInput, Position, Problem

__all__ = ["Document", "Key", "Span", "read_text"]


_MOST_MIB = 8


class Document(msgspec.Struct, frozen=True):
    """A YAML document: `values` and `keys` tell where each place of `data` was written."""

    name: str
    data: Any
    values: Mapping[Key, Span] = msgspec.field(default_factory=dict)
    keys: Mapping[Key, Span] = msgspec.field(default_factory=dict)
    lines: tuple[str, ...] = ()
    borrowed: Mapping[Key, tuple[Key, ...]] = msgspec.field(default_factory=dict)
    """Places whose content an alias or a merge key takes from elsewhere, and from where."""

    @classmethod
    def from_yaml(cls, text: str, name: str) -> "Document":
        """Read one document.

        Raises InvalidFile when the text is no YAML, or more deeply nested or larger than any cube file.
        """
        import yaml

        lines = tuple(text.splitlines())
        if problem := unprintable(text, name):
            raise InvalidFile((problem,))
        reader = Reader(name, lines)
        try:
            data = reader.read(_parser()(text))
        except yaml.YAMLError as error:
            raise InvalidFile((meant(error, name, lines),)) from None
        return cls(name, data, reader.values, reader.keys, lines, reader.borrowed)

    @classmethod
    def from_file(cls, path: str, name: str | None = None) -> "Document":
        """Read a file; `name` is what messages call it."""
        return cls.from_yaml(read_text(path, name or path), name or path)

    @classmethod
    def from_override(cls, text: str) -> "Document":
        """`docker.image=a/b:2`, as given with `-P`. The value is YAML; without `=` it is null."""
        dotted, equals, value = text.partition("=")
        name = f"-P {text}"
        key = tuple(dotted.strip().replace("[", ".").replace("]", "").split("."))
        if "" in key:
            message = f"`-P` needs a dotted key and a value, not `{text}`"
            raise InvalidFile((Problem(message=message, hint="-P docker.image=name:tag"),))
        if problem := unprintable(dotted, name):
            raise InvalidFile((problem,))
        given = cls.from_value(value, name, "-P", dotted) if equals else cls(name, None)
        data = given.data
        for part in reversed(key):
            data = {part: data}
        whole: Span = (0, 0, len(text))
        values: dict[Key, Span] = dict.fromkeys((key[:end] for end in range(len(key) + 1)), whole)
        values |= dict.fromkeys(((*key, *map(str, inner)) for inner in given.values), whole)
        return cls(name, data, values, values)

    @classmethod
    def from_value(cls, value: str, name: str, option: str, key: str) -> "Document":
        """The value of an option, given as in `-P KEY=VALUE`. A text that is no YAML is told how it is quoted."""
        try:
            return cls.from_yaml(value, name)
        except InvalidFile as error:
            if value.strip()[:1] in ("", "[", "{", '"', "'") or "\n" in value:
                raise
            import json
            import shlex

            text = shlex.quote(f"{key}={json.dumps(value, ensure_ascii=False)}")
            hint = f"a value is YAML, where a text like this stands in quotes: {option} {text}"
            raise InvalidFile(tuple(msgspec.structs.replace(each, hint=hint) for each in error.problems)) from None

    def span(self, key: Key, *, of_key: bool = False) -> Span | None:
        """Where a value (or its key) was written, also through aliases and merge keys; None if it was not."""
        found = (self.keys.get(key) if of_key else None) or self.values.get(key)
        if found is not None or not self.borrowed:
            return found
        for end in range(len(key), -1, -1):
            rest = key[end:]
            if rest[:1] == ("<<",):
                continue
            for origin in self.borrowed.get(key[:end], ()):
                if found := self.span(origin + rest, of_key=of_key):
                    return found
        return None

    def at(self, key: Key, *, of_key: bool = False) -> Position:
        """Where a value (or its key) was written; the nearest parent that was, for what is not there."""
        span = self.span(key, of_key=of_key)
        while span is None and key:
            key = key[:-1]
            span = self.span(key)
        if span is None or not self.lines:
            return Position(self.name)
        line, column, length = span
        excerpt = self.lines[line] if line < len(self.lines) else ""
        return Position(self.name, line + 1, column + 1, max(1, length), excerpt)

    def raw(self, key: Key) -> str | None:
        """A plain scalar as it stands in the text, for `version: 1.0` where text is meant."""
        span = self.span(key)
        if span is None or span[0] >= len(self.lines):
            return None
        line, column, length = span
        return self.lines[line][column : column + length]


def read_text(path: str, name: str, *, most_mib: int = _MOST_MIB, kind: str = "cube file") -> str:
    """A file's text, which must be UTF-8 and of a reasonable size; `kind` says of what no file is larger."""
    most_bytes = most_mib << 20
    try:
        # Opened so that nobody waits for what a named pipe will say.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise MissingInput(f"`{name}` is no file", hint="a device, a named pipe or a folder cannot be read")
            content = file.read(most_bytes + 1)
    except FileNotFoundError:
        raise MissingInput(f"there is no file `{name}`") from None
    except OSError as error:
        raise MissingInput(f"`{name}` cannot be read: {(error.strerror or str(error)).lower()}") from None
    if len(content) > most_bytes:
        message = f"`{os.path.basename(name)}` is larger than {most_mib} MiB, which no {kind} is"
        hint = "check that this is the file that is meant"
        raise InvalidFile((Problem(message=message, position=Position(name), hint=hint),))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start)
        column = error.start - (content.rfind(b"\n", 0, error.start) + 1)
        where = Position(name, line + 1, column + 1)
        message = f"byte 0x{content[error.start]:02x} is no UTF-8 text"
        raise InvalidFile((Problem(message=message, position=where, hint="save the file as UTF-8"),)) from None


def _parser() -> Any:
    try:
        from yaml._yaml import CParser
    except ImportError:  # PyYAML without libyaml: the same events, ten times slower
        from yaml import Loader

        return Loader
    return CParser
