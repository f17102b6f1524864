"""Where a zoo's cubes come from: folders, registries, and lists of both."""

import os
import re
from collections.abc import Callable, Iterator, Sequence

import msgspec

from mlcube.errors import InvalidFile, MissingInput, Position, Problem, UsageError
from mlcube.source import read_text
from mlcube.trust.keys import PublicKey
from mlcube.zoo.entries import Entry

__all__ = ["CARD_BYTES", "Described", "Keys", "gather"]

CARD_BYTES = 256 << 10
"""A longer card is cut."""
_MOST_PROBLEMS = 20
_COMMENT = re.compile(r"(^|(?<=\s))#.*")
"""A `#` within a word, as in a folder's name, begins none."""

Keys = Sequence[tuple[str, PublicKey]]


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """A cube that will be in the index."""

    entry: Entry
    source: str
    """What messages call it."""
    card: str | None = None
    """Its README."""


def gather(
    sources: Sequence[str],
    *,
    keys: Keys = (),
    report: Callable[[str], None] = lambda _text: None,
    check: Callable[[], None] = lambda: None,
) -> tuple[Described, ...]:
    """Every cube of the sources, by name, the newest version of each first.

    A source is a cube's folder, a folder of such folders, `oci://host/repository`, or a file with a source in each
    line. Raises InvalidFile with the problems of all cubes that are none.
    """
    from mlcube.zoo.folders import describe_folder
    from mlcube.zoo.registries import describe_repository
    from mlcube.zoo.versions import order

    found: list[Described] = []
    problems: list[Problem] = []
    for source, place in _unfolded(sources):
        check()
        try:
            if source.startswith("oci://"):
                found += describe_repository(source, keys=keys, report=report, check=check)
            else:
                found.append(describe_folder(source))
        except InvalidFile as error:
            problems += [problem for problem in error.problems if problem.severity == "error"]
        except (MissingInput, UsageError) as error:
            if place is None:
                raise
            problems += [msgspec.structs.replace(each, position=place) for each in error.problems]
    if problems:
        raise InvalidFile(tuple(problems[:_MOST_PROBLEMS]))
    found = list({(each.entry.reference or each.source): each for each in found}.values())
    if twice := _twice(found):
        raise InvalidFile(tuple(twice[:_MOST_PROBLEMS]))
    found.sort(key=lambda each: order(each.entry.version), reverse=True)
    found.sort(key=lambda each: (each.entry.name.casefold(), each.entry.name))
    return tuple(found)


def _unfolded(sources: Sequence[str]) -> Iterator[tuple[str, Position | None]]:
    """Each cube or repository, and the line of a list that names it."""
    for source in sources:
        if source.startswith("oci://") or os.path.isdir(source):
            yield from ((each, None) for each in _cubes(source))
        elif os.path.isfile(source):
            yield from _listed(source)
        else:
            raise MissingInput(
                f"there is no folder or list `{source}`", hint="a source is a folder, a list, or oci://host/repository"
            )


def _listed(path: str) -> Iterator[tuple[str, Position | None]]:
    """The sources in the lines of a file; folders are relative to it."""
    if os.path.basename(path).endswith((".yaml", ".yml", ".json")):
        folder = os.path.dirname(path) or "."
        raise UsageError(f"`{path}` is no list of sources", hint=f"name the cube's folder: {folder}")
    for number, line in enumerate(read_text(path, path).splitlines(), 1):
        text = _COMMENT.sub("", line).strip()
        if not text:
            continue
        place = Position(path, number, line.index(text) + 1, len(text), line)
        if text.startswith("oci://"):
            yield text, place
            continue
        folder = os.path.join(os.path.dirname(path), os.path.expanduser(text))
        if not os.path.isdir(folder):
            problem = Problem(message=f"there is no folder `{text}`", position=place, hint="relative to the list")
            raise InvalidFile((problem,))
        yield from ((each, place) for each in _cubes(folder))


def _cubes(source: str) -> Iterator[str]:
    """The source itself, or the cubes in it."""
    from mlcube.zoo.folders import cubes_in

    if source.startswith("oci://"):
        yield source
        return
    cubes = cubes_in(source)
    if not cubes:
        raise MissingInput(
            f"`{source}` is no cube, and no folder in it is one", hint="a cube is a folder with an mlcube.yaml"
        )
    yield from cubes


def _twice(found: Sequence[Described]) -> list[Problem]:
    """Names and versions that would not tell which cube is meant."""
    seen: dict[tuple[str, str | None], Described] = {}
    problems = []
    for each in found:
        key = (each.entry.name, each.entry.version)
        other = seen.setdefault(key, each)
        if other is not each:
            name = f"{key[0]} {key[1] or ''}".rstrip()
            problems.append(
                Problem(
                    message=f"`{name}` is both `{other.source}` and `{each.source}`",
                    hint="give one of them another name or version, or leave one out",
                )
            )
    return problems
