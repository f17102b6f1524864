"""From files and overrides to a Cube: every problem at once, each with its place."""

import os.path
from collections.abc import Sequence
from typing import Any

import msgspec

from mlcube.compatibility import RENAMED_TYPES, MedperfCommand, as_cube, foreign, is_medperf
from mlcube.cube import Cube
from mlcube.document import CubeFile
from mlcube.errors import InvalidFile, MissingInput, Position, Problem, did_you_mean
from mlcube.layers import Layers, inside
from mlcube.reading.meaning import need_no_consent, need_output_types, understood_cube
from mlcube.reading.report import Report
from mlcube.source import Document, Key
from mlcube.validation import Where, convert

__all__ = ["FILE_NAME", "read_cube", "read_layers"]

FILE_NAME = "mlcube.yaml"
_MEDPERF_NAME = "container_config.yaml"


def read_cube(
    path: str = ".",
    *,
    overrides: Sequence[str] = (),
    workspace: str | None = None,
    strict: bool = False,
    trust: bool = False,
) -> tuple[Cube, tuple[Problem, ...]]:
    """The cube at `path`, a directory or a file, with the warnings that its file deserves.

    `overrides` are the texts of `-P`; what they misspell is always an error. `strict` makes an error of every
    key without a meaning. `trust` is the user's consent to what opens the host.

    Raises MissingInput when there is no file, InvalidFile with every problem of it.

    >>> cube, warnings = read_cube("examples/hello_world")  # doctest: +SKIP
    """
    file = locate(path)
    layers = read_layers(file, overrides=overrides, workspace=workspace)
    document = layers.documents[0]
    if problem := foreign(document):
        raise InvalidFile((problem,))
    places: dict[Key, Key] = {}
    commands: dict[str, MedperfCommand] = {}
    found_before: list[Problem] = []
    if is_medperf(document):
        data, places, commands, found_before = as_cube(document)
        layers = msgspec.structs.replace(
            layers, documents=(msgspec.structs.replace(document, data=data), *layers.documents[1:])
        )
    problems = list(_unknown_overrides(layers))
    if problems:
        raise InvalidFile(tuple(problems))

    def where(key: Key, of_key: bool = False) -> Position:
        return layers.at(_original(key, places), of_key=of_key)

    data, unresolved = layers.resolved()
    if not isinstance(data, dict):
        raise InvalidFile((_no_mapping(data, document),))
    data, renamed = _with_types_renamed(data, where)
    report = Report(layers, where, lambda key: _original(key, places))
    report.told = {problem.position for problem in unresolved}
    content, found = convert(data, CubeFile, where, advice=_advice, spoiled=report.spoiled)
    if not strict and not any(problem.severity == "error" for problem in found):
        report.spoiled.clear()  # then nothing is wrong yet: unknown keys are forgiven
    report.problems += [*unresolved, *renamed, *(_judged(problem, strict) for problem in (*found_before, *found))]
    if content is None:
        raise InvalidFile(report.in_order())
    cube = understood_cube(
        report, content, file=os.path.abspath(file), commands=commands, has_python="python" in data, trust=trust
    )
    if strict:
        need_no_consent(report, cube)
        need_output_types(report, cube)
    if report.failed:
        raise InvalidFile(report.in_order())
    return cube, report.in_order()


def locate(path: str) -> str:
    """The cube file that a path means: the file itself, or the one in the directory.

    Raises MissingInput when there is none.
    """
    path = os.path.expanduser(path)
    if any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in os.path.abspath(path)):
        raise MissingInput("the path of the cube is no UTF-8 text", hint="rename the folder")
    if not os.path.isdir(path):
        if os.path.exists(path):
            return path
        raise MissingInput(
            f"there is no cube at `{path}`", hint="--mlcube PATH names a cube's folder or its mlcube.yaml"
        )
    for name in (FILE_NAME, _MEDPERF_NAME):
        if os.path.exists(file := os.path.normpath(os.path.join(path, name))):
            return file
    here = "this folder" if path in (".", "") else f"`{path}`"
    hint = "--mlcube PATH names a cube's folder; `cube create NAME` makes a new cube"
    raise MissingInput(f"there is no `{FILE_NAME}` in {here}", hint=hint)


def read_layers(path: str = ".", *, overrides: Sequence[str] = (), workspace: str | None = None) -> Layers:
    """The file and the overrides, weakest first, before anything is understood."""
    file = locate(path)
    root = os.path.dirname(os.path.abspath(file))
    chosen = os.path.abspath(os.path.expanduser(workspace)) if workspace else os.path.join(root, "workspace")
    stronger = [Document.from_override(text.removeprefix("=")) for text in overrides]
    written = Document.from_file(file)
    if stronger:
        written = msgspec.structs.replace(written, data=_spelled_out(written.data, stronger))
    roots = {"workspace": chosen, "runtime": {"root": root, "workspace": chosen}}
    return Layers((written, *stronger), roots)


