"""What a lock holds, found out: images on platforms and in registries, inputs, requirements with their hashes."""

import os
import re
from collections.abc import Callable, Iterable, Iterator

from mlcube import oci
from mlcube.checksum import checksum
from mlcube.cube import Cube
from mlcube.errors import CubeError, UsageError
from mlcube.invocation import Invocation
from mlcube.pinning.lockfile import LockedData, LockedImage, Requirements, digest_of_requirements
from mlcube.platforms import Platform
from mlcube.runner import Host

__all__ = [
    "base_digest",
    "bases_of",
    "data_of",
    "digest_of_file",
    "image_of",
    "missing_data",
    "requirements_of",
    "source_of",
]

_FROM = re.compile(r"^\s*FROM\s+(?:--\S+\s+)*(\S+)(?:\s+AS\s+(\S+))?\s*$", re.IGNORECASE)
_ARGUMENT = re.compile(r"^\s*ARG\s+([A-Za-z_]\w*)(?:=(\S*))?\s*$", re.IGNORECASE)
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::-([^}]*))?\}|(\w+))")
_SECONDS = 600.0
_PATIENCE_SECONDS = 3.0
_EXACT = re.compile(r"[A-Za-z0-9][\w.-]*(?:\[[^\]]*\])?==\S+")


def digest_of_file(cube: Cube) -> str:
    """Of the cube's file as it lies there."""
    with open(cube.file, "rb") as file:
        return oci.digest_of(file.read())


def source_of(cube: Cube) -> str | None:
    """Of the Python code that runs."""
    from mlcube.workspace import source_digest

    if cube.python is None:
        return None
    return f"sha256:{source_digest(cube.python.source, cube.python.excluded)}"


def data_of(
    cube: Cube, workspace: str | None, tasks: Iterable[str], check: Callable[[], None] = lambda: None
) -> dict[str, LockedData]:
    """The inputs that tasks declare and that are there, except what other tasks write.

    What the workspace lacks and the cube brings along counts as there: a run copies it from there.
    """
    found: dict[str, LockedData] = {}
    known: dict[str, LockedData] = {}
    for name, path, place in _inputs(cube, workspace, tasks):
        if place is None:
            continue
        if path not in known:
            total = checksum(os.path.realpath(place), check)
            known[path] = LockedData(path=path, sha256=total.sha256, bytes=total.bytes, files=total.files)
        found[name] = known[path]
    return found


def missing_data(cube: Cube, workspace: str | None, tasks: Iterable[str]) -> dict[str, str]:
    """Where those inputs would lie that tasks need and that are nowhere yet, by `task.parameter`."""
    optional = {
        f"{task.name}.{parameter.name}"
        for task in cube.tasks.values()
        for parameter in task.inputs
        if parameter.optional
    }
    return {
        name: path for name, path, place in _inputs(cube, workspace, tasks) if place is None and name not in optional
    }


def _inputs(cube: Cube, workspace: str | None, tasks: Iterable[str]) -> Iterator[tuple[str, str, str | None]]:
    """Of each input that no task writes: `task.parameter`, its path, and where it is found. None: nowhere."""
    internal = cube.internal_workspace
    root = os.path.abspath(os.path.expanduser(workspace)) if workspace else internal
    written = {
        os.path.normpath(str(output.default or output.name)) for task in cube.tasks.values() for output in task.outputs
    }
    for name in tasks:
        for parameter in cube.tasks[name].inputs:
            path = os.path.normpath(str(parameter.default if parameter.default is not None else parameter.name))
            if parameter.scalar or _within(path, written):
                continue
            expanded = os.path.expanduser(path)
            places = [os.path.join(root, expanded)]
            if not os.path.isabs(expanded) and not path.startswith(".."):
                places.append(os.path.join(internal, expanded))
            place = next((each for each in places if os.path.exists(each)), None)
            yield f"{name}.{parameter.name}", path, place


def image_of(platform: Platform, host: Host, invocation: Invocation) -> LockedImage | None:
    """The image or environment that a platform would use; None when it is not there."""
    from mlcube.asking import ask

    fact = platform.runner.identify(invocation, host)
    identity = fact.parse(ask(fact.argv)) if fact else None
    if identity is None:
        return None
    digests = sorted(text.rpartition("@")[2] for text in identity.get("digests") or ())
    asked = (invocation.image or "").rpartition("@")[2]
    digest = asked if asked in digests else digests[0] if digests else None
    return LockedImage(reference=invocation.image, id=identity["id"], digest=digest)


