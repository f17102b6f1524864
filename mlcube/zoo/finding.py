"""Finds cubes in the zoos of this machine's settings, by name and by words."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import msgspec

from mlcube.errors import CubeError, MissingInput, Unreachable, UsageError, closest, did_you_mean
from mlcube.settings import read_settings
from mlcube.zoo.decoding import decoded
from mlcube.zoo.entries import Entry, Index
from mlcube.zoo.fetching import fetch, path_of
from mlcube.zoo.versions import matching

__all__ = ["Found", "configured", "entries", "find", "look_up", "read_index", "search"]

_REFERENCE = re.compile(r"oci://[A-Za-z0-9.:\[\]_/-]+@sha256:[0-9a-f]{64}")


def _nobody(_text: str) -> None:
    """Nobody is told."""


class _Brief(msgspec.Struct, frozen=True):
    """What of an entry tells whether it is the one: the rest need not be read to run a cube."""

    name: str
    version: str | None = None
    reference: str | None = None
    tags: tuple[str, ...] = ()


class _Names(msgspec.Struct, frozen=True):
    """An index, as far as names go."""

    format: str
    schema: int
    cubes: tuple[_Brief, ...]


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A cube that a zoo knows."""

    zoo: str
    """The name of the zoo."""
    reference: str
    """`oci://host/repository@sha256:...`."""
    name: str
    version: str | None = None


def find(name: str, version: str | None = None, *, report: Callable[[str], None] = _nobody) -> Found:
    """The published cube that `name`, `zoo/name` or `group/name` means, in the first zoo that knows the name.

    Without a version it is the newest; `1.2` is also the newest of `1.2.*`, and a tag. A zoo that cannot be asked is
    not passed over, as another one could know something else by that name.

    Raises MissingInput when no zoo knows it, Unreachable when one does not answer, Damaged for what is no index.
    """
    known: list[str] = []
    for zoo, place, wanted in _asked(name):
        index = decoded(f"the zoo `{zoo}`", fetch(zoo, place, report), _Names, path=path_of(place))
        mine = [each for each in index.cubes if _means(wanted, each.name, each.reference)]
        if not mine:
            known += [each.name for each in index.cubes]
            continue
        return _published(zoo, wanted, _chosen(zoo, wanted, version, mine))
    raise _unknown(name, known)


def look_up(name: str, version: str | None = None, *, report: Callable[[str], None] = _nobody) -> tuple[str, Entry]:
    """The zoo and all that it says of a cube, published or not; as `find` otherwise."""
    known: list[str] = []
    for zoo, place, wanted in _asked(name):
        index = read_index(zoo, place, report)
        mine = [each for each in index.cubes if _means(wanted, each.name, each.reference)]
        if mine:
            return zoo, _chosen(zoo, wanted, version, mine)
        known += [each.name for each in index.cubes]
    raise _unknown(name, known)


def search(words: Sequence[str], *, report: Callable[[str], None] = _nobody) -> tuple[tuple[str, Entry], ...]:
    """The zoos and newest versions of all cubes in which every word occurs, best first. No word: all of them.

    A zoo that cannot be asked is told of and passed over.
    """
    tokens = [word for text in words for word in text.casefold().split()]
    ranked = []
    for zoo, index in entries(report=report):
        seen: set[str] = set()
        for entry in index.cubes:
            if entry.name in seen:
                continue
            seen.add(entry.name)
            if rank := _fit(entry, tokens):
                ranked.append((rank, zoo, entry))
    ranked.sort(key=lambda each: -each[0])
    return tuple((zoo, entry) for _, zoo, entry in ranked)


def _fit(entry: Entry, tokens: Sequence[str]) -> int:
    """How well a cube fits: 0 not at all, 1 somewhere, 2 in its description, 3 in its name, 4 at its beginning."""
    name, about = entry.name.casefold(), (entry.description or "").casefold()
    rest = [entry.license or "", entry.version or "", entry.accelerator, *entry.authors, *entry.platforms, *entry.tags]
    rest += [word for task in entry.tasks for word in (task.name, task.kind)]
    more = " ".join([*rest, entry.repository or ""]).casefold()
    worst = 4
    for token in tokens:
        place = name.find(token)
        here = 4 if place == 0 else 3 if place > 0 else 2 if token in about else 1 if token in more else 0
        worst = min(worst, here)
    return worst


