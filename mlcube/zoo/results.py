"""Measured results of a cube: its `results.yaml` (or `results.json`), and records of runs in its folder `results`."""

import math
import os
from collections.abc import Callable
from typing import Any

import msgspec

from mlcube import files
from mlcube.errors import CubeError, InvalidFile, Position, Problem
from mlcube.source import Document
from mlcube.zoo.entries import Result

__all__ = ["FILES", "FOLDER", "packed_results", "read_results"]

FILES = ("results.yaml", "results.json")
FOLDER = "results"
_MOST = 1000
_MOST_BYTES = 1 << 20


class _Named(msgspec.Struct):
    name: str


class _Seconds(msgspec.Struct):
    run: float | None = None


class _Record(msgspec.Struct):
    """What of the record of a run is shown."""

    task: str
    status: str
    platform: _Named
    started: str
    seconds: _Seconds


def read_results(root: str) -> tuple[Result, ...]:
    """What lies in a cube's folder. Raises InvalidFile with the place of the first mistake."""
    found: list[Result] = []
    for name in FILES:
        path = os.path.join(root, name)
        if os.path.isfile(path) and not os.path.islink(path):
            found += _understood(Document.from_file(path))
            break
    folder = os.path.join(root, FOLDER)
    if os.path.isdir(folder) and not os.path.islink(folder):
        for name in sorted(os.listdir(folder))[:_MOST]:
            if name.endswith(".json"):
                path = os.path.join(folder, name)
                try:
                    content = files.read_small(path)
                except OSError as error:
                    raise CubeError(f"`{path}` cannot be read: {(error.strerror or str(error)).lower()}") from None
                found += _recorded(content, path)
    return tuple(found)


def packed_results(packs: Callable[[], list[bytes]]) -> tuple[Result, ...]:
    """The same out of the packs of a published cube. Raises InvalidFile for what cannot be understood."""
    import io
    import tarfile

    from mlcube.unpacking import bounded

    contents: dict[str, bytes] = {}
    try:
        for pack in packs():
            with tarfile.open(fileobj=io.BytesIO(pack), mode="r|", tarinfo=bounded()) as archive:
                for member in archive:
                    wanted = member.name in FILES or (member.name.startswith(f"{FOLDER}/") and ".json" in member.name)
                    if wanted and member.isreg() and not member.issparse() and member.size <= _MOST_BYTES:
                        file = archive.extractfile(member)
                        contents[member.name] = file.read() if file else b""
    except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidFile((Problem(message=f"a pack is no archive: {error}"),)) from None
    found: list[Result] = []
    for name in [each for each in FILES if each in contents][:1]:
        text = contents.pop(name).decode("utf-8", "replace")
        found += _understood(Document.from_yaml(text, name))
    for name in sorted(contents)[:_MOST]:
        if name not in FILES and name.endswith(".json") and name.count("/") == 1:
            found += _recorded(contents[name], name)
    return tuple(found)


def _understood(document: Document) -> list[Result]:
    data: Any = document.data
    if isinstance(data, dict):
        data = data.get("results")
    if not isinstance(data, list):
        message = "results are a list of mappings with `metric` and `value`"
        raise InvalidFile((Problem(message=message, position=document.at(())),))
    found = []
    for index, each in enumerate(data[:_MOST]):
        key = (index,) if document.span((index,)) else ("results", index)
        try:
            result = msgspec.convert(each, Result)
        except msgspec.ValidationError as error:
            raise InvalidFile((Problem(message=str(error).lower(), position=document.at(key)),)) from None
        if isinstance(result.value, float) and not math.isfinite(result.value):
            message = f"a result is a number that JSON can hold, and not `{result.value}`"
            position = document.at((*key, "value"))
            raise InvalidFile(
                (Problem(message=message, position=position, hint="write it as a text, or leave it out"),)
            )
        found.append(result)
    return found


def _recorded(content: bytes, name: str) -> list[Result]:
    """How long a run took that succeeded."""
    try:
        record = msgspec.json.decode(content, type=_Record)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        problem = Problem(message=f"this is no record of a run: {error}", position=Position(name))
        raise InvalidFile((problem,)) from None
    if record.status != "succeeded" or record.seconds.run is None:
        return []
    return [
        Result(
            metric="run time",
            value=round(record.seconds.run, 3),
            unit="s",
            task=record.task,
            platform=record.platform.name,
            date=record.started[:10],
        )
    ]
