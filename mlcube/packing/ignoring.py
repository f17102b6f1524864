"""What of a folder is not published: patterns as in a `.gitignore`, of which the last that matches decides."""

import os
import re
import stat
from collections.abc import Sequence

from mlcube import files
from mlcube.errors import InvalidFile, MissingInput, Position, Problem

__all__ = ["DEFAULTS", "IGNORE_FILE", "SECRETS", "Rules", "read_rules"]

IGNORE_FILE = ".cubeignore"

SECRETS = (
    *(".env", ".env.*", "!.env.example", "!.env.sample", "!.env.template", ".envrc"),
    *(".netrc", "_netrc", ".pgpass", ".pypirc", ".npmrc", ".git-credentials", ".htpasswd", ".vault-token"),
    *(".aws", ".azure", ".gnupg", ".kaggle", ".kube", ".ssh", ".dockercfg", "**/.docker/config.json"),
    *("kaggle.json", "application_default_credentials.json"),
    *("id_rsa", "id_dsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk"),
    *("*.pem", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx", "*.ppk"),
)
"""Of these the names alone say that they are for nobody else."""

DEFAULTS = (
    *(".git", ".hg", ".svn", ".cube", ".venv", "venv", "__pycache__", "*.pyc"),
    *(".tox", ".nox", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".ipynb_checkpoints", ".DS_Store"),
    *("*.cube.part", "/workspace", *SECRETS),
)
"""What is ignored before the cube's own patterns, which can take it back with `!`."""


class Rules:
    """Patterns of a `.gitignore`, and the question whether they mean a path. Weakest first."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._steps: list[tuple[bool, re.Pattern[str]]] = []
        group: list[str] = []
        sign = True
        for pattern in patterns:
            negated, expression = _translated(pattern)
            if expression is None:
                continue
            if group and negated == sign:
                self._add(sign, group)
                group = []
            sign = not negated
            group.append(expression)
        if group:
            self._add(sign, group)
        self._steps.reverse()

    def __call__(self, path: str, directory: bool) -> bool:
        """Whether a path is ignored. What lies below an ignored directory is so too, and is not asked for."""
        text = f"{path}/" if directory else path
        for ignored, pattern in self._steps:
            if pattern.fullmatch(text):
                return ignored
        return False

    def _add(self, ignored: bool, expressions: list[str]) -> None:
        self._steps.append((ignored, re.compile("|".join(expressions), re.DOTALL)))


def read_rules(root: str, *, defaults: Sequence[str] = DEFAULTS) -> Rules:
    """The defaults, then what the `.cubeignore` of a folder says. Raises InvalidFile for what it cannot mean."""
    lines = _lines(os.path.join(root, IGNORE_FILE))
    problems = []
    for number, line in enumerate(lines, 1):
        if "[[:" in line or "[^[:" in line or "[![:" in line:
            where = Position(IGNORE_FILE, number, line.index("[[:" if "[[:" in line else "[") + 1, 3, line)
            message = "classes such as `[[:alpha:]]` are not understood"
            problems.append(Problem(message=message, position=where, hint="write the letters, as in `[A-Za-z]`"))
    if problems:
        raise InvalidFile(tuple(problems))
    return Rules((*defaults, *lines))


def _lines(path: str) -> list[str]:
    """The lines of a `.cubeignore`; none where there is none.

    Raises MissingInput for what is no file of the cube's own: elsewhere a link would lead to something else.
    """
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise MissingInput(
                f"`{path}` is no regular file", hint="write the patterns into the file itself: no link is followed"
            )
        content = files.read_small(path)
        text = content.decode("utf-8-sig")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror.lower() if isinstance(error, OSError) and error.strerror else "it is no UTF-8 text"
        raise MissingInput(f"`{path}` cannot be read: {reason}") from None
    if len(content) >= files.SMALL_BYTES:  # what follows could name secrets
        raise MissingInput(
            f"`{path}` is longer than any list of patterns", hint="a pattern such as `data/` stands for all below it"
        )
    return text.splitlines()


def _translated(line: str) -> tuple[bool, str | None]:
    """Whether a line takes back, and its expression; None when it says nothing."""
    text = _without_trailing_spaces(line)
    if not text or text.startswith("#"):
        return False, None
    negated = text.startswith("!")
    text = text.removeprefix("!") if negated else text
    only_directories = text.endswith("/")
    text = text.removesuffix("/") if only_directories else text
    if not text:
        return negated, None
    anchored = "/" in text
    text = text.removeprefix("/")
    body = _expression(text)
    if body is None:
        return negated, None
    return negated, f"{'' if anchored else '(?:.*/)?'}(?:{body}){'/' if only_directories else '/?'}"


def _without_trailing_spaces(line: str) -> str:
    text = line.rstrip("\r\n")
    stripped = text.rstrip(" ")
    if len(stripped) < len(text) and (len(stripped) - len(stripped.rstrip("\\"))) % 2:
        stripped += " "  # the first of them is escaped
    return stripped


def _expression(text: str) -> str | None:
    """The expression of a pattern without its slashes at both ends; None when it matches nothing."""
    found = ""
    place = 0
    while place < len(text):
        rest = text[place:]
        begins = place == 0 or text[place - 1] == "/"
        if rest.startswith("**/") and begins:
            found += "(?:.*/)?"
            place += 3
        elif rest == "**" and begins:
            found += ".+" if place else ".*"
            place += 2
        elif rest[0] == "*":
            found += "[^/]*"
            place += len(rest) - len(rest.lstrip("*"))
        elif rest[0] == "?":
            found += "[^/]"
            place += 1
        elif rest[0] == "[":
            letters = _letters(rest)
            if letters is None:
                return None
            found += letters[0]
            place += letters[1]
        elif rest[0] == "\\":
            if len(rest) == 1:
                return None
            found += re.escape(rest[1])
            place += 2
        else:
            found += re.escape(rest[0])
            place += 1
    return found


def _letters(text: str) -> tuple[str, int] | None:
    """The expression for `[...]` at the beginning of a text, and its length; None when it has no end."""
    place = 1
    negated = text[1:2] in ("!", "^") and bool(text[1:2])
    place += negated
    ranges: list[str] = []
    first = True
    while True:
        letter, place = _letter(text, place)
        if letter is None:
            return None
        if letter == "]" and not first and text[place - 2] != "\\":
            break
        first = False
        if text[place : place + 1] == "-" and text[place + 1 : place + 2] not in ("]", ""):
            end, place = _letter(text, place + 1)
            if end is None:
                return None
            if letter <= end:
                ranges.append(f"{re.escape(letter)}-{re.escape(end)}")
        else:
            ranges.append(re.escape(letter))
    inside = "".join(ranges)
    if not inside:
        return ("[^/]" if negated else "(?!)"), place
    return (f"(?!/)[^{inside}]" if negated else f"(?!/)[{inside}]"), place


def _letter(text: str, place: int) -> tuple[str | None, int]:
    """The letter at a place, unescaped, and the place after it; None behind the end."""
    if text[place : place + 1] == "\\":
        place += 1
    return (text[place], place + 1) if place < len(text) else (None, place)
