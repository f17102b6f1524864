"""`cube zoo`: build a zoo, and the zoos that this machine asks for cubes."""

import os
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import typer

from mlcube.cli import console
from mlcube.cli.arguments import Json
from mlcube.errors import CubeError, MissingInput, UsageError, did_you_mean

EXAMPLE = """\b
Examples:
  cube zoo build examples oci://registry.example/me/digits -o site
  cube zoo add lab https://lab.example.org/zoo
  cube zoo list
  cube zoo show digits
  cube zoo remove lab
"""

Action = Annotated[
    Literal["build", "add", "remove", "list", "show"], typer.Argument(metavar="build|add|remove|list|show")
]
Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[WORD]...",
        help="build SOURCE...: folders, oci://host/repository, or files with one of these in each line; "
        "add NAME URL; remove NAME; list [NAME]; show CUBE[:VERSION]",
    ),
]
Output = Annotated[str | None, typer.Option("-o", "--output", metavar="DIR", help="build: the folder of the site")]
Title = Annotated[str | None, typer.Option("--title", metavar="TEXT", help="build: what the zoo calls itself")]
Url = Annotated[
    str | None, typer.Option("--url", metavar="URL", help="build: where it will be, for the commands on its pages")
]
Key = Annotated[
    list[str] | None,
    typer.Option("--key", metavar="FILE", help="build: a public key; pages say what it has signed"),
]


def command(
    action: Action,
    words: Words = None,
    output: Output = None,
    title: Title = None,
    url: Url = None,
    key: Key = None,
    as_json: Json = False,
) -> int:
    """Build a zoo, a site of plain files that anyone can host; or manage the zoos that cubes come from."""
    words = words or []
    given = {"--output": output, "--title": title, "--url": url, "--key": key}
    if action != "build" and (flag := next((name for name, value in given.items() if value), None)):
        raise UsageError(f"`{flag}` is for `build`", hint="cube zoo build SOURCE... -o site")
    match action:
        case "build":
            return _build(words, output, title or "Zoo", url, key or (), as_json)
        case "add":
            return _add(words, as_json)
        case "remove":
            return _remove(words, as_json)
        case "list":
            return _list(words, as_json)
        case "show":
            return _show(words, as_json)


def _build(
    sources: Sequence[str], output: str | None, title: str, url: str | None, keys: Sequence[str], as_json: bool
) -> int:
    from mlcube.settings import place_problem
    from mlcube.source import read_text
    from mlcube.trust.keys import read_public, require
    from mlcube.zoo.building import build
    from mlcube.zoo.sources import gather

    if not sources:
        raise UsageError("say what the zoo is built of", hint="cube zoo build FOLDER... -o site")
    if output is None:
        raise UsageError("say where the site goes", hint=f"cube zoo build {sources[0]} -o site")
    if url is not None and (problem := place_problem(url)):
        raise UsageError(f"`--url {url}` {problem}", hint="--url https://example.org/zoo")
    if keys:
        require()
    public = [(os.path.basename(path), read_public(read_text(path, path), f"`{path}`")) for path in keys]
    index = build(gather(sources, keys=public, report=console.note), output, title=title, url=url)
    count = len(index.cubes)
    page = os.path.join(output, "index.html")
    console.note(f"{count} cube{'' if count == 1 else 's'}: open {page}, or put the folder where it is served")
    if as_json:
        console.document({"output": os.path.abspath(output), "cubes": count})
    return 0


def _add(words: Sequence[str], as_json: bool) -> int:
    """Looks whether there is a zoo before it is written down."""
    from mlcube.editing import edit
    from mlcube.settings import is_zoo_name, place_problem
    from mlcube.zoo.finding import read_index

    if len(words) != 2:
        raise UsageError("`add` takes a name and an address", hint="cube zoo add lab https://lab.example.org/zoo")
    name, place = words
    if not is_zoo_name(name):
        raise UsageError(f"`{name}` is no name of a zoo", hint="letters, digits, `.`, `_` and `-`")
    if "://" not in place:
        place = os.path.abspath(os.path.expanduser(place))
        if not os.path.exists(place):
            raise MissingInput(f"there is no folder or file `{place}`", hint="an address begins with https://")
    if problem := place_problem(place):
        raise UsageError(f"`{place}` {problem}", hint=f"cube zoo add {name} https://example.org/zoo")
    index = read_index(name, place, console.note)

    def change(data: dict[str, Any]) -> None:
        data["zoos"] = {**(data.get("zoos") or {}), name: place}

    settings = edit(change)
    console.note(f"zoo `{name}` with {_cubes(len(index.cubes))}; settings written to {settings.file}")
    if as_json:
        console.document({"name": name, "place": place, "cubes": len(index.cubes)})
    return 0


