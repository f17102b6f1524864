"""`cube search`: cubes in the zoos of this machine, by words."""

from typing import Annotated

import typer

from mlcube.cli import console
from mlcube.cli.arguments import Json

EXAMPLE = """\b
Examples:
  cube search digits
  cube search segmentation gpu
"""

Words = Annotated[
    list[str] | None, typer.Argument(metavar="[WORD]...", help="all of them occur; without a word, every cube")
]


def command(words: Words = None, as_json: Json = False) -> int:
    """Search the zoos that `cube zoo add` made known: names, descriptions, tasks, licences, authors, platforms."""
    from mlcube.cli.zoo import show_found
    from mlcube.zoo.finding import search

    found = search(words or (), report=console.note)
    if not found and not as_json:
        console.note("no cube is like that")
    return show_found(found, as_json)
