"""Writes schemas/ and the generated pages of docs/reference/ from the code; with --check, says what is out of step."""

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

import mlcube
from mlcube import api, errors, runner
from mlcube.cli.application import COMMANDS
from mlcube.doctor import Report
from mlcube.document import CubeFile
from mlcube.record import Record
from mlcube.trust.policy_file import PolicyFile
from mlcube.zoo.describing import KINDS
from mlcube.zoo.entries import Index

ROOT = Path(__file__).resolve().parent.parent
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def main() -> int:
    """Write what differs, or only name it."""
    check = "--check" in sys.argv[1:]
    stale = []
    for name, text in files():
        path = ROOT / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    for name in stale:
        print(f"{name} {'is out of step with the code: run `make generate`' if check else 'written'}")
    return 1 if check and stale else 0


def files() -> Iterator[tuple[str, str]]:
    """Each generated file and its text."""
    cube = schema(CubeFile, "A cube (mlcube.yaml)")
    settings = settings_schema()
    yield "schemas/mlcube.schema.json", pretty(cube)
    yield "schemas/settings.schema.json", pretty(settings)
    yield "schemas/record.schema.json", pretty(schema(Record, "What is kept of a run (record.json)"))
    yield "schemas/doctor.schema.json", pretty(schema(Report, "What `cube doctor --json` prints"))
    yield "schemas/trust.schema.json", pretty(schema(PolicyFile, "Which cubes may run on a machine (trust.yaml)"))
    zoo = schema(Index, "The index of a zoo (index.json)")
    yield "schemas/zoo.schema.json", pretty(zoo)
    yield "docs/reference/zoo-index.md", zoo_page(zoo)
    yield "docs/reference/cube-file.md", cube_page(cube)
    yield "docs/reference/settings.md", settings_page(settings)
    yield "docs/reference/command-line.md", command_page()
    yield "docs/reference/exit-statuses.md", status_page()
    yield "docs/reference/python.md", python_page()


def pretty(content: Any) -> str:
    """JSON for people."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def schema(of: Any, title: str) -> dict[str, Any]:
    """The JSON Schema of a type, with the type itself at the top."""
    (top,), parts = msgspec.json.schema_components([of], schema_hook=_other_platform, ref_template="#/$defs/{name}")
    name = top["$ref"].rsplit("/", 1)[1]
    whole = parts.pop(name)
    for part in (whole, *parts.values()):
        part.pop("title", None)
    return {"$schema": DIALECT, "title": title, **whole, "$defs": parts}


def _other_platform(kind: Any) -> dict[str, Any]:
    """A runner among a runner's options is written as the name of a platform."""
    if kind is not runner.Runner:
        raise NotImplementedError
    return {"type": "string"}


def settings_schema() -> dict[str, Any]:
    """The schema of the settings file: a platform is a runner with that runner's options."""
    choices: list[dict[str, Any]] = []
    parts: dict[str, Any] = {}
    for name in runner.built_in():
        option = schema(runner.find(name), name)
        parts |= option["$defs"]
        properties = {"runner": {"const": name, "description": "The runner."}, **option["properties"]}
        choices.append(
            {
                "title": name,
                "type": "object",
                "description": option.get("description", ""),
                "properties": properties,
                "required": ["runner", *option.get("required", ())],
                "additionalProperties": False,
            }
        )
    return {
        "$schema": DIALECT,
        "title": "The settings of a machine (settings.yaml)",
        "type": "object",
        "properties": {
            "default_platform": {"type": "string", "description": "What `cube run` uses without --platform."},
            "platforms": {
                "type": "object",
                "description": "Platforms by name. One named like its runner exists without being written.",
                "additionalProperties": {
                    "anyOf": [
                        *choices,
                        {
                            "title": "a runner of another package",
                            "type": "object",
                            "properties": {
                                "runner": {"type": "string", "not": {"enum": list(runner.built_in())}},
                            },
                            "required": ["runner"],
                        },
                    ]
                },
            },
            "zoos": {
                "type": "object",
                "description": "Zoos by name: an address, or an absolute path. The first that knows a cube is asked.",
                "additionalProperties": {"type": "string"},
            },
        },
        "additionalProperties": False,
        "$defs": parts,
    }


GENERATED = "<!-- Generated from the code by docs/generate.py. -->\n"


