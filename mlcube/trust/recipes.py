"""What a recipe of an image takes from elsewhere: all of it must be named by digest for a signature to cover it.

What the commands of a recipe fetch is theirs, as what a task fetches is the task's.
"""

import os
import re
from collections.abc import Iterator, Mapping

__all__ = ["by_digest", "moving_base", "moving_part"]

_IMAGE = re.compile(
    # What engines take for a place on this machine is no name in a registry.
    r"(?:docker://|(?!(?:containers-storage|dir|docker-archive|docker-daemon|oci|oci-archive|sif):))"
    r"(?:[A-Za-z0-9.-]+(?::\d+)?/)?[a-z0-9]+(?:[._/-]+[a-z0-9]+)*(?::\w[\w.-]*)?@sha256:[0-9a-f]{64}"
)
_MOST_BYTES = 1 << 20
_DIRECTIVE = re.compile(r"#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(\S+).*", re.DOTALL)
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::?-([^}]*))?\}|(\w+))")
_FROM = re.compile(r"FROM\s+(?:--\S+\s+)*([^\s-]\S*)(?:\s+AS\s+(\S+))?", re.IGNORECASE)
_ARGUMENT = re.compile(r"([A-Za-z_]\w*)(?:[= ](.*))?", re.DOTALL)
_COPIED_FROM = re.compile(r"(?:^|\s)--from=(\S+)")
_MOUNTED = re.compile(r"(?:^|\s)--mount=(\S+)")
_ELSEWHERE = re.compile(
    r"(?:^|[\s\"'\[,])((?:https?://|git://|ssh://|git@)[^\s\"',]*|\$[^\s\"',]*(?=[\s\"',]+[^\s\"',\]]))"
)
_HEADER = re.compile(r"\s*(bootstrap|from)\s*:\s*(.*?)\s*", re.IGNORECASE)
_BUILDERS = ("BUILDKIT_SYNTAX",)
"""Arguments that name an image which reads the recipe."""


def by_digest(image: str) -> bool:
    """Whether an image of a registry is named by its digest, and not by what may be another tomorrow.

    In an address of another kind a digest may be one that nobody looks at.
    """
    return _IMAGE.fullmatch(image) is not None


def moving_part(path: str, arguments: Mapping[str, str]) -> str | None:
    """The first thing that a Dockerfile takes from elsewhere without its digest; None when there is none.

    Where it is not plain what a builder would understand, it is taken for the worse.
    """
    if path.endswith(".in"):
        return os.path.basename(path)  # Podman has the preprocessor of C read it first
    for name in _BUILDERS:
        if name in arguments and not by_digest(arguments[name]):
            return arguments[name]
    try:
        with open(path, "rb") as file:
            content = file.read(_MOST_BYTES + 1)
        text = content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return os.path.basename(path)
    if len(content) > _MOST_BYTES:
        return os.path.basename(path)
    return next(_moving(text, arguments), None)


def _moving(text: str, arguments: Mapping[str, str]) -> Iterator[str]:
    lines = [line.rstrip("\r") for line in text.split("\n")]
    escape = "\\"
    for line in lines:
        if not (directive := _DIRECTIVE.match(line.strip())):
            break
        if directive[1].lower() == "escape":
            escape = directive[2]
        elif directive[1].lower() == "syntax" and not by_digest(directive[2]):
            yield directive[2]
    reading = _Reading(arguments)
    for line in _instructions(lines, escape):
        yield from reading.moving(line)


def _instructions(lines: list[str], escape: str) -> Iterator[str]:
    """Continued lines as one; comments and, within one, empty lines are left out."""
    whole = ""
    for line in lines:
        if line.lstrip().startswith("#") or not line.strip():
            continue
        found = re.fullmatch(rf"(.*){re.escape(escape)}[ \t]*", line, re.DOTALL)
        whole += found[1] if found else line
        if not found:
            yield whole.strip()
            whole = ""
    if whole.strip():
        yield whole.strip()


class _Reading:
    """The instructions of a Dockerfile, one after the other."""

    def __init__(self, arguments: Mapping[str, str]) -> None:
        self._given = arguments
        self._values: dict[str, str] = {}
        self._before: dict[str, str] | None = None
        """Those of arguments before the first stage: a later `FROM` knows no others."""
        self._stages: list[str] = []

    def moving(self, line: str) -> Iterator[str]:
        """What an instruction takes from elsewhere without its digest."""
        word, *others = line.split(maxsplit=1)
        word, rest = word.upper(), "".join(others)
        if word == "ONBUILD" and rest:
            yield from self.moving(rest)
        elif word in ("ARG", "ENV"):
            self._set(word, rest)
        elif word == "FROM":
            if (found := _FROM.fullmatch(line)) is None:
                return  # a line of a here-document, which is for its command
            self._before = dict(self._values) if self._before is None else self._before
            if found[1] != "scratch" and (image := self._moving_image(found[1], self._before)):
                yield image
            self._stages.append((found[2] or "").lower())
        elif word in ("COPY", "ADD", "RUN"):
            sources = [found[1] for found in _COPIED_FROM.finditer(rest)] if word != "RUN" else []
            for mount in _MOUNTED.finditer(rest) if word == "RUN" else ():
                sources += [part[5:] for part in mount[1].split(",") if part.lower().startswith("from=")]
            yield from (image for each in sources if (image := self._moving_image(each, self._values)))
            if word == "ADD" and "--checksum=sha256:" not in rest:
                yield from (found[1] for found in _ELSEWHERE.finditer(_expanded(rest, self._values)))

    def _set(self, word: str, rest: str) -> None:
        if not (found := _ARGUMENT.fullmatch(rest.strip())):
            return
        name, value = found[1], (found[2] or "").strip("\"'")
        if word == "ARG" and name in self._given:
            self._values[name] = self._given[name]
        elif value or name not in self._values:
            self._values[name] = _expanded(value, self._values)

    def _moving_image(self, written: str, values: Mapping[str, str]) -> str | None:
        image = _expanded(written.strip("\"'"), values)
        stage = image.lower() in self._stages or (image.isdigit() and int(image) < len(self._stages))
        return None if stage or by_digest(image) else image or written


def _expanded(text: str, values: Mapping[str, str]) -> str:
    """With the values of arguments; what has none stays, and is no digest."""
    return _VARIABLE.sub(lambda found: values.get(found[1] or found[3]) or (found[2] or found[0]), text)


def moving_base(path: str) -> str | None:
    """The first thing that a definition of Apptainer begins with, without its digest; None when there is none."""
    try:
        with open(path, "rb") as file:
            lines = file.read(_MOST_BYTES).decode().split("\n")
    except (OSError, UnicodeDecodeError):
        return os.path.basename(path)
    headers = [found for line in lines if (found := _HEADER.fullmatch(line))]
    for header in headers:
        fits = by_digest(header[2]) if header[1].lower() == "from" else header[2].lower() == "docker"
        if not fits:
            return header[2] or os.path.basename(path)
    return None if any(header[1].lower() == "from" for header in headers) else os.path.basename(path)
