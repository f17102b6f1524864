"""Documents merged weakest first, interpolated, and every value traceable to its place (the only OmegaConf import)."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from mlcube.errors import InvalidFile, Position, Problem, did_you_mean
from mlcube.source import Document, Key

__all__ = ["ENVIRONMENT", "Layers", "inside", "literal"]

ENVIRONMENT = ("HOME", "LOGNAME", "SCRATCH", "TMPDIR", "USER", "WORK")
"""The variables of the user's environment that a cube file may read: no secret stands in them."""


class Layers(msgspec.Struct, frozen=True):
    """Documents, weakest first."""

    documents: tuple[Document, ...]
    roots: Mapping[str, Any] = msgspec.field(default_factory=dict)
    """What `${...}` may refer to besides the documents themselves."""

    def merged(self) -> Any:
        """The effective data, the caller's own: mappings merged, everything else replaced, `${...}` resolved.

        Raises InvalidFile with every reference that resolves to nothing.
        """
        data, problems = self.resolved()
        if problems:
            raise InvalidFile(tuple(problems))
        return data

    def resolved(self) -> tuple[Any, list[Problem]]:
        """The effective data, where a reference that resolves to nothing is left as it was written; and why."""
        data = self.unresolved()
        if not isinstance(data, dict):
            return data, []
        places = [(key, text) for key, text in _leaves(data, ()) if isinstance(text, str) and "${" in text]
        return (data, self._resolve(data, places)) if places else (data, [])

    def unresolved(self) -> Any:
        """The merged data with `${...}` as it was written."""
        data = _copied(self.documents[0].data)
        for document in self.documents[1:]:
            data = _merge(data, document.data)
        return data

    def at(self, key: Key, *, of_key: bool = False) -> Position:
        """Where the effective value at `key`, or its nearest parent, was written."""
        for end in range(len(key), -1, -1):
            if document := self._author(key[:end]):
                return document.at(_as_text(key[:end], document), of_key=of_key and end == len(key))
        return self.documents[0].at(())

    def raw(self, key: Key) -> str | None:
        """The effective scalar at `key` as it was written."""
        document = self._author(key)
        return document.raw(key) if document else None

    def _author(self, key: Key) -> Document | None:
        """The strongest document in which a place was written."""
        for document in reversed(self.documents):
            if document.span(_as_text(key, document)) is not None:
                return document
        return None

    def origins(self) -> Iterator[tuple[Key, Any, Position]]:
        """Every effective scalar with the place where it was written."""
        for key, value in _leaves(self.merged(), ()):
            yield key, value, self.at(key)

    def _resolve(self, data: dict[str, Any], places: list[tuple[Key, str]]) -> list[Problem]:
        """Put the values of references into `data`; what is wrong with the others."""
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        as_written = {key: self.raw((key,)) for key in ("name", "version") if isinstance(data.get(key), (int, float))}
        whole = {**self.roots, **data, **as_written}
        problems: dict[Key, Problem] = {}
        sizes: dict[Key, int] = {}
        total = 0
        for key, text in places:
            if forbidden := _forbidden(text):
                message, hint = forbidden
                problems[key] = Problem(message=message, hint=hint, position=self.at(key))
            elif (size := _size(whole, key, sizes, ())) > _MOST_CHARACTERS or (total := total + size) > _MOST_OF_ALL:
                message, hint = "this refers to itself, or repeats itself too often", "write the value itself"
                problems[key] = Problem(message=message, hint=hint, position=self.at(key))
        config = OmegaConf.create(_without(whole, set(problems)))
        for key, _ in places:
            if key in problems:
                continue
            try:
                value = _select(config, key)
            except OmegaConfBaseException as error:
                problems[key] = self._unresolved(key, error, tuple(map(str, whole)))
            else:
                _store(data, key, value)
        return list(problems.values())

    def _unresolved(self, key: Key, error: Exception, known: tuple[str, ...]) -> Problem:
        text = str(error).splitlines()[0]
        missing = text.split("'")[1] if "'" in text else ""
        if "not found" not in text:
            return Problem(message=f"this refers to nothing: {text[:1].lower()}{text[1:]}", position=self.at(key))
        hint = did_you_mean(missing, known)
        if missing in ENVIRONMENT:
            hint = f"`${{...}}` names a key of this file; the variable is `${{oc.env:{missing}}}`"
        elif missing.isidentifier() and missing.isupper():
            hint = f"`${{...}}` names a key of this file; of the environment a cube reads only {', '.join(ENVIRONMENT)}"
        return Problem(message=f"`${{{missing}}}` refers to nothing", hint=hint, position=self.at(key))


