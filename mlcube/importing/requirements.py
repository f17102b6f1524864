"""What other tools say of a Python environment, as the `python:` section of a cube."""

import os.path
import re
from typing import Any

from mlcube.errors import CubeError
from mlcube.importing.draft import Draft, Foreign, invalid
from mlcube.python_versions import lowest_admitted

__all__ = ["conda", "listed", "range_of"]

_NO_PACKAGES = ("pip", "setuptools", "wheel")


def range_of(draft: Draft, written: object) -> str:
    """A range of versions: `3.10` means every 3.10."""
    text = str(written).strip().lstrip("=") if written is not None else ""
    found = re.fullmatch(r"(\d+\.\d+)(?:\.\d+)?(?:\.\*)?", text)
    wanted = f"=={found[1]}.*" if found else (text or ">=3.10")
    try:
        lowest_admitted(wanted)
    except ValueError:
        draft.note(f"Python `{text}` is not known here: `python.version` says `>=3.10`")
        return ">=3.10"
    return wanted


def listed(foreign: Foreign, draft: Draft, lines: object) -> list[str]:
    """Requirements one by one: files that they name are read, each once; options of pip are noted and left out."""
    found: list[str] = []
    read: set[str] = set()
    if not isinstance(lines, list | tuple):
        raise invalid(foreign, "the requirements must be a list of texts", hint='["numpy==2.1.0", "pillow"]')
    rest = list(reversed(lines))  # no recursion: files may name each other without end
    while rest:
        text = re.sub(r"(^|\s)#.*", "", str(rest.pop())).strip()
        if file := re.fullmatch(r"(?:-r|--requirement)[\s=]*(\S+)", text):
            if os.path.normpath(file[1]) in read:
                continue
            read.add(os.path.normpath(file[1]))
            inner = foreign.beside(file[1])
            if inner is None:
                raise CubeError(f"there is no file `{file[1]}` in `{foreign.folder}`", hint="it names the requirements")
            rest += reversed(inner.splitlines())
        elif text.startswith("-"):
            draft.note(f"the option `{text}` of pip was left out")
        elif text:
            found.append(text)
    return list(dict.fromkeys(found))


def conda(foreign: Foreign, draft: Draft, data: Any, name: str) -> tuple[str, list[str]]:
    """The version and the requirements of a conda environment, whose packages are asked of pip by the same names."""
    if not isinstance(data, dict):
        raise invalid(foreign, f"`{name}` is no conda environment", hint="dependencies: [python=3.11, numpy=2.1.0]")
    version, lines = ">=3.10", list[object]()
    packages = data.get("dependencies") or ()
    if not isinstance(packages, list | tuple):
        raise invalid(
            foreign, f"the `dependencies` of `{name}` must be a list", hint="dependencies: [python=3.11, numpy=2.1.0]"
        )
    for package in packages:
        if isinstance(package, dict):
            pip = package.get("pip")
            lines += pip if isinstance(pip, list) else ()
            continue
        label, _, rest = re.sub(r"\s", "", str(package)).rpartition("::")[2].partition("=")
        label, comparison = re.match(r"([^<>!~]*)(.*)", label).groups()  # type: ignore[union-attr]
        wanted = rest.strip("=").partition("=")[0]
        if label == "python":
            version = range_of(draft, comparison or wanted or None)
        elif label not in _NO_PACKAGES:
            lines.append(label + (comparison or (f"=={wanted}" if wanted else "")))
            draft.note("conda's packages are asked of pip by the same names: some have another name there, or none")
    return version, listed(foreign, draft, lines)
