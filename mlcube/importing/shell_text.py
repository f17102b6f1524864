"""Command lines with places for values, as a script that takes the values from the task's environment.

A cube's task gets its values as `--name=value` and as variables; other tools write them into a command line. The
script that is made here reads the variables, each quoted, so that a value is one word whatever is in it.
"""

import re
from collections.abc import Callable, Mapping

from mlcube.errors import CubeError

__all__ = ["entrypoint", "filled", "growing", "variable"]

_MOST_CHARACTERS = (128 << 10) - 1
"""Linux starts nothing with a longer argument."""


def variable(name: str, direction: str = "INPUT") -> str:
    """The variable that holds a parameter's value in the task's environment."""
    return f"CUBE_{direction}_{re.sub(r'[^A-Za-z0-9]', '_', name).upper()}"


def filled(text: str, places: Mapping[str, Callable[[bool], str]]) -> str:
    """A command line with its places filled.

    Each place is a text that stands in the command line, as `{alpha}` or `[INPUT]`; its function is told whether the
    place stands between double quotes, and gives what the shell is to read there. Between single quotes, where a shell
    reads nothing, the quotes are closed before a place and opened again behind it.

    >>> filled("run '{a}' {a}", {"{a}": lambda quoted: "$A" if quoted else '"$A"'})
    'run \\'\\'"$A"\\'\\' "$A"'
    """
    begins = {each[0] for each in places}
    lengths = sorted({len(each) for each in places}, reverse=True)
    parts: list[str] = []
    quote, at, size = "", 0, 0
    while at < len(text):
        # Looked up by their lengths, the longest first: there may be thousands of places.
        found = (text[at : at + length] for length in lengths) if text[at] in begins else iter(())
        if place := next((each for each in found if each in places), None):
            inner = places[place](quote == '"')
            parts.append(f"'{inner}'" if quote == "'" else inner)
            size = growing(size, parts[-1])
            at += len(place)
            continue
        letter = text[at]
        if letter == "\\" and quote != "'":
            parts.append(text[at : at + 2])
            at += 2
            continue
        if letter == quote:
            quote = ""
        elif not quote and letter in "'\"":
            quote = letter
        parts.append(letter)
        at += 1
    return "".join(parts)


def growing(size: int, text: str) -> int:
    """The size with one more text. Raises CubeError where nothing could be started with a script of that size."""
    if (size := size + len(text)) > _MOST_CHARACTERS:
        raise CubeError("the command line becomes longer than 128 KiB", hint="put it into a script in the image")
    return size


def entrypoint(script: str) -> list[str]:
    """An entrypoint that runs a script; the arguments that follow are the script's own, and it reads none of them."""
    return ["sh", "-c", script, "sh"]
