"""A Boutiques descriptor: one tool with a command line becomes a cube with one task."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from mlcube.importing.draft import Draft, Foreign, invalid, name_of, number, word
from mlcube.importing.shell_text import entrypoint, filled, growing, variable

__all__ = ["draft"]

_TYPES = {"String": "string", "Number": "float", "Flag": "boolean", "File": "file"}
_KEY = r"\[[A-Z][A-Z0-9_]*\]"
"""How the keys of inputs and outputs are written in command lines and templates."""
_LISTS = {
    "inputs": '[{"id": "text", "type": "String", "value-key": "[TEXT]"}]',
    "output-files": '[{"id": "result", "path-template": "result.txt"}]',
    "environment-variables": '[{"name": "LEVEL", "value": "3"}]',
}
"""How the lists of a descriptor are written."""
_LEFT_OUT = ("groups", "error-codes", "tests", "shell")


def draft(foreign: Foreign) -> Draft:
    """The cube file for a descriptor."""
    data = foreign.mapping()
    line = data.get("command-line")
    if not isinstance(line, str) or not line.strip():
        raise invalid(foreign, "the descriptor has no `command-line`", hint='"command-line": "tool [INPUT]"')
    result = Draft(data={"name": name_of(foreign, data.get("name"))})
    for key, ours in (("tool-version", "version"), ("description", "description"), ("author", "authors")):
        if data.get(key):
            result.data[ours] = str(data[key])
    if address := data.get("url") or data.get("descriptor-url"):
        result.data["links"] = {"tool": str(address)}
    for key in _LEFT_OUT:
        if data.get(key):
            result.note(f"`{key}` was left out")
    result.data |= _container(foreign, result)
    result.data["tasks"] = {"run": {**_task(foreign, result, line), **_needs(foreign, result)}}
    return result


def _task(foreign: Foreign, result: Draft, line: str) -> dict[str, Any]:
    inputs: dict[str, Any] = {}
    places: dict[str, Callable[[bool], str]] = {}
    begins: list[str] = []
    for index, each in enumerate(_list(foreign, "inputs")):
        label = word(_text(foreign, each, "id", "inputs", index))
        inputs[label] = _input(foreign, result, each, label, index)
        name = variable(label)
        if each.get("type") == "Flag":
            begins.append(f'[ "${{{name}:-}}" = true ] || {name}=')
        if key := each.get("value-key"):
            places[str(key)] = _place(each, name)
    outputs, ends = _outputs(foreign, result, places)
    for unknown in dict.fromkeys(re.findall(_KEY, line)):
        if unknown not in places:
            result.note(
                f"`{unknown}` in the command line is no `value-key` of an input or output: it stands there as it is"
            )
    sides = {"inputs": inputs, "outputs": outputs}
    return {
        "entrypoint": entrypoint(_script(filled(line, places), begins, ends)),
        "parameters": {side: found for side, found in sides.items() if found},
    }


def _needs(foreign: Foreign, result: Draft) -> dict[str, Any]:
    """The environment of the task, and its resources."""
    found: dict[str, Any] = {}
    variables = _list(foreign, "environment-variables")
    if named := {str(each["name"]): str(each.get("value", "")) for each in variables if each.get("name")}:
        found["environment"] = named
    resources = foreign.mapping("suggested-resources")
    needs = {"cpus": resources.get("cpu-cores"), "memory": _gibibytes(resources.get("ram"))}
    if any(needs.values()):
        found["resources"] = {key: value for key, value in needs.items() if value}
        result.note("`suggested-resources` are limits here: the task may use no more")
    return found


def _container(foreign: Foreign, result: Draft) -> dict[str, Any]:
    image = foreign.mapping("container-image")
    kind, name = image.get("type"), image.get("image")
    if kind not in ("docker", "singularity") or not isinstance(name, str):
        raise invalid(
            foreign, "the descriptor names no container image that can be run from here", "container-image",
            hint='"container-image": {"type": "docker", "image": "owner/name:tag"}',
        )  # fmt: skip
    index = str(image.get("index") or "").removeprefix("docker://").removeprefix("https://").strip("/")
    if kind == "singularity" and index.startswith("shub"):
        result.note("the image was in an index that is no longer served: name another under `singularity`")
        return {"singularity": {"image": name}}
    if index and index not in ("index.docker.io", "docker.io") and not name.startswith(index):
        name = f"{index}/{name}"
    return {"docker": {"image": name}}


def _list(foreign: Foreign, key: str) -> list[dict[str, Any]]:
    found = foreign.mapping().get(key) or []
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise invalid(foreign, f"`{key}` must be a list of mappings", key, hint=f'"{key}": {_LISTS[key]}')
    return found


def _text(foreign: Foreign, written: Mapping[str, Any], key: str, *place: str | int) -> str:
    if not isinstance(written.get(key), str):
        raise invalid(
            foreign, f"one of `{place[0]}` has no `{key}`", *place, hint=f'"{place[0]}": {_LISTS[str(place[0])]}'
        )
    return str(written[key])


def _input(foreign: Foreign, result: Draft, written: Mapping[str, Any], label: str, index: int) -> dict[str, Any]:
    kind = str(written.get("type"))
    parameter: dict[str, Any] = {"type": _TYPES.get(kind, "string")}
    if kind == "Number" and written.get("integer"):
        parameter["type"] = "integer"
    if written.get("list"):
        parameter["type"] = "string"
        result.note(f"`{label}` is a list: give its values as one text with spaces between them")
        if kind == "File":
            result.note(
                f"the files of `{label}` are not brought into the container: declare one input for each, or a folder"
            )
    default = written.get("default-value")
    if default is not None and not isinstance(default, list):
        parameter["default"] = _default(foreign, default, parameter["type"], label, index)
    elif kind == "Flag":
        parameter["default"] = False
    elif kind == "File" and not written.get("list"):
        parameter["default"] = label
    if written.get("optional") and kind != "Flag":
        parameter["optional"] = True
    if parameter["type"] != "file":
        for theirs, ours in (("value-choices", "choices"), ("minimum", "minimum"), ("maximum", "maximum")):
            if written.get(theirs) is not None and not written.get("list"):
                parameter[ours] = written[theirs]
    if written.get("description"):
        parameter["description"] = str(written["description"])
    return parameter


def _default(foreign: Foreign, written: Any, kind: str, label: str, index: int) -> Any:
    found = number(written) if kind == "float" else written
    if found is None or isinstance(found, dict):
        what, example = ("number", "0.5") if kind == "float" else ("single value", '"text"')
        raise invalid(
            foreign, f"the `default-value` of `{label}` is no {what}", "inputs", index, "default-value",
            hint=f'"default-value": {example}',
        )  # fmt: skip
    return found


def _place(written: Mapping[str, Any], name: str) -> Callable[[bool], str]:
    """What a shell reads where an input's key stands: nothing for one that is not given."""
    flag = str(written.get("command-line-flag") or "")
    if written.get("type") == "Flag":
        return lambda _: f"${{{name}:+{flag}}}"
    separator = str(written.get("command-line-flag-separator") or " ") if flag else ""
    listed = bool(written.get("list"))

    def filled_in(quoted: bool) -> str:
        value = f"${{{name}}}" if quoted or listed else f'"${{{name}}}"'
        return f"${{{name}:+{flag}{separator}{value}}}"

    return filled_in


