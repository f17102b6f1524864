"""A `Dockerfile`: what its image runs becomes a task."""

import json
import re
import shlex
from typing import Any

from mlcube.importing.draft import Draft, Foreign, invalid, name_of, word
from mlcube.importing.shell_text import entrypoint

__all__ = ["draft", "instructions"]


def draft(foreign: Foreign) -> Draft:
    """The cube file for a `Dockerfile`."""
    found = instructions(foreign.text)
    if not any(name == "FROM" for name, _ in found):
        raise invalid(foreign, "this is no Dockerfile: it has no `FROM`", hint="FROM python:3.11-slim")
    name = name_of(foreign, None)
    docker: dict[str, Any] = {"image": f"local/{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-') or 'cube'}"}
    file = foreign.path.rpartition("/")[2]
    if file != "Dockerfile":
        docker["build_file"] = file
    last = max(number for number, (what, _) in enumerate(found) if what == "FROM")
    stage, result = found[last + 1 :], Draft(data={"name": name})
    task: dict[str, Any] = {}
    if words := _runs(stage):
        task["entrypoint"] = words
        result.note("a task gets its parameters as `--name=value` behind these words, and as CUBE_INPUT_NAME and so on")
    else:
        result.note(
            "the image's own entrypoint, of the image it starts from, gets the task's name as its first argument"
        )
    if inputs := _volumes(result, stage):
        task["parameters"] = {"inputs": inputs}
    else:
        result.note("what the task reads and writes is not said in a Dockerfile: declare it under `parameters`")
    labels = _labels(stage)
    for key, label in (("version", "version"), ("description", "description"), ("license", "licenses")):
        if text := labels.get(f"org.opencontainers.image.{label}") or labels.get(label):
            result.data[key] = text
    for what, meaning in (
        ("EXPOSE", "a task is no service: it runs and ends, and nothing listens"),
        ("USER", "a task runs as who calls it; `--user image` lets it run as the image's user"),
        ("HEALTHCHECK", "a task is watched by its exit status"),
    ):
        if any(name == what for name, _ in stage):
            result.note(f"`{what}` has no effect: {meaning}")
    result.data |= {"docker": docker, "tasks": {"run": task or None}}
    return result


def instructions(text: str) -> list[tuple[str, str]]:
    """Each instruction and what it is given; lines that go on are one, comments are none."""
    escape = "`" if re.match(r"(?i)\s*#\s*escape\s*=\s*`", text) else "\\"
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(re.escape(escape) + r"[ \t]*\n", " ", "\n".join(lines))
    found = (line.strip().partition(" ") for line in joined.replace("\t", " ").split("\n") if line.strip())
    return [(name.upper(), rest.strip()) for name, _, rest in found]


def _runs(stage: list[tuple[str, str]]) -> list[str]:
    """The words of `ENTRYPOINT` and `CMD` as an engine joins them."""
    last = {name: rest for name, rest in stage if name in ("ENTRYPOINT", "CMD")}
    begins, rest = (_words(last.get(name, "")) for name in ("ENTRYPOINT", "CMD"))
    if isinstance(begins, str):
        return entrypoint(begins)  # what a shell reads gets no arguments, those of CMD neither
    if isinstance(rest, str):
        return [*begins, "/bin/sh", "-c", rest] if begins else entrypoint(rest)
    return [*begins, *rest]


def _words(written: str) -> list[str] | str:
    """A list for the form that is JSON, text for the one that a shell reads."""
    if written.startswith("["):
        try:
            found = json.loads(written)
        except (ValueError, RecursionError):
            return written
        if isinstance(found, list) and all(isinstance(each, str) for each in found):
            return [_readable(each) for each in found]
    return written or []


def _readable(text: str) -> str:
    """The text as an engine reads it: halves of characters, as `\\ud800` is, become the sign for what is none."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def _volumes(result: Draft, stage: list[tuple[str, str]]) -> dict[str, Any]:
    inputs: dict[str, Any] = {}
    for name, rest in stage:
        if name != "VOLUME":
            continue
        found = _words(rest)
        for place in found if isinstance(found, list) else _split(found):
            if place.startswith("/") and len(place) > 1:
                label = word(place.strip("/").replace("/", "_"))
                inputs[label] = {"type": "directory", "default": f"{label}/", "mount": place, "opts": "rw"}
                result.note(
                    f"the volume `{place}` is an input that may be written: make it an output if the task writes it"
                )
    return inputs


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:  # a quotation without an end
        return []


def _labels(stage: list[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, rest in stage:
        if name == "LABEL":
            try:
                pairs = (each.partition("=") for each in shlex.split(rest))
            except ValueError:
                continue
            found |= {key: value for key, _, value in pairs if value and "$" not in value}
    return found
