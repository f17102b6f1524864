"""Predicts once: python run.py FILE.py:NAME METHOD. Inputs are variables CUBE_INPUT_NAME; results go to a folder."""

import asyncio
import importlib.util
import inspect
import json
import os
import pathlib
import re
import shutil
import sys
import typing

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)


def load(target: str) -> typing.Any:
    """What the target names. This folder's `cog` serves where the real one is not installed."""
    sys.path.insert(0, ROOT)
    there = importlib.util.find_spec("cog")
    if there is None or there.origin is None:
        sys.path.insert(0, HERE)
    file, _, name = target.partition(":")
    os.chdir(ROOT)
    spec = importlib.util.spec_from_file_location(pathlib.Path(file).stem, os.path.join(ROOT, file))
    if spec is None or spec.loader is None:
        sys.exit(f"error: {file} is no Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return getattr(module, name)


def read(text: str, kind: typing.Any) -> typing.Any:
    """A value of the kind that the parameter has."""
    inner = [each for each in typing.get_args(kind) if each is not type(None)]
    origin = typing.get_origin(kind)
    if origin in (list, tuple):
        parts = json.loads(text) if text.lstrip().startswith("[") else text.split()
        return [read(part, inner[0]) if isinstance(part, str) and inner else part for part in parts]
    if origin is typing.Literal:
        return next((each for each in inner if str(each) == text), text)
    if inner:
        return read(text, inner[0])
    if kind is bool:
        return text == "true"
    if isinstance(kind, type) and kind not in (inspect.Parameter.empty, object):
        return kind(text)
    return text


def arguments(function: typing.Any) -> tuple[list[typing.Any], dict[str, typing.Any]]:
    """What was given, and the defaults of what was not: what is only told by its place, and what has a name."""
    hints = typing.get_type_hints(function)
    placed: list[typing.Any] = []
    found: dict[str, typing.Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        given = os.environ.get("CUBE_INPUT_" + re.sub(r"[^A-Za-z0-9]", "_", name).upper())
        default = parameter.default
        if type(default).__name__ in ("Given", "FieldInfo"):  # what `Input(...)` gives, here and in Cog
            default = None if default.default is ... else default.default
        if given is None and default is inspect.Parameter.empty:
            continue
        kind = hints.get(name, type(default) if isinstance(default, (int, float)) else str)
        value = default if given is None else read(given, kind)
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            placed.append(value)
        else:
            found[name] = value
    return placed, found


def plain(value: typing.Any, folder: str) -> typing.Any:
    """A result as JSON has it; files are copied into the folder, and named."""
    if isinstance(value, os.PathLike):
        name = os.path.basename(value)
        while os.path.exists(os.path.join(folder, name)):
            name = "_" + name
        shutil.copyfile(value, os.path.join(folder, name))
        return name
    if isinstance(value, dict):
        return {str(key): plain(each, folder) for key, each in value.items()}
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    if hasattr(value, "model_dump"):
        return plain(value.model_dump(), folder)
    if hasattr(value, "__iter__"):
        return [plain(each, folder) for each in value]
    if hasattr(value, "tolist"):
        return value.tolist()
    return plain(vars(value), folder) if hasattr(value, "__dict__") else str(value)


async def gathered(value: typing.Any) -> typing.Any:
    return [each async for each in value] if hasattr(value, "__aiter__") else await value


def main(target: str, method: str) -> None:
    found = load(target)
    if inspect.isclass(found):
        model: typing.Any = found()
        ready = model.setup() if hasattr(model, "setup") else None
        if inspect.isawaitable(ready):
            asyncio.run(gathered(ready))
        found = getattr(model, method, None) or model.run
    placed, named = arguments(found)
    result = found(*placed, **named)
    if inspect.isawaitable(result) or hasattr(result, "__aiter__"):
        result = asyncio.run(gathered(result))
    folder = os.environ["CUBE_OUTPUT_OUTPUT"]
    with open(os.path.join(folder, "output.json"), "w", encoding="utf-8") as file:
        json.dump(plain(result, folder), file, indent=2, ensure_ascii=False)
        file.write("\n")


if __name__ == "__main__":
    main(*sys.argv[1:3])