def cube_page(content: dict[str, Any]) -> str:
    """Every key of a cube file."""
    headings = [
        ("The file", content, ""),
        ("A task", content["$defs"]["TaskFile"], "tasks.<task>"),
        ("Inputs and outputs", content["$defs"]["ParametersFile"], "tasks.<task>.parameters"),
        ("A parameter", content["$defs"]["ParameterFile"], "tasks.<task>.parameters.inputs.<name>"),
        ("Resources", content["$defs"]["ResourcesFile"], "tasks.<task>.resources"),
        ("A secret", content["$defs"]["SecretFile"], "tasks.<task>.secrets.<name>"),
        ("Docker", content["$defs"]["DockerFile"], "docker"),
        ("Singularity", content["$defs"]["SingularityFile"], "singularity"),
        ("Python", content["$defs"]["PythonFile"], "python"),
        ("Platform", content["$defs"]["PlatformFile"], "platform"),
    ]
    lines = [
        GENERATED,
        "# The cube file",
        "",
        "`mlcube.yaml` says what a model can do and what it needs. Everything except `tasks` is optional. Editors",
        "complete and explain it with this first line:",
        "",
        "```yaml",
        "# yaml-language-server: $schema=<path or address of>/schemas/mlcube.schema.json",
        "```",
        "",
        "Scalars follow YAML 1.2: `on`, `yes` and `22:22` are text, `010` is ten, `1e3` is a number.",
        "",
    ]
    for title, part, place in headings:
        lines += [f"## {title}", "", part.get("description", ""), ""]
        lines += [f"At `{place}`.", ""] if place else []
        lines += [*table(part), ""]
    return "\n".join(lines)


def zoo_page(content: dict[str, Any]) -> str:
    """Every key of the index of a zoo."""
    headings = [
        ("The file", content, ""),
        ("A cube", content["$defs"]["Entry"], "cubes"),
        ("A task", content["$defs"]["Task"], "cubes.tasks"),
        ("An input or output", content["$defs"]["Parameter"], "cubes.tasks.inputs and cubes.tasks.outputs"),
        ("A signature", content["$defs"]["Signature"], "cubes.signatures"),
        ("A result", content["$defs"]["Result"], "cubes.results"),
    ]
    lines = [
        GENERATED,
        "# The index of a zoo",
        "",
        "A zoo is a folder of plain files that any server can serve. `index.json` is what `cube run NAME`,",
        "`cube search` and `cube zoo show` read, as [its schema](../../schemas/zoo.schema.json) says; the rest is",
        "for people. Whoever writes an index by other means needs `format`, `schema` and, for each cube,",
        "`name` and `reference`, which is always a digest in a registry: a zoo can only say which content",
        "is meant. Keys that are not known are passed over. An index may be 64 MiB long and have 200,000",
        "cubes, and some millions of values in all, 100,000 of them for a cube.",
        "",
        "```json",
        '{"format": "mlcube-zoo", "schema": 1, "title": "Lab", "cubes": [',
        '  {"name": "digits", "version": "1.0.0", "reference": "oci://registry.example/lab/digits@sha256:..."}]}',
        "```",
        "",
        "`cube zoo build` writes cubes by name, the newest version first, each in a line of its own; the same cubes",
        "give the same bytes. It is fetched with the `ETag` of the last time.",
        "",
    ]
    for title, part, place in headings:
        lines += [f"## {title}", "", part.get("description", ""), ""]
        lines += [f"At `{place}`.", ""] if place else []
        lines += [*table(part), ""]
    lines += [
        "## Results",
        "",
        "A cube's folder may have a `results.yaml` (or `results.json`): a list of results as above. It may also have",
        "a folder `results` with records of runs (`cube runs show ID --json`), of which the time is shown. Of a",
        "published cube they are read if all its small files together have no more than 2 MiB.",
        "",
        "```yaml",
        "- {metric: accuracy, value: 0.97, task: evaluate, dataset: test images, platform: laptop, date: 2025-01-31}",
        "```",
        "",
        "## Kinds of tasks",
        "",
        "The kind is that of the first word of a task's name that has one, else `other`.",
        "",
        "| kind | words |",
        "|---|---|",
        *(f"| `{kind}` | {', '.join(words)} |" for kind, words in KINDS.items()),
        "",
    ]
    return "\n".join(lines)


def table(part: dict[str, Any]) -> list[str]:
    """The keys of an object."""
    rows = ["| key | value | meaning |", "|---|---|---|"]
    for key, what in part["properties"].items():
        meaning = what.get("description", "").replace("|", "\\|")
        examples = what.get("examples") or ()
        shown = "".join(f" For example `{json.dumps(example, ensure_ascii=False)}`." for example in examples[:1])
        rows.append(f"| `{key}` | {kind(what)} | {meaning}{shown} |")
    return rows


def kind(what: dict[str, Any]) -> str:
    """A schema's type in a few words."""
    if "enum" in what:
        return ", ".join(f"`{value}`" for value in what["enum"] if value is not None)
    if "const" in what:
        return f"`{what['const']}`"
    if "anyOf" in what:
        return " or ".join(dict.fromkeys(kind(part) for part in what["anyOf"] if part.get("type") != "null"))
    if "$ref" in what:
        return "mapping"
    if isinstance(what.get("type"), list):
        return " or ".join(kind({"type": name}) for name in what["type"] if name != "null")
    names = {"string": "text", "integer": "whole number", "boolean": "true or false", "array": "list"}
    name = str(what.get("type", "anything"))
    return {**names, "object": "mapping"}.get(name, name)