def _remove(words: Sequence[str], as_json: bool) -> int:
    from mlcube.editing import edit

    if len(words) != 1:
        raise UsageError("`remove` takes the name of a zoo", hint="cube zoo list")
    (name,) = words

    def change(data: dict[str, Any]) -> None:
        zoos = data.get("zoos") or {}
        if name not in zoos:
            raise UsageError(f"no zoo is named `{name}`", hint=did_you_mean(name, tuple(zoos)))
        data["zoos"] = {each: place for each, place in zoos.items() if each != name}
        if not data["zoos"]:
            del data["zoos"]

    settings = edit(change)
    console.note(f"zoo `{name}` removed; settings written to {settings.file}")
    if as_json:
        console.document({"removed": name})
    return 0


def _list(words: Sequence[str], as_json: bool) -> int:
    """The zoos and how many cubes each has; with names, the cubes of these."""
    from mlcube.settings import read_settings
    from mlcube.zoo.finding import read_index

    zoos = read_settings().zoos
    for name in words:
        if name not in zoos:
            raise UsageError(f"no zoo is named `{name}`", hint=did_you_mean(name, tuple(zoos)) or "cube zoo add")
    if words:
        found = [(name, entry) for name in words for entry in read_index(name, zoos[name], console.note).cubes]
        return show_found(found, as_json)
    plain = []
    for name, place in zoos.items():
        about: dict[str, Any] = {"name": name, "place": place, "title": None, "cubes": None, "problem": None}
        try:
            index = read_index(name, place, console.note)
            about |= {"title": index.title, "cubes": len(index.cubes)}
        except CubeError as error:
            about["problem"] = error.problems[0].message
        plain.append(about)
    if as_json:
        console.document({"zoos": plain})
    elif plain:
        rows = [("ZOO", "CUBES", "PLACE", "TITLE")]
        rows += [
            (each["name"], "?" if each["cubes"] is None else str(each["cubes"]), each["place"],
             each["title"] or f"({each['problem']})")
            for each in plain
        ]  # fmt: skip
        console.table(rows)
    else:
        console.note("no zoo is configured: cube zoo add NAME URL")
    return 0


def show_found(found: Sequence[tuple[str, Any]], as_json: bool) -> int:
    """Cubes of zoos in a table."""
    if as_json:
        import msgspec

        # Of many cubes plain data would take several times the memory of the text.
        encode = msgspec.json.encode
        shown = [msgspec.Raw(encode({"zoo": zoo})[:-1] + b"," + encode(entry)[1:]) for zoo, entry in found]
        console.document({"cubes": shown})
        return 0
    if not found:
        return 0
    rows = [("CUBE", "VERSION", "ZOO", "TASKS", "LICENCE", "WHAT IT IS")]
    rows += [
        (
            entry.name,
            entry.version or "",
            zoo,
            _cut(",".join(task.name for task in entry.tasks), 32),
            entry.license or "",
            _cut(entry.description or "", 72),
        )
        for zoo, entry in found
    ]
    console.table(rows)
    return 0


def _show(words: Sequence[str], as_json: bool) -> int:
    from mlcube.zoo.commands import quoted
    from mlcube.zoo.finding import look_up

    if len(words) != 1:
        raise UsageError("`show` takes the name of a cube", hint="cube zoo show digits")
    name, _, version = words[0].partition(":")
    zoo, entry = look_up(name, version or None, report=console.note)
    if as_json:
        import msgspec

        console.document({"zoo": zoo, **msgspec.to_builtins(entry)})
        return 0
    signed = [each.name or "an unknown key" for each in entry.signatures]
    rows = [
        ("cube", f"{entry.name} {entry.version or ''}".rstrip()),
        ("zoo", zoo),
        ("about", entry.description),
        ("license", entry.license),
        ("authors", ", ".join(entry.authors)),
        ("published", entry.reference or "no: it is only described"),
        ("image", entry.image),
        ("python", entry.python),
        ("bytes", f"{entry.size:,}" if entry.size else None),
        ("platforms", ", ".join(entry.platforms)),
        ("accelerator", entry.accelerator),
        ("signed by", ", ".join(signed) or "nobody"),
        *((f"link {link}", url) for link, url in entry.links.items()),
        *((f"task {task.name}", _parameters(task)) for task in entry.tasks),
        *((each.metric, f"{each.value} {each.unit or ''}".rstrip()) for each in entry.results),
    ]
    console.table([(key, str(value)) for key, value in rows if value])
    line = quoted(["cube", "run", words[0], *(("--task", entry.tasks[0].name) if entry.tasks else ())])
    if entry.reference and line:
        console.note(f"run it: {line}")
    return 0


def _parameters(task: Any) -> str:
    read, write = (" ".join(each.name for each in side) for side in (task.inputs, task.outputs))
    text = f"{read or 'nothing'} -> {write or 'nothing'}"
    return f"{task.description} ({text})" if task.description else text


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _cubes(count: int) -> str:
    return f"{count} cube{'' if count == 1 else 's'}"