def bases_of(cube: Cube) -> tuple[str, ...]:
    """The images that a cube's own is built on, as its Dockerfile or its Python section names them."""
    found: dict[str, None] = {}
    if cube.python is not None:
        if cube.python.image is not None:
            found[cube.python.image] = None
    elif cube.image is not None and cube.image.recipe is not None and cube.image.strategy != "pull":
        try:
            with open(cube.image.recipe.file, encoding="utf-8", errors="replace") as file:
                text = file.read(1 << 20)
        except OSError:
            return ()
        stages: set[str] = set()
        values = {}
        for line in text.replace("\\\n", " ").splitlines():
            if argument := _ARGUMENT.match(line):
                name = argument[1]
                values[name] = str(cube.image.recipe.arguments.get(name, argument[2] or ""))
            elif base := _FROM.match(line):
                image = _VARIABLE.sub(lambda found: values.get(found[1] or found[3]) or found[2] or "", base[1])
                if image not in stages and image not in ("", "scratch"):
                    found[image] = None
                if base[2]:
                    stages.add(base[2])
    return tuple(found)


def base_digest(image: str) -> str | None:
    """By which a registry knows an image; None when it does not say."""
    from mlcube.offline import offline
    from mlcube.registry import Limits, Registry, Repository

    name, at, digest = image.partition("@")
    if at:
        return digest
    if offline():
        return None
    first = name.partition("/")[0]
    if "/" not in name or not ("." in first or ":" in first or first == "localhost"):
        name = f"docker.io/{name}"
    repository, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        repository, tag = name, "latest"
    try:
        limits = Limits(patience_seconds=_PATIENCE_SECONDS, answer_seconds=_PATIENCE_SECONDS)
        with Registry(Repository.parse(repository), limits=limits) as registry:
            return registry.resolve(tag).digest
    except CubeError:
        return None


def requirements_of(cube: Cube, report: Callable[[str], None], *, asked: str | None = None) -> Requirements | None:
    """The exact versions of what a cube asks for, each with the hashes of its files.

    `asked` is the digest of what it says itself, if that is not what the cube given here says.
    """
    import tempfile

    from mlcube import directories
    from mlcube.offline import offline

    asked = asked or digest_of_requirements(cube)
    if cube.python is None or asked is None:
        return None
    version = _python_version(cube.python.version)
    if not cube.python.requirements.strip():
        return Requirements(asked=asked, python=version, exact=())
    if offline():
        raise UsageError("requirements cannot be resolved without the network", hint="leave out `--offline`")
    os.makedirs(directories.cache(), exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directories.cache(), prefix="lock-") as folder:
        path = os.path.join(folder, "requirements.txt")
        with open(path, "w", encoding="utf-8") as file:
            file.write(cube.python.requirements)
        report(f"resolving the requirements for Python {version}")
        lines = _of_uv(path, version) or _of_pip(path)
    return Requirements(asked=asked, python=version, exact=tuple(lines))


def _of_uv(path: str, version: str) -> list[str] | None:
    """What uv resolves; None when it is not installed."""
    import shutil
    import sys

    from mlcube.asking import ask

    beside = os.path.join(os.path.dirname(sys.executable), "uv")
    uv = beside if os.access(beside, os.X_OK) else shutil.which("uv")
    if uv is None:
        return None
    words = ("pip", "compile", "--quiet", "--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url")
    answer = ask((uv, *words, "--python-version", version, path), timeout_seconds=_SECONDS)
    if answer.status:
        raise CubeError(f"uv could not resolve the requirements: {_last(answer.error)}")
    joined = answer.output.replace("\\\n", " ")
    return [" ".join(line.split()) for line in joined.splitlines() if _EXACT.match(line)]


def _of_pip(path: str) -> list[str]:
    """What pip would install here: for this Python and this machine alone."""
    import sys

    import msgspec

    from mlcube.asking import ask

    words = ("-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-", "--requirement")
    answer = ask((sys.executable, *words, path), timeout_seconds=_SECONDS)
    if answer.status:
        raise CubeError(f"pip could not resolve the requirements: {_last(answer.error)}")
    lines = []
    for each in msgspec.json.decode(answer.output)["install"]:
        hashes = each.get("download_info", {}).get("archive_info", {}).get("hashes", {})
        name = f"{each['metadata']['name']}=={each['metadata']['version']}"
        lines.append(f"{name} --hash=sha256:{hashes['sha256']}" if "sha256" in hashes else name)
    return sorted(lines)


def _python_version(admitted: str) -> str:
    """This Python, if a cube admits it; else the lowest that it admits."""
    import sys

    from mlcube.python_versions import admits, lowest_admitted

    here = ".".join(map(str, sys.version_info[:3]))
    version = here if admits(admitted, here) else lowest_admitted(admitted)
    return ".".join(version.split(".")[:2])


def _within(path: str, folders: set[str]) -> bool:
    """Whether a path is one of these, or lies in one."""
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def _last(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return "; ".join(lines[-3:])