def settings_page(content: dict[str, Any]) -> str:
    """Every option of every runner."""
    lines = [
        GENERATED,
        "# Settings",
        "",
        "What this machine's user calls platforms. The file is the one that `$MLCUBE_SYSTEM_SETTINGS` names, else",
        "`settings.yaml` in `$CUBE_CONFIG_DIR`, else `mlcube/settings.yaml` in `$XDG_CONFIG_HOME` (`~/.config`).",
        "It is read, and written only by `cube config`.",
        "",
        "```yaml",
        "default_platform: laptop",
        "platforms:",
        "  laptop: {runner: docker}",
        "```",
        "",
    ]
    platforms = content["properties"]["platforms"]["additionalProperties"]["anyOf"]
    for choice in platforms:
        if "description" in choice:
            lines += [f"## {choice['title']}", "", choice["description"].split("\n\n")[0], "", *table(choice), ""]
    return "\n".join(lines)


def command_page() -> str:
    """The help of every command, as it is printed."""
    lines = [GENERATED, "# The command line", "", *shown(()), ""]
    for name in COMMANDS:
        if name != "show_config":
            lines += [f"## cube {name}", "", *shown((name,)), ""]
    return "\n".join(lines)


def shown(words: tuple[str, ...]) -> list[str]:
    """What `cube ... --help` prints on a terminal of 100 columns."""
    environment = {**os.environ, "COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1"}
    argv = [sys.executable, "-m", "mlcube", *words, "--help"]
    printed = subprocess.run(argv, check=True, capture_output=True, text=True, env=environment, cwd=ROOT).stdout
    return ["```text", *(line.rstrip() for line in printed.strip().splitlines()), "```"]


def status_page() -> str:
    """The exit statuses."""
    tree = (errors.__doc__ or "").split("```")[1].strip()
    lines = [
        GENERATED,
        "# Exit statuses",
        "",
        "`cube run` exits with the task's own status. What goes wrong before or around the task has a status of its",
        "own; `cube` uses it for nothing else, but a task may.",
        "",
        "```text",
        tree,
        "```",
        "",
        "Messages that cannot be shown, because stderr is closed or full, change nothing. Neither does a task's output",
        "that cannot be shown: its log has it. A result that cannot be written is an error, if there is no other.",
        "",
        "With `--json`, an error is also a document on stdout. `cube run` adds it to the `runs` that were begun, and",
        "`cube check` tells the `problems` of each cube instead:",
        "",
        "```json",
        '{"error": {"status": 2, "problems": [{"severity": "error", "message": "no platform is named `lcoal`",',
        '  "hint": "did you mean `local`?", "file": null, "line": null, "column": null}]}}',
        "```",
        "",
    ]
    return "\n".join(lines)


def python_page() -> str:
    """The public names of the package, from their docstrings."""
    lines = [GENERATED, "# Python", "", *(api.__doc__ or "").strip().replace("  # doctest: +SKIP", "").splitlines(), ""]
    lines[2:] = fenced(lines[2:])
    lines += [*described("mlcube.load", mlcube.load), *described("mlcube.Cube", mlcube.Cube)]
    for owner in (mlcube.Cube, mlcube.Run):
        if owner is mlcube.Run:
            lines += described("mlcube.Run", owner)
            lines += [f"* `.{field.name}`" for field in msgspec.structs.fields(mlcube.Run)] + [""]
        for name, member in vars(owner).items():
            if not name.startswith("_") and (isinstance(member, property) or inspect.isfunction(member)):
                lines += described(f"{owner.__name__}.{name}", member)
    lines += described("mlcube.TaskFailed", mlcube.TaskFailed)
    lines += described("mlcube.CubeError", mlcube.CubeError)
    lines += ["Its members, with the statuses of [the command line](exit-statuses.md), are in `mlcube.errors`.", ""]
    return "\n".join(lines)


def described(name: str, member: Any) -> list[str]:
    """A heading, the signature and the docstring."""
    doc = inspect.cleandoc(member.__doc__ or "").replace("  # doctest: +SKIP", "").splitlines()
    lines = [f"## {name}", ""]
    if inspect.isfunction(member):
        signature = re.sub(r"\b(collections\.abc|typing|mlcube\.api|os)\.", "", str(inspect.signature(member)))
        signature = re.sub(r"'([A-Z]\w*)'", r"\1", signature)
        lines += ["```python", f"{name}{signature}", "```", ""]
    return [*lines, *fenced(doc), ""]


def fenced(lines: list[str]) -> list[str]:
    """Examples of a docstring as code."""
    result: list[str] = []
    inside = False
    for line in lines:
        if line.startswith(">>>") and not inside:
            result.append("```python")
            inside = True
        if inside and not line.strip():
            result.append("```")
            inside = False
        result.append(line)
    return [*result, "```"] if inside else result


if __name__ == "__main__":
    sys.exit(main())
