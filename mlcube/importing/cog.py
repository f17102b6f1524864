"""Cog's `cog.yaml`: a predictor becomes a task, whose parameters are read off its code without running it."""

import ast
import os.path
import re
import shlex
import sys
from collections.abc import Iterator
from typing import Any

import msgspec

from mlcube.errors import CubeError, Position
from mlcube.importing.draft import Draft, Foreign, held, invalid, name_of, number, word, words_of
from mlcube.importing.requirements import listed, range_of

__all__ = ["draft"]

_FOLDER = "cube_cog"
_TYPES = {"str": "string", "int": "integer", "float": "float", "bool": "boolean", "Path": "file", "File": "file"}
_LEFT_OUT = ("concurrency", "weights", "tests")
_LISTS = {"system_packages": "ffmpeg", "pre_install": "echo hello", "run": "echo hello"}
"""What may stand in the lists of `build`."""
_MEANINGS = {"default": "default", "description": "description", "choices": "choices"}
_OF_NUMBERS = {"ge": "minimum", "le": "maximum"}
_OF_TYPES = {"string": {"regex": "pattern"}, "integer": _OF_NUMBERS, "float": _OF_NUMBERS}


class _Code(msgspec.Struct, frozen=True):
    """The predictor's code, and what messages call its file."""

    file: str
    text: str

    def at(self, node: ast.expr | ast.arg) -> Position:
        """Where a part of the code stands."""
        lines = re.split(r"\r\n|\r|\n", self.text)
        line = lines[node.lineno - 1] if node.lineno <= len(lines) else ""
        column = len(line.encode()[: node.col_offset].decode(errors="ignore"))
        length = (node.end_col_offset or 0) - node.col_offset if node.end_lineno == node.lineno else 1
        return Position(self.file, node.lineno, column + 1, max(1, length), line)

    def written(self, expression: ast.expr) -> str:
        """An expression as it would be written."""
        try:
            return ast.unparse(expression)
        except RecursionError:  # which newer interpreters find while they parse
            what = "this is nested more deeply than any predictor is"
        except ValueError:  # integers in base 16 may have more digits than Python writes in base 10
            what = "this number has more digits than can be read"
        raise CubeError(what, hint="give it a name outside of the function", position=self.at(expression))


def draft(foreign: Foreign) -> Draft:
    """The cube file for a `cog.yaml`."""
    data, build = foreign.mapping(), foreign.mapping("build")
    image = str(data.get("image") or "").rpartition("/")[2].partition(":")[0]
    result = Draft(data={"name": name_of(foreign, image)})
    tasks = {}
    for task, key in (("predict", "predict"), ("predict", "run"), ("train", "train")):
        if data.get(key) and task not in tasks:
            tasks[task] = _task(foreign, result, task, key)
    if not tasks:
        raise invalid(foreign, "`cog.yaml` names no predictor", hint="predict: predict.py:Predictor")
    for key in _LEFT_OUT:
        if data.get(key):
            result.note(f"`{key}` was left out")
    if build.get("gpu"):
        for each in tasks.values():
            each["resources"] = {"gpus": 1}
        result.note(
            "`gpu: true`: each task asks for one GPU; CUDA comes with the packages, as it does with torch's wheels"
        )
    requirements = _requirements(foreign, result, build)
    version = range_of(result, build.get("python_version"))
    system, commands = _list(foreign, build, "system_packages"), list(_commands(foreign, build))
    result.files = {f"{_FOLDER}/{name}": _adapter(name) for name in ("run.py", "cog.py")}
    if system or commands:
        plain = version.removeprefix("==").removesuffix(".*")
        base = f"python:{plain if re.fullmatch(r'[0-9.]+', plain) else '3.11'}-slim"
        result.files = {**result.files, "Dockerfile.cube": _dockerfile(base, system, requirements, commands)}
        label = re.sub(r"[^a-z0-9]+", "-", result.data["name"].lower()).strip("-") or "cube"
        result.data["docker"] = {"image": f"local/{label}", "build_file": "Dockerfile.cube"}
        for each in tasks.values():
            each["entrypoint"][1] = f"/src/{each['entrypoint'][1]}"
    else:
        result.data["python"] = {"version": version, "requirements": requirements, "source": "."}
    result.data["tasks"] = tasks
    result.note("a task loads the model, predicts once and ends: Cog's server and its queue have no counterpart here")
    return result


