"""`cube create`: a working new cube out of a template, or out of what another tool knows of a model."""

import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Annotated, Any, Literal

import typer

from mlcube.cli import console
from mlcube.errors import CubeError, UsageError

EXAMPLE = """\b
Examples:
  cube create hello && cd hello && cube run
  cube create models/mnist --template dockerfile
  cube create --from my-model/cog.yaml
"""

Template = Annotated[
    Literal["python", "dockerfile"],
    typer.Option(
        "--template",
        metavar="TEMPLATE",
        help="`python`: an environment made of requirements; `dockerfile`: an image of your own",
    ),
]


Path = Annotated[str | None, typer.Argument(metavar="[NAME]", help="the new folder; its last part names the cube")]
From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="FILE",
        help="a cog.yaml, MLproject, Dockerfile, boutiques.json or container_config.yaml: the cube is made beside it",
    ),
]


def command(path: Path = None, template: Template = "python", source: From = None) -> int:
    """Create a new cube that runs as it is. Nothing that is there is ever written over."""
    if source is not None:
        if path is not None:
            hint = f"cube create --from {shlex.quote(source)}"
            raise UsageError("`--from` makes the cube beside the file, and takes no name", hint=hint)
        return _converted(os.path.expanduser(source))
    if path is None:
        raise UsageError("the new cube needs a name", hint="cube create my-model")
    return _from_template(path, template)


def _converted(source: str) -> int:
    """The cube file, what it needs beside it, and notes in it and on stderr. All of it, or nothing."""
    from mlcube.editing import as_yaml
    from mlcube.importing import convert
    from mlcube.reading import read_cube

    shown = (source if os.path.isdir(source) else os.path.dirname(source)) or "."
    folder = os.path.abspath(shown)
    draft = convert(source)
    heading = [_comment(f"Written by `cube create --from {os.path.basename(source)}`.")]
    heading += [_comment(f"- {line}") for line in draft.notes]
    files = {"mlcube.yaml": "\n".join([*heading, as_yaml(_literal(draft.data))]), **draft.files}
    for name in files:
        _refuse_what_is_there(folder, name)
    with _written(folder, files):
        read_cube(folder, strict=True)
    console.result(f"created {os.path.join(shown, 'mlcube.yaml')}")
    if draft.files:
        console.note(f"with {', '.join(draft.files)}")
    for note in draft.notes:
        console.note(f"note: {note}")
    task = next(iter(draft.data["tasks"]))
    console.note(f"try it: cube run --mlcube {shlex.quote(shown)} --task {task}")
    return 0


def _refuse_what_is_there(folder: str, name: str) -> None:
    """A new file replaces nothing, and comes into no folder that lies elsewhere."""
    *above, _ = name.split("/")
    for end in range(1, len(above) + 1):
        if os.path.islink(place := os.path.join(folder, *above[:end])):
            raise UsageError(f"`{place}` is a link, and new files belong there", hint="move it away")
    if os.path.lexists(path := os.path.join(folder, name)):
        raise UsageError(f"`{path}` is there already", hint="move it away, or change it by hand")


def _comment(text: str) -> str:
    """A line of YAML that says nothing to a program, whatever the other file wrote into the text."""
    shown = (each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
    return f"# {''.join(shown)}"


def _literal(data: Any) -> Any:
    """The same data where `${` refers to nothing, as in a script. Raises CubeError for what no file can hold."""
    from mlcube.importing import held
    from mlcube.layers import literal

    if isinstance(data, dict):
        return {_literal(key): _literal(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_literal(value) for value in data]
    if not held(data):
        shown = str(data).encode(errors="backslashreplace").decode()
        hint = "write another in the file, or give the file another name"
        raise CubeError(f"`{shown}` is no value that a cube file can hold", hint=hint)
    return literal(data) if isinstance(data, str) else data


@contextmanager
def _written(root: str, texts: Mapping[str, str]) -> Iterator[None]:
    """Write files that are not there yet; an error, also in the context, leaves none of them, nor of their folders."""
    made: list[str] = []
    try:
        for name, text in texts.items():
            path = os.path.join(root, name)
            try:
                _make_folder(os.path.dirname(path), made)
                with open(path, "x", encoding="utf-8") as new:
                    made.append(path)
                    new.write(text)
            except OSError as error:
                raise CubeError(f"`{path}` cannot be written: {(error.strerror or str(error)).lower()}") from None
        yield
    except BaseException:
        for each in reversed(made):
            with suppress(OSError):
                (os.rmdir if os.path.isdir(each) else os.unlink)(each)
        raise


def _make_folder(path: str, made: list[str]) -> None:
    if not os.path.isdir(path):
        _make_folder(os.path.dirname(path), made)
        os.mkdir(path)
        made.append(path)


def _from_template(path: str, template: str) -> int:
    import re

    target = os.path.abspath(os.path.expanduser(path))
    name = os.path.basename(target)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise UsageError(f"`{name}` is no name for a cube", hint="use letters, digits, `-`, `_` and `.`")
    words = {"__NAME__": name, "__IMAGE__": f"local/{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}"}
    try:
        if os.path.lexists(target) and not (os.path.isdir(target) and not os.listdir(target)):
            raise UsageError(f"`{path}` is there already", hint="choose another name")
    except OSError as error:
        raise CubeError(f"`{path}` cannot be written: {(error.strerror or str(error)).lower()}") from None
    texts = dict(_files(template))
    for word, value in words.items():
        texts = {inner: text.replace(word, value) for inner, text in texts.items()}
    with _written(target, texts):
        pass
    console.result(f"created {path}")
    console.note(f"with {', '.join(texts)}\ntry it: cd {shlex.quote(path)} && cube run")
    return 0


def _files(template: str) -> Iterator[tuple[str, str]]:
    """The template's files, by their place in the cube."""
    import mlcube

    root = os.path.join(os.path.dirname(mlcube.__file__), "templates", template)
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(each for each in folders if each != "__pycache__")
        for name in sorted(names):
            path = os.path.join(folder, name)
            with open(path, encoding="utf-8") as file:
                yield os.path.relpath(path, root), file.read()
