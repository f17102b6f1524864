"""Does every example parse and bind to exactly this invocation, or fail with exactly this message at this line?

`valid/<name>/` holds a cube with what its workspace needs, and `cases.json`: by name, what the user asks for (`task`,
`arguments`, `overrides`, `workspace`, `needs`, `trust`, `cube`) and what must come of it (`invocation`, `besides`,
`warnings`, or `error`). `invalid/<name>.yaml` is read as `cube check` reads it; `<name>.txt` is what it prints.

`CUBE_UPDATE_CORPUS=1 pytest tests/corpus` writes what comes out; the diff is then what a reviewer reads.
"""

import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlcube.binding import bind
from mlcube.needs import Needs
from mlcube.errors import CubeError, Problem
from mlcube.invocation import Invocation
from mlcube.reading import read_cube

HERE = Path(__file__).parent
UPDATE = bool(os.environ.get("CUBE_UPDATE_CORPUS"))
ASKED = ("task", "cube", "arguments", "overrides", "workspace", "needs", "trust")
VALID = sorted(path.parent for path in HERE.glob("valid/*/cases.json"))
INVALID = sorted(HERE.glob("invalid/*.yaml"))


@pytest.mark.parametrize("folder", VALID, ids=lambda folder: folder.name)
def test_a_valid_cube_means_this_invocation(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder / "home"))
    monkeypatch.setenv("USER", "ada")
    monkeypatch.setenv("SECRET_TOKEN", "swordfish")
    file = folder / "cases.json"
    cases = json.loads(file.read_text())
    found = {name: asked(case) | outcome(name, case, folder) for name, case in cases.items()}
    if UPDATE:
        file.write_text(compact(found))
    assert found == json.loads(file.read_text())


@pytest.mark.parametrize("file", INVALID, ids=lambda file: file.stem)
def test_an_invalid_file_says_exactly_this(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    with pytest.raises(CubeError) as caught:
        read_cube(file.name, overrides=tuple(overrides(file)), strict=True)
    expected = file.with_suffix(".txt")
    if UPDATE:
        expected.write_text(f"{caught.value}\n")
    assert f"{caught.value}\n" == expected.read_text()


def test_the_corpus_is_as_large_as_was_promised() -> None:
    assert (len(VALID) >= 60, len(INVALID) >= 80) == (True, True)


def overrides(file: Path) -> Iterator[str]:
    """What the first line asks for, as in `# cube check -P a.b=c`."""
    first = file.read_bytes().split(b"\n")[0].decode(errors="replace")
    if first.startswith("# cube check "):
        words = shlex.split(first.removeprefix("# cube check "))
        yield from (word for word in words if word != "-P")


def asked(case: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in case.items() if key in ASKED}


def outcome(name: str, case: dict[str, Any], folder: Path) -> dict[str, Any]:
    trust, workspace = case.get("trust", False), case.get("workspace")
    warnings: tuple[Problem, ...] = ()
    try:
        cube, warnings = read_cube(
            case.get("cube", "."), overrides=case.get("overrides", ()), workspace=workspace, trust=trust
        )
        invocation = bind(
            cube,
            case.get("task", name),
            arguments=case.get("arguments", {}),
            workspace=workspace,
            needs=Needs(**case.get("needs", {})),
            run_id="run",
            scratch="/scratch",
        )
        result = described(invocation, cube.root, folder)
        warnings = (*warnings, *invocation.warnings)
    except CubeError as error:
        result = {"error": shown(str(error), None, "", folder).splitlines()}
    told = [str(warning).splitlines() for warning in warnings]
    return result | ({"warnings": told} if told else {})


def described(invocation: Invocation, root: str, folder: Path) -> dict[str, Any]:
    """What as_json() says and some more, without what says nothing."""
    plain = invocation.as_json()
    for word in ("task", "digest"):
        del plain[word]
    for mount in plain["mounts"]:
        mount["source"] = shown(mount["source"], invocation, root, folder)
    plain["mounts"] = [" ".join((mount["access"], mount["source"], "->", mount["target"])) for mount in plain["mounts"]]
    besides = {
        "recipe": invocation.recipe and msgspec.structs.asdict(invocation.recipe),
        "strategy": None if invocation.strategy == "auto" else invocation.strategy,
        "singularity": invocation.singularity,
        "python": invocation.python and msgspec.structs.asdict(invocation.python),
        "copies": [" -> ".join(pair) for pair in invocation.copies],
        "staged": [parameter.staged for parameter in invocation.parameters if parameter.staged],
        "created": [parameter.target for parameter in invocation.parameters if parameter.created],
        "secrets": [f"{each.name} {each.mount or ''} {each.optional}" for each in invocation.secrets],
        "security": invocation.security,
        "raw_arguments": invocation.raw_arguments,
    }
    plain["user"] = None if plain["user"] == "caller" else plain["user"]
    if invocation.python:  # its name follows from all of the code
        plain["image"] = plain["image"].partition(":")[0]
    told = {
        "invocation": {key: value for key, value in plain.items() if value not in (None, [], {})},
        "besides": {key: value for key, value in besides.items() if value},
    }
    if not told["besides"]:
        del told["besides"]
    return json.loads(json.dumps(msgspec.to_builtins(_each(told, invocation, root, folder))))  # type: ignore[no-any-return]


def _each(value: Any, invocation: Invocation, root: str, folder: Path) -> Any:
    match value:
        case dict():
            return {key: _each(inner, invocation, root, folder) for key, inner in value.items()}
        case list() | tuple():
            return [_each(inner, invocation, root, folder) for inner in value]
        case str():
            return shown(value, invocation, root, folder)
        case _:
            return value


def shown(text: str, invocation: Invocation | None, root: str, folder: Path) -> str:
    """Text in which paths of this machine stand as `workspace:`, `cube:`, `~` and `.`."""
    places = [(str(folder / "home"), "~"), (str(folder), ".")]
    if invocation is not None:
        places = [(invocation.workspace, "workspace:"), (root, "cube:"), *places]
    for path, name in places:
        text = text.replace(f"{path}/", name if name.endswith(":") else f"{name}/")
        text = text.replace(path, name)
    return text.replace(str(folder.parent), "..")


def compact(cases: dict[str, Any]) -> str:
    """JSON of which a line says one thing."""

    def lines(value: Any, depth: int) -> str:
        pad = "  " * depth
        whole = json.dumps(value, ensure_ascii=False)
        if not isinstance(value, (dict, list)) or not value or (depth > 1 and len(whole) + len(pad) <= 110):
            return whole
        if isinstance(value, dict):
            inner = [f"{json.dumps(key, ensure_ascii=False)}: {lines(each, depth + 1)}" for key, each in value.items()]
            opened, closed = "{}"
        else:
            inner = [lines(each, depth + 1) for each in value]
            opened, closed = "[]"
        return f"{opened}\n" + ",\n".join(f"{pad}  {each}" for each in inner) + f"\n{pad}{closed}"

    return lines(cases, 0) + "\n"
