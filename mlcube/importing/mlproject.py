"""MLflow's `MLproject`: entry points become tasks."""

import re
import shlex
from collections.abc import Callable
from typing import Any

from mlcube.errors import CubeError, Position
from mlcube.importing.draft import Draft, Foreign, invalid, name_of, word, words_of
from mlcube.importing.requirements import conda, listed, range_of
from mlcube.importing.shell_text import entrypoint, filled, variable
from mlcube.source import Document

__all__ = ["draft"]

_TYPES = {"string": "string", "float": "float", "uri": "string"}
_KNOWN = ("name", "entry_points", "python_env", "conda_env", "docker_env")


def draft(foreign: Foreign) -> Draft:
    """The cube file for an `MLproject`."""
    data = foreign.mapping()
    result = Draft(data={"name": name_of(foreign, data.get("name"))})
    for key in data:
        if key not in _KNOWN:
            result.note(f"`{key}` was left out: it has no meaning here")
    points = foreign.mapping("entry_points")
    if not points:
        hint = "entry_points: {main: {command: python train.py}}"
        raise invalid(foreign, "`entry_points` names nothing that could be run", "entry_points", hint=hint)
    result.data |= _environment(foreign, result, data)
    result.data["tasks"] = {
        ours: _task(foreign, result, name) for name, ours in words_of(foreign, points, "entry_points").items()
    }
    result.note(
        "what the code writes is not said in an `MLproject`: declare it under `outputs`, and write to the path that the"
        " task is given. The project's own folder is read only while a task runs"
    )
    return result


def _environment(foreign: Foreign, result: Draft, data: dict[str, Any]) -> dict[str, Any]:
    if data.get("docker_env"):
        docker = foreign.mapping("docker_env")
        if not isinstance(docker.get("image"), str):
            raise invalid(
                foreign, "`docker_env` names no `image`", "docker_env", hint="docker_env: {image: owner/name:tag}"
            )
        for key in ("volumes", "environment"):
            if docker.get(key):
                result.note(f"`docker_env.{key}` was left out: a cube names parameters, `environment` and `secrets`")
        result.note("MLflow puts the project into the image when it runs: a cube's image must hold its code")
        return {"docker": {"image": docker["image"]}}
    version, requirements = ">=3.10", list[str]()
    if name := data.get("python_env"):
        written = _other(foreign, str(name))
        version = range_of(result, written.get("python"))
        requirements = listed(foreign, result, written.get("dependencies") or ())
    elif name := data.get("conda_env"):
        version, requirements = conda(foreign, result, _other(foreign, str(name)), str(name))
    else:
        result.note("no environment is named: the tasks get Python and nothing else")
    return {"python": {"version": version, "requirements": requirements, "source": "."}}


def _other(foreign: Foreign, name: str) -> dict[str, Any]:
    text = foreign.beside(name)
    if text is None:
        raise CubeError(f"there is no file `{name}` in `{foreign.folder}`", hint="it says what the project needs")
    data = Document.from_yaml(text, name).data
    if not isinstance(data, dict):
        hint = "dependencies: [numpy==2.1.0, pillow]"
        raise CubeError("the file must be a mapping", hint=hint, position=Position(name))
    return data


def _task(foreign: Foreign, result: Draft, name: str) -> dict[str, Any]:
    point = foreign.mapping("entry_points", name)
    command = point.get("command")
    if not isinstance(command, str) or not command.strip():
        raise invalid(
            foreign, f"entry point `{name}` has no `command`", "entry_points", name, hint="command: python train.py"
        )
    inputs: dict[str, Any] = {}
    places: dict[str, Callable[[bool], str]] = {}
    key = ("entry_points", name, "parameters")
    written = foreign.mapping(*key)
    for parameter, ours in words_of(foreign, written, *key).items():
        inputs[ours] = _parameter(result, name, parameter, written[parameter])
        places[f"{{{parameter}}}"] = _reader(variable(ours))
    for unknown in dict.fromkeys(re.findall(r"\{([A-Za-z0-9_.-]+)\}", command)):
        if f"{{{unknown}}}" not in places:
            hint = f"parameters: {{{unknown}: string}}"
            raise invalid(
                foreign,
                f"the command of `{name}` names `{{{unknown}}}`, which is no parameter",
                "entry_points",
                name,
                hint=hint,
            )
    task: dict[str, Any] = {}
    words = _plain_words(command)
    task["entrypoint"] = words if words and not inputs else entrypoint(filled(command, places))
    if inputs:
        task["parameters"] = {"inputs": inputs}
    return task


def _reader(name: str) -> Callable[[bool], str]:
    return lambda quoted: f"${{{name}}}" if quoted else f'"${{{name}}}"'


def _parameter(result: Draft, task: str, name: str, written: object) -> dict[str, Any]:
    given = written if isinstance(written, dict) else {"type": written}
    kind = str(given.get("type") or "string")
    parameter: dict[str, Any] = {}
    if kind == "path":
        parameter["default"] = str(given["default"]) if given.get("default") is not None else word(name)
        result.note(f"`{name}` of `{task}` is a path: say `type: file` or `type: directory`; it lies in the workspace")
    else:
        if kind not in _TYPES:
            result.note(f"the type `{kind}` of `{name}` is passed as text")
        parameter["type"] = _TYPES.get(kind, "string")
        if given.get("default") is not None:
            parameter["default"] = _default(str(given["default"]), parameter["type"])
    return parameter


def _default(text: str, kind: str) -> str | float:
    try:
        return float(text) if kind == "float" else text
    except ValueError:
        return text  # the check of the cube file says what is wrong with it


def _plain_words(command: str) -> list[str] | None:
    """A command in which a shell would read nothing but words."""
    if re.search(r"[$`;&|<>()*?~#\n]", command):
        return None
    try:
        return shlex.split(command)
    except ValueError:
        return None