def _place_of_output(written: Mapping[str, Any], path: str) -> Callable[[bool], str]:
    """What a shell reads where an output's key stands: its path, in whose quotes no others may stand."""
    flag = str(written.get("command-line-flag") or "")
    separator = str(written.get("command-line-flag-separator") or " ") if flag else ""
    return lambda quoted: f'{flag}{separator}"{path}"' if quoted else f"{flag}{separator}{path}"


def _outputs(
    foreign: Foreign, result: Draft, places: dict[str, Callable[[bool], str]]
) -> tuple[dict[str, Any], list[str]]:
    """The outputs, and the commands that bring each from where the tool writes it to where it belongs.

    Adds to `places` those in the command line that stand for an output.
    """
    outputs: dict[str, Any] = {}
    ends: list[str] = []
    keys = {str(each.get("value-key")): each for each in _list(foreign, "inputs") if each.get("value-key")}
    for index, each in enumerate(_list(foreign, "output-files")):
        label = word(_text(foreign, each, "id", "output-files", index))
        template = _text(foreign, each, "path-template", "output-files", index)
        place, name = (
            _path(template, keys, each.get("path-template-stripped-extensions") or ()),
            variable(label, "OUTPUT"),
        )
        if key := each.get("value-key"):
            places.setdefault(str(key), _place_of_output(each, place))
        if each.get("optional"):
            result.note(
                f"the output `{label}` is optional: an output that is missing is an error here; it is then empty"
            )
        kind = "directory" if template.endswith("/") or each.get("list") or "*" in template else "file"
        outputs[label] = {"type": kind, "default": f"{label}/" if kind == "directory" else label}
        if each.get("description"):
            outputs[label]["description"] = str(each["description"])
        if kind == "directory":
            ends.append(f'cp -R {place} "${{{name}}}"/')
        else:
            missing = f' || : >"${{{name}}}"' if each.get("optional") else ""
            ends.append(f'cp {place} "${{{name}}}"{missing}')
    return outputs, ends


def _path(template: str, keys: Mapping[str, Mapping[str, Any]], stripped: object) -> str:
    """A path of a template in quotes, its keys read from the variables: the names of files, without their folders."""
    parts: list[str] = []
    size = 0
    for piece in re.split(f"({_KEY})", template.rstrip("/")):
        if piece in keys:
            name = variable(word(str(keys[piece]["id"])))
            value = f"${{{name}}}"
            if keys[piece].get("type") == "File":
                value = f'$(basename "${{{name}}}")'
            for extension in stripped if isinstance(stripped, list) else ():
                value = f'$(printf "%s" "{value}" | sed "s/{re.escape(str(extension))}$//")'
                growing(size, value)
            parts.append(f'"{value}"')
        else:
            parts.append("*".join(f"'{each}'" if each else "" for each in piece.replace("'", "").split("*")))
        size = growing(size, parts[-1])
    return "".join(parts)


def _script(line: str, begins: list[str], ends: list[str]) -> str:
    """The tool runs in a folder of its own, since the container's may not be written to."""
    return "\n".join(["set -e", 'cd "$(mktemp -d)"', *begins, line, *ends])


def _gibibytes(written: object) -> str | None:
    return f"{written}GiB" if isinstance(written, int | float) and written > 0 else None