def _requirements(foreign: Foreign, result: Draft, build: dict[str, Any]) -> list[str]:
    if name := build.get("python_requirements"):
        return listed(foreign, result, [f"-r {name}"])
    return listed(foreign, result, build.get("python_packages") or ())


def _list(foreign: Foreign, build: dict[str, Any], key: str) -> list[Any]:
    found = build.get(key) or []
    if not isinstance(found, list):
        raise invalid(foreign, f"`build.{key}` must be a list", "build", key, hint=f"build: {{{key}: [{_LISTS[key]}]}}")
    return found


def _commands(foreign: Foreign, build: dict[str, Any]) -> Iterator[str]:
    for each in (*_list(foreign, build, "pre_install"), *_list(foreign, build, "run")):
        yield str(each.get("command", "")) if isinstance(each, dict) else str(each)


def _adapter(name: str) -> str:
    import mlcube

    with open(os.path.join(os.path.dirname(mlcube.__file__), "templates", "cog", name), encoding="utf-8") as file:
        return file.read()


def _dockerfile(base: str, system: list[Any], requirements: list[str], commands: list[str]) -> str:
    lines = [f"FROM {base}"]
    if system:
        packages = shlex.join(sorted({str(each) for each in system}))
        lines.append(
            "RUN apt-get update && apt-get install --yes --no-install-recommends "
            f"{packages} && rm -rf /var/lib/apt/lists/*"
        )
    if requirements:
        lines.append(f"RUN pip install --no-cache-dir {shlex.join(requirements)}")
    lines += (f"RUN {command}" for command in commands)
    return "\n".join([*lines, "WORKDIR /src", "COPY . /src", ""])


