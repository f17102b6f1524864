"""`cube create`: a working new cube out of a template."""

import os
import shlex
from collections.abc import Iterator
from typing import Annotated, Literal

import typer

from mlcube.cli import console
from mlcube.errors import CubeError, UsageError

EXAMPLE = """\b
Examples:
  cube create hello && cd hello && cube run
  cube create models/mnist --template dockerfile
"""

Template = Annotated[
    Literal["python", "dockerfile"],
    typer.Option(
        "--template",
        metavar="TEMPLATE",
        help="`python`: an environment made of requirements; `dockerfile`: an image of your own",
    ),
]


def command(
    path: Annotated[str, typer.Argument(metavar="NAME", help="the new folder; its last part names the cube")],
    template: Template = "python",
) -> int:
    """Create a new cube that runs as it is. Never writes into a folder that holds something."""
    import re

    target = os.path.abspath(os.path.expanduser(path))
    name = os.path.basename(target)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise UsageError(f"`{name}` is no name for a cube", hint="use letters, digits, `-`, `_` and `.`")
    words = {"__NAME__": name, "__IMAGE__": f"local/{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}"}
    written = []
    try:
        if os.path.lexists(target) and not (os.path.isdir(target) and not os.listdir(target)):
            raise UsageError(f"`{path}` is there already", hint="choose another name")
        for inner, text in _files(template):
            for word, value in words.items():
                text = text.replace(word, value)  # noqa: PLW2901 - each word in turn
            file = os.path.join(target, inner)
            os.makedirs(os.path.dirname(file), exist_ok=True)
            with open(file, "x", encoding="utf-8") as new:
                new.write(text)
            written.append(inner)
    except OSError as error:
        raise CubeError(f"`{path}` cannot be written: {(error.strerror or str(error)).lower()}") from None
    console.result(f"created {path}")
    console.note(f"with {', '.join(written)}\ntry it: cd {shlex.quote(path)} && cube run")
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
