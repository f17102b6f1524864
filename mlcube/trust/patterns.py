"""Patterns of names: `*` stands for anything within a part between slashes, `**` for any number of parts."""

import re

from mlcube.trust.spellings import plain_pattern, plain_repository

__all__ = ["matches", "registry_matches"]


def matches(pattern: str, name: str) -> bool:
    """Whether a name is what a pattern says, from its first letter to its last."""
    return re.fullmatch(_expression(plain_pattern(pattern)), name, re.DOTALL) is not None


def registry_matches(pattern: str, repository: str) -> bool:
    """Whether `host[:port]/name` is what a pattern says; a pattern without a slash means all of that host."""
    pattern = plain_repository(pattern if "/" in pattern else f"{pattern}/**", pattern=True)
    return re.fullmatch(_expression(pattern), plain_repository(repository), re.DOTALL) is not None


def _expression(pattern: str) -> str:
    parts = re.split(r"(\*+|\?)", pattern)
    known = {"*": "[^/]*", "**": ".*", "?": "[^/]"}
    return "".join(known.get(part) or (".*" if part.startswith("**") else re.escape(part)) for part in parts)
