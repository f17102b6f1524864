"""Changes to the settings file: atomic, one at a time, and what they do not concern keeps its comments."""

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mlcube import directories
from mlcube.errors import CubeError
from mlcube.patience import answer_seconds
from mlcube.settings import Settings, parse_settings, read_settings
from mlcube.source import Document, Key, read_text

if TYPE_CHECKING:
    import re

__all__ = ["as_yaml", "edit"]

_ELSEWHERE = "CUBE_CONFIG_DIR names another folder for the settings"


def edit(
    change: Callable[[dict[str, Any]], None], check: Callable[[Settings], None] | None = None, file: str | None = None
) -> Settings:
    """Apply `change` to what the settings file says, and return the new settings.

    Whatever `change` or `check` raises, or a result that could not be read again, leaves the file as it was.
    """
    from mlcube.locks import exclusive

    path = os.path.realpath(file or directories.settings_file())
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        lock = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.lock")
        with exclusive(lock, wait_seconds=answer_seconds(10.0), target=path, hint=_ELSEWHERE):
            text = read_text(path, path) if os.path.lexists(path) else ""
            before = Document.from_yaml(text, path)
            parse_settings(before, path)
            data = _copied(before.data or {})
            change(data)
            if data == (before.data or {}):
                return read_settings(path)
            new = rewritten(text, before, data)
            settings = parse_settings(Document.from_yaml(new, path), path)
            if check:
                check(settings)
            _replace(path, new)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CubeError(f"`{path}` cannot be written: {reason}", hint=_ELSEWHERE) from None
    return settings


def as_yaml(data: Mapping[str, Any]) -> str:
    """A mapping as YAML text."""
    return "\n".join([*_written(data, 0), ""])


def rewritten(text: str, before: Document, data: Mapping[str, Any]) -> str:
    """The text with `data` instead of what it said; lines of what is unchanged stay as they are."""
    lines = text.splitlines()
    patched = _mapping(lines, before, (), before.data or {}, data, (0, len(lines)))
    if patched is not None:
        new = "\n".join([*patched, ""])
        try:
            if Document.from_yaml(new, before.name).data == data:
                return new
        except CubeError:
            pass  # the text is laid out in a way that lines cannot follow: written anew below
    return as_yaml(data)


def _mapping(
    lines: list[str], before: Document, key: Key, old: Mapping[str, Any], new: Mapping[str, Any], span: tuple[int, int]
) -> list[str] | None:
    """The lines of a block mapping, entry by entry; None when it is not laid out one entry a line."""
    if not old:
        return [*lines[span[0] : span[1]], *_written(new, 0)] if not key else None
    places: list[Key] = [(*key, name) for name in old]
    starts = [before.keys[place] for place in places]
    first = [line for line, _, _ in starts]
    if len({column for _, column, _ in starts}) > 1 or len(set(first)) < len(first) or first[0] < span[0]:
        return None
    indent = starts[0][1]
    if any(lines[line][:column].strip() for line, column, _ in starts):
        return None
    result = lines[span[0] : first[0]]
    for index, name in enumerate(old):
        start, limit = first[index], first[index + 1] if index + 1 < len(first) else span[1]
        end = limit
        while end > start + 1 and _between(lines[end - 1], indent):
            end -= 1
        if name in new:
            result += _entry(lines, before, (*key, name), (old[name], new[name]), (start, end), indent)
        result += lines[end:limit]
    added = {name: value for name, value in new.items() if name not in old}
    return [*result, *_written(added, indent)]


def _entry(
    lines: list[str], before: Document, key: Key, values: tuple[Any, Any], span: tuple[int, int], indent: int
) -> list[str]:
    old, new = values
    if old == new:
        return lines[span[0] : span[1]]
    if isinstance(old, dict) and isinstance(new, dict) and old and new:
        inner = _mapping(lines, before, key, old, new, (span[0] + 1, span[1]))
        if inner is not None:
            return [lines[span[0]], *inner]
    return _written({str(key[-1]): new}, indent)


def _between(line: str, indent: int) -> bool:
    """Whether a line before the next entry belongs to no entry: blank, or a comment not deeper than the keys."""
    stripped = line.strip()
    return not stripped or (stripped.startswith("#") and len(line) - len(line.lstrip()) <= indent)


def _written(data: Mapping[str, Any], indent: int) -> list[str]:
    """A mapping as YAML: mappings in mappings as blocks, everything else on its line."""
    lines = []
    for name, value in data.items():
        start = f"{' ' * indent}{_word(name)}:"
        if isinstance(value, dict) and value:
            lines += [start, *_written(value, indent + 2)]
        else:
            lines.append(f"{start} {_word(value)}")
    return lines


def _word(value: Any) -> str:
    """A value as one word of YAML, quoted (JSON is YAML) unless it plainly means itself."""
    import re

    import msgspec

    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z_/.][\w./@-]*(:[\w./@-]+)*", value, re.ASCII)
    if plain and Document.from_yaml(value, "").data == value:
        return str(value)
    return re.sub("[^ -~]", _escape, msgspec.json.encode(value).decode())


def _escape(letter: "re.Match[str]") -> str:
    """What is no letter, as YAML escapes it: some of it YAML admits nowhere, some ends a line, the rest nobody sees."""
    return letter[0] if letter[0].isprintable() else f"\\U{ord(letter[0]):08x}"


def _copied(data: Any) -> Any:
    return {key: _copied(value) for key, value in data.items()} if isinstance(data, dict) else data


def _replace(path: str, text: str) -> None:
    """Write the whole file beside, then move it into place: a reader sees the old or the new."""
    import stat

    mode = stat.S_IMODE(os.stat(path).st_mode) if os.path.exists(path) else 0o600
    beside = f"{path}.{os.getpid()}.new"
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError:
        if os.path.exists(beside):
            os.unlink(beside)
        raise
