"""`cube` itself and what it needs as wheels, out of what is installed here: no network, no build."""

import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mlcube.bundling import wheels
from mlcube.errors import CubeError, PreparationFailed

if TYPE_CHECKING:
    from importlib.metadata import Distribution

__all__ = ["collect", "needed", "wheel_of"]

_OWN = "mlcube"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NOT_CARRIED = ("RECORD", "RECORD.jws", "RECORD.p7s", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json")


def collect(folder: str, *, versions: tuple[str, ...] = (), also: tuple[str, ...] = ()) -> list[str]:
    """Write the wheels of `cube` and of what it needs into a folder; gives their paths.

    What is compiled for this Python alone is fetched again for each other of `versions`. Of the packages in `also`
    those are taken that are installed.
    """
    paths: dict[str, str] = {}
    compiled: list[str] = []
    for name, distribution in needed(also).items():
        path = wheel_of(distribution, folder) if distribution else _built(folder)
        paths[name] = path
        if distribution and not path.endswith("-none-any.whl"):
            compiled.append(f"{distribution.metadata['Name']}=={distribution.version}")
    before = set(paths.values())
    for version in versions:
        if compiled and version != wheels.this_version():
            wheels.download("".join(f"{each}\n" for each in compiled), folder, version, dependencies=False)
    return sorted(before | {os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".whl")})


def needed(also: tuple[str, ...] = ()) -> "dict[str, Distribution | None]":
    """Every distribution that `cube` needs here, by name; None for `cube` itself where it is not installed."""
    from importlib.metadata import PackageNotFoundError, distribution

    found: dict[str, Distribution | None] = {}
    todo = [_OWN, *also]
    while todo:
        name = re.sub(r"[-_.]+", "-", todo.pop(0)).lower()
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            if name != _OWN:
                continue  # what it is needed for is not this Python or this system
            found[name] = None
            todo += _requirements_of_the_source()
            continue
        todo += _names((found[name].requires or []) if found[name] else [])  # type: ignore[union-attr]
    return found


def _names(requirements: list[str]) -> Iterator[str]:
    """What is needed without any extra."""
    for requirement in requirements:
        if "extra ==" not in requirement and (match := _NAME.match(requirement)):
            yield match[0]


def wheel_of(distribution: "Distribution", folder: str) -> str:
    """The wheel of an installed distribution: the same files, with a `RECORD` of their own."""
    described = [each.as_posix().split("/")[0] for each in distribution.files or () if each.name == "METADATA"]
    if len(described) != 1:
        raise PreparationFailed(f"`{distribution.metadata['Name']}` was not installed from a wheel")
    stem = described[0].removesuffix(".dist-info")
    tags = re.findall(r"^Tag:\s*(\S+)", distribution.read_text("WHEEL") or "", re.MULTILINE) or ["py3-none-any"]
    path = os.path.join(folder, f"{stem}-{_tag(tags)}.whl")
    scripts = {point.name for point in distribution.entry_points if point.group in ("console_scripts", "gui_scripts")}
    files = dict(_installed(distribution, stem, scripts))
    if _is_editable(files):
        files = {**{each: place for each, place in files.items() if ".dist-info/" in each}, **dict(_own_packages())}
    _write(path, f"{stem}.dist-info", files)
    return path


def _is_editable(files: dict[str, str]) -> bool:
    return not any(name.endswith((".py", ".so", ".pyi")) and not name.startswith("_") for name in files) and any(
        name.endswith(".pth") for name in files
    )


def _tag(tags: list[str]) -> str:
    """`py2.py3-none-any` of `py2-none-any` and `py3-none-any`."""
    columns = zip(*(tag.split("-") for tag in tags), strict=True)
    return "-".join(".".join(dict.fromkeys(column)) for column in columns)


def _installed(distribution: "Distribution", stem: str, scripts: set[str]) -> Iterator[tuple[str, str]]:
    """The files of a distribution: their names in a wheel, and where they lie."""
    for each in distribution.files or ():
        name, place = each.as_posix(), str(each.locate())
        base = os.path.basename(name)
        if "__pycache__/" in name or name.endswith(".pyc") or not os.path.isfile(place):
            continue
        if ".dist-info/" in name and base in _NOT_CARRIED:
            continue
        if not name.startswith(("../", "/")):
            yield name, place
        elif os.path.basename(os.path.dirname(name)) == "bin":
            if base not in scripts:
                yield f"{stem}.data/scripts/{base}", place
        else:
            yield f"{stem}.data/data/{name.lstrip('./')}", place


def _own_packages() -> Iterator[tuple[str, str]]:
    """Our packages where they lie, which for an editable install is the source."""
    from importlib.util import find_spec

    for package in (_OWN, "mlcube_runners"):
        spec = find_spec(package)
        for root in (spec.submodule_search_locations if spec else None) or ():
            for directory, folders, names in os.walk(root):
                folders[:] = sorted(each for each in folders if each != "__pycache__")
                for name in sorted(names):
                    path = os.path.join(directory, name)
                    if not name.endswith(".pyc"):
                        yield f"{package}/{os.path.relpath(path, root)}", path


def _write(path: str, described: str, files: dict[str, str]) -> None:
    import base64
    import hashlib
    import zipfile

    record = []
    try:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:

            def add(name: str, content: bytes, mode: int) -> None:
                member = zipfile.ZipInfo(name)  # of 1980, so that the same files make the same wheel
                member.external_attr = (0o100000 | mode) << 16
                member.compress_type = zipfile.ZIP_DEFLATED
                wheel.writestr(member, content)

            ordered = sorted(files.items(), key=lambda item: (item[0].startswith(described), item[0]))
            for name, place in ordered:
                with open(place, "rb") as file:
                    content = file.read()
                mode = 0o755 if os.stat(place).st_mode & 0o100 else 0o644
                digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
                record.append(f"{_field(name)},sha256={digest},{len(content)}")
                add(name, content, mode)
            record.append(f"{_field(described + '/RECORD')},,")
            add(f"{described}/RECORD", "".join(f"{line}\n" for line in record).encode(), 0o644)
    except OSError as error:
        raise CubeError(f"`{path}` cannot be written: {error.strerror or error}") from error


def _field(name: str) -> str:
    """As `csv` writes it."""
    return '"' + name.replace('"', '""') + '"' if "," in name or '"' in name else name


def _source() -> str:
    import mlcube

    return os.path.dirname(os.path.dirname(os.path.abspath(mlcube.__file__)))


def _requirements_of_the_source() -> list[str]:
    """What `pyproject.toml` beside the package says, where the package was never installed."""
    try:
        with open(os.path.join(_source(), "pyproject.toml"), encoding="utf-8") as file:
            text = file.read()
    except OSError:
        raise PreparationFailed("`cube` is not installed, so that no wheel can be made of it") from None
    listed = re.search(r"^dependencies = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    return list(_names(re.findall(r'"([^"]+)"', listed[1]))) if listed else []


def _built(folder: str) -> str:
    """The wheel of the source."""
    wheels.run_pip("wheel", "--quiet", "--no-deps", "--wheel-dir", folder, _source(), title="building `cube`")
    (name,) = (name for name in os.listdir(folder) if name.startswith("mlcube-"))
    return os.path.join(folder, name)
