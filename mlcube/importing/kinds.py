"""Which tool a file belongs to, and what reads it."""

import os.path
import re
from collections.abc import Callable
from importlib import import_module

from mlcube.errors import UsageError
from mlcube.importing.draft import Draft, Foreign, text_of
from mlcube.source import Document

__all__ = ["KINDS", "convert", "kind_of"]

KINDS = {
    "cog.yaml": "cog",
    "MLproject": "mlproject",
    "Dockerfile": "dockerfile",
    "boutiques.json": "boutiques",
    "container_config.yaml": "medperf",
}
"""Names that files of other tools usually have, and the module that reads each."""


def kind_of(path: str) -> str | None:
    """The kind of a file, by its name, or else by what it says; None for one that is not known."""
    name = os.path.basename(path)
    if name in KINDS:
        return KINDS[name]
    lowered = name.lower()
    if lowered.startswith("dockerfile") or lowered.endswith((".dockerfile", "containerfile")):
        return "dockerfile"
    text = text_of(path, path)
    if lowered.endswith(".json"):
        return "boutiques" if '"command-line"' in text else None
    if lowered.endswith((".yaml", ".yml")) or "." not in name:
        data = Document.from_yaml(text, path).data
        keys = data.keys() if isinstance(data, dict) else ()
        for key, kind in (("container_type", "medperf"), ("entry_points", "mlproject"), ("predict", "cog")):
            if key in keys:
                return kind
    return None


def convert(path: str) -> Draft:
    """The cube file that a file of another tool amounts to.

    Raises UsageError for a file that is not there or is of no known kind, and InvalidFile for what it cannot mean.
    """
    if os.path.isdir(path):
        found = [name for name in KINDS if os.path.isfile(os.path.join(path, name))]
        if len(found) != 1:
            named = " or ".join(f"--from {os.path.join(path, name)}" for name in found)
            what = (
                f"holds several files of other tools: {', '.join(found)}" if found else "holds no file of another tool"
            )
            raise UsageError(f"`{path}` {what}", hint=named or f"known: {', '.join(KINDS)}")
        path = os.path.join(path, found[0])
    if not os.path.isfile(path):
        raise UsageError(f"there is no file `{path}`", hint=f"name one of {', '.join(KINDS)}")
    kind = kind_of(path)
    if kind is None:
        raise UsageError(f"`{path}` is of no kind that is known here", hint=f"known: {', '.join(KINDS)}")
    text = text_of(path, path)
    if kind == "boutiques":
        text = _whole_characters(text)
    document = (
        Document(path, None, lines=tuple(text.splitlines())) if kind == "dockerfile" else Document.from_yaml(text, path)
    )
    reader: Callable[[Foreign], Draft] = import_module(f"mlcube.importing.{kind}").draft
    return reader(Foreign(path=path, document=document, text=text))


def _whole_characters(text: str) -> str:
    r"""JSON with each character that is written in two halves, as `\ud83d\ude00` is, itself: YAML knows no halves."""
    import json

    half = r"\\u[dD]{}[0-9a-fA-F]{{2}}"
    pair = re.compile(rf"(?<!\\)((?:\\\\)*)({half.format('[89abAB]')}{half.format('[c-fC-F]')})")
    return pair.sub(lambda found: found[1] + json.loads(f'"{found[2]}"'), text)