def literal(text: str) -> str:
    r"""A text that says what this one does where references are resolved: `${` is written `\${`."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)


def _references(text: str) -> list[str]:
    r"""What follows each `${`; one behind a backslash, `\${`, is text."""
    return re.split(r"(?<!\\)(?:\\\\)*\$\{", text)[1:]


_REFERENCE = re.compile(r"\.*[\w-]+(?:\.[\w-]+|\[[\w-]+\])*")
_VARIABLE = re.compile(r"(?:oc\.)?env:\s*(\w+)\s*(?:,[^$]*)?")
_MOST_CHARACTERS = 100_000
_MOST_OF_ALL = 2_000_000
_PRICE = 64
"""What a reference counts for, in characters."""


def _forbidden(text: str) -> tuple[str, str] | None:
    """Why a reference is none that a cube may hold, and what to do.

    Only plain references and harmless variables are read: a resolver could hand the user's secrets to someone's cube.
    """
    parts = _references(text)
    for index, part in enumerate(parts):
        inner, closed, _ = part.partition("}")
        if not closed and index + 1 < len(parts):
            return f"`${{{inner}${{...}}}}` is a reference that holds another", "write the inner value itself"
        if not closed:
            hint = "close it with `}`, or write `\\${` for those two signs themselves"
            return f"`${{{inner}` is not closed" if inner else "`${` is not closed", hint
        if _REFERENCE.fullmatch(inner.strip()):
            continue
        name, colon, _ = inner.partition(":")
        if not colon:
            return f"`${{{inner}}}` is no reference", "a reference is a dotted key, as in `${docker.image}`"
        if name.strip() not in ("oc.env", "env"):
            return f"`${{{inner}}}` calls `{name.strip()}`, which a cube may not", "write the value itself"
        variable = _VARIABLE.fullmatch(inner.strip())
        if variable is None or variable[1] not in ENVIRONMENT:
            hint = f"a cube may read {', '.join(ENVIRONMENT)}; give anything else on the command line"
            return f"`${{{inner}}}` reads the environment, which a cube may not", hint
    return None


def _size(data: Any, key: Key, known: dict[Key, int], trail: tuple[Key, ...]) -> int:
    """How many characters stand at a place when its references are resolved; no more than are too many."""
    if key in trail or len(trail) > _MOST_STEPS:
        return _MOST_CHARACTERS + 1
    if key in known:
        return known[key]
    total = 0
    for place, value in _leaves(inside(data, key), key):
        total += 1 + (len(value) if isinstance(value, str) else 0)
        for part in _references(value) if isinstance(value, str) and "${" in value else ():
            target = _target(part.partition("}")[0].strip(), place)
            total += _PRICE + _size(data, target, known, (*trail, key))
        if total > _MOST_CHARACTERS:
            break
    known[key] = total
    return total


_MOST_STEPS = 32


def _target(reference: str, place: Key) -> Key:
    """The place that a reference names; leading dots count from where it stands."""
    dots = len(reference) - len(reference.lstrip("."))
    words = reference.lstrip(".").replace("[", ".").replace("]", "").split(".")
    return (*(place[:-dots] if dots else ()), *words)


def inside(data: Any, key: Key) -> Any:
    """What stands at a place of plain data; None when nothing does."""
    found: Any = data
    for part in key:
        if isinstance(found, list):
            found = found[int(part)] if _names_item(part, found) else None
        elif isinstance(found, dict):
            found = found.get(part)
        else:
            return None
    return found


def _as_text(key: Key, document: Document) -> Key:
    """In an override every part of a key is text, the number of an item too."""
    return key if document.lines or not document.name.startswith("-P ") else tuple(map(str, key))


def _merge(weak: Any, strong: Any) -> Any:
    """Mappings key by key, items of a list by their number, everything else replaced; nothing is shared with either."""
    if isinstance(weak, list) and isinstance(strong, dict) and strong and all(_names_item(key, weak) for key in strong):
        items = {int(key): value for key, value in strong.items()}
        return [_merge(item, items[index]) if index in items else _copied(item) for index, item in enumerate(weak)]
    if not (isinstance(weak, dict) and isinstance(strong, dict)):
        return _copied(strong)
    result = _copied(weak)
    for key, value in strong.items():
        result[key] = _merge(result[key], value) if key in result else _copied(value)
    return result


def _names_item(key: Any, items: list[Any]) -> bool:
    return str(key).isascii() and str(key).isdigit() and int(key) < len(items)


def _leaves(data: Any, key: Key) -> Iterator[tuple[Key, Any]]:
    if isinstance(data, dict) and data:
        for name, value in data.items():
            yield from _leaves(value, (*key, name))
    elif isinstance(data, list) and data:
        for index, value in enumerate(data):
            yield from _leaves(value, (*key, index))
    else:
        yield key, data


def _copied(data: Any) -> Any:
    if isinstance(data, dict):
        return {name: _copied(value) for name, value in data.items()}
    return [_copied(value) for value in data] if isinstance(data, list) else data


def _without(data: Any, keys: set[Key], key: Key = ()) -> Any:
    if key in keys:
        return ""
    if isinstance(data, dict):
        return {name: _without(value, keys, (*key, name)) for name, value in data.items()}
    if isinstance(data, list):
        return [_without(value, keys, (*key, index)) for index, value in enumerate(data)]
    return data


def _select(config: Any, key: Key) -> Any:
    from omegaconf import OmegaConf

    node = config
    for part in key:
        node = node[part]
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def _store(data: Any, key: Key, value: Any) -> None:
    for part in key[:-1]:
        data = data[part]
    data[key[-1]] = value