def _spelled_out(data: Any, overrides: Sequence[Document]) -> Any:
    """The data where `x: path` is `x: {default: path}`, if an override sets something else of `x`."""
    for document in overrides:
        key = max(document.values, key=len)
        if len(key) > _DEPTH and key[0] == "tasks" and isinstance(short := inside(data, key[:_DEPTH]), str):
            inside(data, key[: _DEPTH - 1])[key[_DEPTH - 1]] = {"default": short}
    return data


_DEPTH = 5
"""Of a parameter: tasks, a name, parameters, inputs or outputs, a name."""


def _unknown_overrides(layers: Layers) -> list[Problem]:
    """`-P` may set what the file could say, of tasks, parameters and items of lists that it has."""
    known: Any = layers.documents[0].data
    problems = []
    for document in layers.documents[1:]:
        for key in sorted(document.values, key=len):
            beside = inside(known, key[:-1])
            what = None
            by_number = isinstance(beside, list) and isinstance(inside(document.data, key[:-1]), dict)
            if by_number and not (str(key[-1]).isdigit() and int(key[-1]) < len(beside)):
                count = len(beside)
                message = (
                    f"`{'.'.join(map(str, key[:-1]))}` has {count} item{'s' if count != 1 else ''}, counted from 0"
                )
                problems.append(Problem(message=message, position=document.at(())))
                break
            beside = {} if beside is None else beside
            if key[:1] == ("tasks",) and isinstance(beside, dict) and key[-1] not in beside:
                what = "task" if len(key) == 2 else "parameter" if len(key) == _DEPTH else None
            if what and (what == "task" or key[2] == "parameters"):
                hint = did_you_mean(str(key[-1]), [str(word) for word in beside])
                message = f"the cube has no {what} `{key[-1]}`"
                problems.append(Problem(message=message, hint=hint, position=document.at(())))
                break
    return problems


def _original(key: Key, places: dict[Key, Key]) -> Key:
    """Where a place of a converted file stood before."""
    for end in range(len(key), 0, -1):
        if key[:end] in places:
            return places[key[:end]] + key[end:]
    return key


def _no_mapping(data: Any, document: Document) -> Problem:
    found = "empty" if data is None else "a list" if isinstance(data, list) else "text"
    hint = "`cube create` writes a file to start from"
    return Problem(
        message=f"a cube file is a mapping with `tasks`; this is {found}", hint=hint, position=document.at(())
    )


def _with_types_renamed(data: dict[str, Any], where: Where) -> tuple[dict[str, Any], list[Problem]]:
    """The type names that people write, replaced by the right words."""
    problems: list[Problem] = []
    tasks = data.get("tasks")
    for task_name, task in tasks.items() if isinstance(tasks, dict) else ():
        for side in ("inputs", "outputs"):
            named = inside(task, ("parameters", side))
            if not isinstance(named, dict):
                continue
            for name, parameter in named.items():
                if not isinstance(parameter, dict):
                    continue
                written = parameter.get("type")
                if isinstance(written, str) and written in RENAMED_TYPES:
                    right = RENAMED_TYPES[written]
                    named[name] = {**parameter, "type": right}
                    key = ("tasks", task_name, "parameters", side, name, "type")
                    message, hint = f"type `{written}` is called `{right}` here", f"write `type: {right}`"
                    position = where(key, False)
                    problems.append(Problem(message=message, hint=hint, position=position, severity="warning"))
    return data, problems


def _advice(key: Key, value: Any) -> str | None:
    """What was meant by a key that is in its wrong place, or has a value of a wrong shape."""
    if len(key) == 1 and isinstance(value, dict) and not value.keys().isdisjoint(("parameters", "entrypoint")):
        return "a task stands under `tasks:`: indent it"
    if key[:2] == ("tasks", "parameters") and key[2:] in (("inputs",), ("outputs",)):
        return "a task has a name: tasks: {NAME: {parameters: ...}}"
    if key == ("tasks",):
        return "tasks have names: tasks: {NAME: {parameters: ...}}"
    if key == ("docker",) and isinstance(value, str):
        return f"docker: {{image: {value}}}"
    if len(key) == _DEPTH - 1 and key[-1] in ("inputs", "outputs"):
        return f"parameters have names: {key[-1]}: {{NAME: PATH}}"
    if key[-1] in ("environment", "env_args", "build_args", "links") and isinstance(value, list):
        return f"{key[-1]}: {{NAME: value}}"
    if len(key) == 2 and key[0] == "tasks" and isinstance(value, str):
        return f"{key[1]}: {{entrypoint: {value}}}"
    if len(key) == 4 and key[2] == "secrets":
        return "the value of a secret is given when the task runs, never in a file like this"
    return None


def _judged(problem: Problem, strict: bool) -> Problem:
    """Unknown keys are forgiven in a cube file that is to run, never in strict reading or on the command line."""
    by_user = problem.position is not None and problem.position.source.startswith("-P ")
    return msgspec.structs.replace(problem, severity="error") if strict or by_user else problem
