"""The settings file: what this machine's user calls platforms, and which of them is the default."""

import os
from collections.abc import Mapping
from typing import Any

import msgspec

from mlcube import directories
from mlcube.errors import InvalidFile, Position, Problem, did_you_mean
from mlcube.source import Document, Key

__all__ = ["Settings", "is_zoo_name", "parse_settings", "place_problem", "read_settings"]

_KEYS = ("default_platform", "platforms", "zoos", "runners", "storage")
_MLCUBE_KEYS = ("runners", "storage")
"""What MLCube's settings files have at the top; nothing here needs them."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the settings file says; a file that is not there says nothing."""

    file: str
    default_platform: str | None = None
    platforms: Mapping[str, Mapping[str, Any]] = msgspec.field(default_factory=dict)
    """Each platform's options as they are written, `runner` among them."""
    zoos: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Addresses or folders of zoos by name; the first that knows a cube is asked for it."""
    warnings: tuple[Problem, ...] = ()
    document: Document | None = None

    def names(self) -> tuple[str, ...]:
        """Every platform: the written ones, then those that are named like their runner."""
        from mlcube.runner import candidates

        return (*self.platforms, *(name for name in candidates() if name not in self.platforms))

    @property
    def from_mlcube(self) -> bool:
        """Whether MLCube wrote the file."""
        return self.document is not None and any(key in (self.document.data or ()) for key in _MLCUBE_KEYS)

    def at(self, *key: str | int, of_key: bool = False) -> Position:
        """Where something is written."""
        return self.document.at(key, of_key=of_key) if self.document else Position(self.file)


def read_settings(file: str | None = None) -> Settings:
    """The settings of this machine, or those in `file`. Never writes.

    Raises InvalidFile with every problem of the file.
    """
    path = file or directories.settings_file()
    if not os.path.lexists(path):
        return Settings(file=path)
    return parse_settings(Document.from_file(path), path)


def parse_settings(document: Document, path: str) -> Settings:
    """What a document says as settings."""
    data = {} if document.data is None else document.data
    if isinstance(data, dict) and "tasks" in data:
        hint = "set MLCUBE_SYSTEM_SETTINGS to another file, or unset it"
        problem = Problem(
            message="this is a cube, not settings", position=document.at(("tasks",), of_key=True), hint=hint
        )
        raise InvalidFile((problem,))
    if not isinstance(data, dict):
        raise InvalidFile((Problem(message="settings are a mapping", position=document.at(())),))
    problems = [
        Problem(
            message=f"unknown key `{key}` in the settings",
            position=document.at((key,), of_key=True),
            hint=did_you_mean(str(key), _KEYS[:3]),
        )
        for key in data
        if key not in _KEYS
    ]
    default = data.get("default_platform")
    if not (default is None or isinstance(default, str)):
        problems.append(_problem(document, ("default_platform",), "`default_platform` is the name of a platform"))
    platforms = data.get("platforms") or {}
    if isinstance(platforms, dict):
        problems += _platform_problems(document, platforms)
    else:
        problems.append(_problem(document, ("platforms",), "`platforms` is a mapping from names to options"))
    zoos = data.get("zoos") or {}
    if isinstance(zoos, dict):
        problems += _zoo_problems(document, zoos)
    else:
        problems.append(_problem(document, ("zoos",), "`zoos` is a mapping from names to addresses"))
    if problems:
        raise InvalidFile(tuple(problems))
    return Settings(
        file=path,
        default_platform=default,
        platforms=platforms,
        zoos=zoos,
        warnings=_warnings(document, data, platforms),
        document=document,
    )


def _platform_problems(document: Document, platforms: Mapping[str, Any]) -> list[Problem]:
    problems = []
    for name, options in platforms.items():
        if not isinstance(options, dict):
            hint = f"{name}: {{runner: docker}}"
            problems.append(_problem(document, ("platforms", name), f"platform `{name}` is a mapping of options", hint))
        elif not isinstance(options.get("runner"), str):
            key: Key = ("platforms", name, *(("runner",) if "runner" in options else ()))
            problems.append(_problem(document, key, f"platform `{name}` does not say its runner", "runner: docker"))
    return problems


def _zoo_problems(document: Document, zoos: Mapping[str, Any]) -> list[Problem]:
    problems = []
    for name, place in zoos.items():
        if not is_zoo_name(str(name)):
            message = f"`{name}` is no name of a zoo"
            hint = "letters, digits, `.`, `_` and `-`"
            problems.append(Problem(message=message, position=document.at(("zoos", name), of_key=True), hint=hint))
        elif wrong := place_problem(place):
            hint = f"{name}: https://example.org/zoo"
            problems.append(_problem(document, ("zoos", name), f"zoo `{name}` {wrong}", hint))
    return problems


def is_zoo_name(name: str) -> bool:
    """Whether a zoo may be called so: what can stand before a slash in `zoo/cube`."""
    return bool(name) and name.isascii() and name[0].isalnum() and all(each.isalnum() or each in "._-" for each in name)


def place_problem(place: Any) -> str | None:
    """What is wrong with the place of a zoo: an address, or an absolute path."""
    if not isinstance(place, str) or not place or not place.isprintable():
        return "is an address or a path"
    scheme, separator, rest = place.partition("://")
    if not separator:
        return None if place.startswith(("/", "~")) else "is neither an address nor an absolute path"
    if scheme not in ("http", "https", "file"):
        return f"has an address of a kind that is not read: `{scheme}://`"
    if not rest.startswith("/") if scheme == "file" else not rest.strip("/") or rest.startswith("/"):
        return "has an address without a host" if scheme != "file" else "has no absolute path: `file:///folder`"
    if "@" in rest.partition("/")[0]:
        return "has a password in its address, which does not belong into settings"
    return None


def _warnings(document: Document, data: Mapping[str, Any], platforms: Mapping[str, Any]) -> tuple[Problem, ...]:
    if not any(key in data for key in _MLCUBE_KEYS):
        return ()
    told = sorted(
        {
            key
            for options in platforms.values()
            for key, value in options.items()
            if key in ("cpu_args", "gpu_args", "env_args", "run_args") and value
        }
    )
    if not told:
        return ()
    return (
        Problem(
            message=f"{', '.join(f'`{key}`' for key in told)} of MLCube's platforms are not used",
            position=document.at(("platforms",), of_key=True),
            hint="write raw engine arguments as a list: arguments: [--shm-size=2g]",
            severity="warning",
        ),
    )


def _problem(document: Document, key: Key, message: str, hint: str | None = None) -> Problem:
    return Problem(message=message, position=document.at(key), hint=hint)