def entries(*, report: Callable[[str], None] = _nobody) -> Iterator[tuple[str, Index]]:
    """Each zoo that can be asked, and its index."""
    for zoo, place in configured().items():
        try:
            yield zoo, read_index(zoo, place, report)
        except CubeError as error:  # noqa: PERF203 - each in turn
            report(f"{error.problems[0].message}; it is passed over")


def configured() -> Mapping[str, str]:
    """The zoos of the settings. Raises MissingInput when there are none."""
    zoos = read_settings().zoos
    if not zoos:
        raise MissingInput("no zoo is configured", hint="cube zoo add NAME URL")
    return zoos


def read_index(zoo: str, place: str, report: Callable[[str], None] = _nobody) -> Index:
    """The index of a zoo."""
    return decoded(f"the zoo `{zoo}`", fetch(zoo, place, report), Index, path=path_of(place))


def _asked(name: str) -> Iterator[tuple[str, str, str]]:
    """The zoos to ask in their order, and for which name: `zoo/name` asks that zoo alone."""
    zoos = configured()
    first, slash, rest = name.partition("/")
    if slash and first in zoos:
        yield first, zoos[first], rest
        return
    yield from ((zoo, place, name) for zoo, place in zoos.items())


def _means(wanted: str, name: str, reference: str | None) -> bool:
    """Whether a name means a cube: its own name, or with a slash the end of its repository's."""
    if wanted == name:
        return True
    if "/" not in wanted or not reference:
        return False
    repository = reference.removeprefix("oci://").partition("@")[0]
    return repository.partition("/")[2] == wanted or repository.endswith(f"/{wanted}")


_Either = TypeVar("_Either", _Brief, Entry)


def _chosen(zoo: str, name: str, version: str | None, mine: Sequence[_Either]) -> _Either:
    names = {each.name for each in mine}
    if len(names) > 1:
        raise UsageError(
            f"`{name}` means several cubes in the zoo `{zoo}`: {', '.join(f'`{each}`' for each in sorted(names)[:5])}"
        )
    if version is not None and (tagged := [each for each in mine if version in each.tags]):
        exact = [each for each in mine if each.version == version]
        return (exact or tagged)[0]
    try:
        meant = matching(version, [each.version for each in mine])
    except LookupError:
        known = tuple(dict.fromkeys(each.version for each in mine if each.version))
        raise MissingInput(
            f"the zoo `{zoo}` has no version {version} of `{name}`",
            hint=f"versions: {', '.join(known[:10])}" if known else "it has one without a version",
        ) from None
    return next(each for each in mine if each.version == meant)


def _published(zoo: str, name: str, entry: _Brief) -> Found:
    if entry.reference is None:
        raise MissingInput(
            f"the zoo `{zoo}` describes `{name}`, but does not say where it is published",
            hint=f"`cube zoo show {zoo}/{name}` tells who made it; another zoo's is run as ZOO/{name}",
        )
    if not _REFERENCE.fullmatch(entry.reference):
        raise Unreachable(f"the zoo `{zoo}` says that `{name}` lies at `{entry.reference[:200]}`, which is no digest")
    return Found(zoo=zoo, reference=entry.reference, name=entry.name, version=entry.version)


def _unknown(name: str, known: Sequence[str]) -> CubeError:
    """The error for a name among none of those that the zoos know which were asked."""
    zoos, names = tuple(configured()), tuple(dict.fromkeys(known))[:5000]
    first, slash, rest = name.partition("/")
    if slash and first in zoos:
        meant = closest(rest, names)
        hint = f"did you mean `{first}/{meant}`?" if meant else f"cube zoo list {first}"
        return MissingInput(f"the zoo `{first}` knows no `{rest}`", hint=hint)
    if slash and (near := closest(first, zoos)) and (meant := rest if rest in names else closest(rest, names)):
        return MissingInput(f"no zoo is named `{first}`", hint=f"did you mean `{near}/{meant}`?")
    if slash and rest in names:
        return MissingInput(f"no zoo knows `{name}`", hint=f"did you mean `{rest}`?")
    return MissingInput(f"no zoo knows `{name}`", hint=did_you_mean(name, names) or f"cube search {rest or first}")