def _task(foreign: Foreign, result: Draft, task: str, key: str) -> dict[str, Any]:
    target = foreign.mapping().get(key)
    file, _, name = str(target).partition(":")
    text = foreign.beside(file)
    if text is None or not name:
        raise invalid(
            foreign, f"`{key}` names no code that is there: `{target}`", key, hint="predict: predict.py:Predictor"
        )
    code = _Code(file, text)
    function = _function(code, name, task)
    inputs = {}
    arguments = function.args
    placed = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(placed) - len(arguments.defaults)) + list(arguments.defaults)
    pairs = [
        *zip(placed, defaults, strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    names = words_of(foreign, (argument.arg for argument, _ in pairs), key)
    for argument, default in pairs:
        if argument.arg != "self":
            inputs[names[argument.arg]] = _parameter(result, code, argument, default)
    entrypoint = ["python", f"{_FOLDER}/run.py", str(target), task]
    output = {"type": "directory", "default": "output/", "description": "What the model gives: files, or output.json"}
    return {"entrypoint": entrypoint, "parameters": {"inputs": inputs, "outputs": {"output": output}}}


def _function(code: _Code, name: str, task: str) -> ast.FunctionDef | ast.AsyncFunctionDef:
    try:
        module = ast.parse(code.text)
    except SyntaxError as error:
        version = ".".join(map(str, sys.version_info[:2]))
        raise CubeError(
            f"this is no Python: {error.msg}",
            hint=f"it is read as Python {version}, with which `cube` runs",
            position=Position(code.file, error.lineno or 0, max(1, error.offset or 1), 1, error.text or ""),
        ) from None
    except (ValueError, RecursionError, MemoryError):
        raise CubeError(
            f"`{code.file}` is no Python, or nested more deeply than any is", hint="check that Python itself reads it"
        ) from None
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    for node in module.body:
        if isinstance(node, functions) and node.name == name:
            return node
        if isinstance(node, ast.ClassDef) and node.name == name:
            for method in node.body:
                if isinstance(method, functions) and method.name in (task, "run"):
                    return method
    raise CubeError(
        f"`{code.file}` has no `{name}` with a `{task}`", hint="name it as in `predict: predict.py:Predictor`"
    )


def _parameter(result: Draft, code: _Code, argument: ast.arg, default: ast.expr | None) -> dict[str, Any]:
    said = _annotation(code, argument, default)
    kind, optional = _type(said)
    parameter: dict[str, Any] = {"type": _TYPES.get(kind, "string")}
    if kind == "list":
        result.note(f"`{argument.arg}` is a list: give its values as one text, separated by spaces, or as JSON")
    elif kind not in _TYPES:
        result.note(f"`{argument.arg}` is of the type `{said}` and is passed as text")
    if kind == "Secret":
        result.note(f"`{argument.arg}` is secret: declare it under the task's `secrets`, not as a parameter")
    names = _MEANINGS | _OF_TYPES.get(parameter["type"], {})
    for theirs, value in _said(code, default).items():
        try:
            meant = ast.literal_eval(value)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            result.note(f"`{theirs}` of `{argument.arg}` is computed: `{code.written(value)}`; say it in the cube file")
            continue
        if theirs not in names:
            result.note(f"`{theirs}` of `{argument.arg}` was left out")
            continue
        if meant is ...:  # which says, as it does in pydantic, that there is no default
            continue
        if not held(meant):
            result.note(f"`{theirs}` of `{argument.arg}` is no value that a cube file can hold: say another there")
            continue
        parameter[names[theirs]] = _default(code, argument.arg, value, meant, kind) if theirs == "default" else meant
        optional = optional or (theirs == "default" and meant is None)
    if parameter["type"] == "string":
        parameter |= {key: _text(parameter[key]) for key in ("default", "choices") if key in parameter}
    if parameter["type"] == "file":
        parameter["default"] = word(argument.arg)
    if optional:
        parameter["optional"] = True
    return {key: value for key, value in parameter.items() if value is not None}


def _annotation(code: _Code, argument: ast.arg, default: ast.expr | None) -> str:
    """The type as it is written, also in quotes; where there is none, that of a default which is a number."""
    written = argument.annotation
    if written is not None:
        quoted = written.value if isinstance(written, ast.Constant) else None
        return quoted if isinstance(quoted, str) and quoted.isprintable() else code.written(written)
    value = _said(code, default).get("default")
    value = value.operand if isinstance(value, ast.UnaryOp) else value
    meant = value.value if isinstance(value, ast.Constant) else None
    return type(meant).__name__ if isinstance(meant, int | float) else "str"


def _text(value: Any) -> Any:
    """Numbers as the texts that they are among texts."""
    if isinstance(value, list | tuple):
        return [_text(each) for each in value]
    return str(value) if isinstance(value, int | float) else value


def _said(code: _Code, default: ast.expr | None) -> dict[str, ast.expr]:
    """What `Input(...)` says, or the default alone."""
    if not isinstance(default, ast.Call) or code.written(default.func).rpartition(".")[2] != "Input":
        return {} if default is None else {"default": default}
    known = {"default": default.args[0]} if default.args else {}
    return known | {each.arg: each.value for each in default.keywords if each.arg}


def _default(code: _Code, name: str, written: ast.expr, meant: Any, kind: str) -> Any:
    if kind == "float" and meant is not None:
        if (found := number(meant)) is None:
            raise CubeError(
                f"`{name}` is a float, and its default is no number", hint="give a number", position=code.at(written)
            )
        return found
    return " ".join(map(str, meant)) if isinstance(meant, list | tuple) else meant


def _type(said: str) -> tuple[str, bool]:
    """The type that an annotation names, and whether it may be left out."""
    said = re.sub(r"\b(?:cog|typing|pathlib)\.", "", said)
    optional = False
    if found := re.fullmatch(r"Optional\[(.*)\]", said):
        said, optional = found[1], True
    parts = [part.strip() for part in said.split("|")]
    if "None" in parts:
        said, optional = " | ".join(part for part in parts if part != "None"), True
    return ("list" if re.match(r"[Ll]ist\b", said) else said), optional
