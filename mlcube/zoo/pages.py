"""The pages of a zoo, each one text; everything that a cube says is escaped where it is written."""

import hashlib
import os
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from mlcube.zoo import describing
from mlcube.zoo.cards import renderer
from mlcube.zoo.commands import commands
from mlcube.zoo.drawing import drawing
from mlcube.zoo.entries import Entry, Index, Parameter

__all__ = ["ASSETS", "SITE", "Pages", "of_index", "page_name"]

ASSETS = ("zoo.css", "zoo.js", "icon.svg")
"""Files that all pages share, as they are."""
SITE = os.path.join(os.path.dirname(__file__), "site")

_PLAIN = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?")
_LONGEST_NAME = 80
_KINDS = ("prepare", "train", "infer", "evaluate", "export", "other")


def page_name(entry: Entry) -> str:
    """The page of a cube, relative to the index: its name and version where these are fit for a file's name."""
    plain = f"{entry.name}-{entry.version}" if entry.version else entry.name
    if len(plain) <= _LONGEST_NAME and _PLAIN.fullmatch(plain) and "-" not in (entry.version or ""):
        return f"cubes/{plain}.html"
    shortened = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")[:40]
    identity = hashlib.sha256(repr((entry.name, entry.version)).encode()).hexdigest()[:12]
    return f"cubes/{shortened}-{identity}.html" if shortened else f"cubes/{identity}.html"


class Pages:
    """Renders the pages of one zoo."""

    def __init__(self, index: Index, *, url: str | None = None) -> None:
        import jinja2
        from markupsafe import Markup

        self._index, self._url = index, url
        self._card = renderer()
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(SITE),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters |= {"amount": _amount, "about": _about, "need": _need, "inline": _inline}
        environment.globals["zoo"] = index
        self._cube = environment.get_template("cube.html")
        self._search = environment.get_template("index.html")
        self._all = environment.get_template("all.html")
        self._safe = Markup
        self._versions = {each[0].name: each for each in describing.latest(index.cubes)}

    def search(self) -> str:
        """The page that finds cubes."""
        newest = [group[0] for group in self._versions.values()]
        licences = sorted({each.license for each in newest if each.license}, key=str.casefold)
        kinds = [kind for kind in _KINDS if any(kind in each.kinds for each in newest)]
        platforms = [name for name in describing.PLATFORMS if any(name in each.platforms for each in newest)]
        return str(self._search.render(licences=licences, kinds=kinds, platforms=platforms, count=len(newest)))

    def all(self) -> str:
        """A plain list of links, for who has no script."""
        return str(self._all.render(cubes=[group[0] for group in self._versions.values()]))

    def cube(self, entry: Entry, card: str | None) -> str:
        """The page of one cube."""
        running, more = commands(entry, self._url)
        return str(
            self._cube.render(
                cube=entry,
                card=self._safe(self._card(_without_title(card, entry.name))) if card else None,
                graph=self._safe(drawing(entry.tasks)),
                running=running,
                more=more,
                others=[each for each in self._versions[entry.name] if each is not entry],
            )
        )

    def found(self) -> str:
        """What the search page looks through, as a script: a page that lies in a file may not fetch one."""
        rows = [self._row(group[0]) for group in self._versions.values()]
        text = msgspec.json.encode({"kinds": _KINDS, "platforms": describing.PLATFORMS, "cubes": rows}).decode()
        for letter in "<>&\u2028\u2029":
            text = text.replace(letter, f"\\u{ord(letter):04x}")
        return f"window.zoo = {text};\n"

    @staticmethod
    def _row(entry: Entry) -> tuple[Any, ...]:
        more = [*entry.authors, *(task.name for task in entry.tasks), *entry.tags, entry.repository or ""]
        return (
            entry.name,
            entry.version or "",
            (entry.description or "")[:300],
            entry.license or "",
            [kind for kind in _KINDS if kind in entry.kinds],
            list(entry.platforms),
            int(entry.accelerator == "gpu"),
            entry.page,
            _amount(entry.size) if entry.size else "",
            int(any(each.key for each in entry.signatures)),
            " ".join(dict.fromkeys(more))[:500],
        )


def _without_title(card: str, name: str) -> str:
    """A card without the heading that says what the page's own does."""
    first, _, rest = card.lstrip().partition("\n")
    return rest if first.startswith("# ") and first[2:].strip().casefold() == name.casefold() else card


def _inline(text: str) -> Any:
    """A sentence, in which what stands between backticks is code."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - it is escaped


def _amount(size: float) -> str:
    """Bytes for people."""
    try:
        amount = float(size)
    except OverflowError:
        amount = float("inf")
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def _about(parameter: Parameter) -> str:
    """The limits of a parameter's values, in words."""
    parts = ["optional"] if parameter.optional else []
    if parameter.choices:
        parts.append(f"one of {', '.join(map(str, parameter.choices))}")
    if parameter.minimum is not None and parameter.maximum is not None:
        parts.append(f"{parameter.minimum:g} to {parameter.maximum:g}")
        limits: list[tuple[str, Any]] = [("like", parameter.pattern)]
    else:
        limits = [("at least", parameter.minimum), ("at most", parameter.maximum), ("like", parameter.pattern)]
    parts += [f"{word} {limit:g}" if isinstance(limit, float) else f"{word} {limit}"
              for word, limit in limits if limit is not None]  # fmt: skip
    return ", ".join(parts)


def _need(item: tuple[str, Any]) -> str:
    """A need of a task, in words."""
    name, value = item
    if name.endswith("_bytes") and isinstance(value, int | float):
        return f"{name.removesuffix('_bytes').replace('_', ' ')} {_amount(value)}"
    if name.endswith("_seconds"):
        return f"{name.removesuffix('_seconds').replace('_', ' ')} {value} s"
    shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
    return f"{name.replace('_', ' ')} {shown}"


def of_index(entries: Sequence[Entry], title: str) -> Index:
    """The index of these entries, each of which knows its page."""
    return Index(title=title, cubes=tuple(msgspec.structs.replace(each, page=page_name(each)) for each in entries))
