"""The wheels of a `python:` cube: everything that its requirements ask for, for one Python or several."""

import os
import re
import sys

from mlcube.asking import ask
from mlcube.errors import PreparationFailed, UsageError
from mlcube.python_versions import admits

__all__ = ["admitted", "check_asked", "collect", "download", "run_pip", "this_version"]

_PATIENCE_SECONDS = 3600.0


def this_version() -> str:
    """The Python that runs, as `3.11`."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def check_asked(versions: tuple[str, ...]) -> None:
    """Raise UsageError for what is no version of Python; a later Python 3 than those known here may be one."""
    hint = "--python-version 3.11"
    for version in versions:
        found = re.fullmatch(r"(\d+)\.\d+(\.\d+)?", version)
        if found is None:
            raise UsageError(f"`{version}` is no Python version, as `3.11` is", hint=hint)
        if int(found[1]) > 3:
            raise UsageError(f"there is no Python {version}", hint=hint)


def admitted(version_range: str, asked: tuple[str, ...]) -> tuple[str, ...]:
    """For which Pythons wheels are collected: those asked for, else this one.

    Raises PreparationFailed for one that the cube does not admit.
    """
    for version in asked or (this_version(),):
        try:
            fits = admits(version_range, f"{version}.99" if version.count(".") == 1 else version)
        except ValueError as error:
            raise PreparationFailed(str(error), hint="--python-version 3.11") from None
        if not fits:
            hint = "`--python-version` says for which Python wheels are collected"
            raise PreparationFailed(f"the cube needs Python `{version_range}`, and {version} is none", hint=hint)
    return tuple(".".join(version.split(".")[:2]) for version in asked) or (this_version(),)


def collect(requirements: str, folder: str, versions: tuple[str, ...]) -> list[str]:
    """Write the wheels into a folder; gives their paths. For this Python also what has no wheel is built into one."""
    asked = any(line.strip() and not line.strip().startswith("#") for line in requirements.splitlines())
    for version in versions if asked else ():
        if version == this_version():
            file = _written(requirements, folder)
            run_pip("wheel", "--quiet", "--wheel-dir", folder, "-r", file, title="collecting the requirements")
            os.unlink(file)
        else:
            download(requirements, folder, version)
    return sorted(os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".whl"))


def download(requirements: str, folder: str, version: str, *, dependencies: bool = True) -> None:
    """Fetch the wheels for another Python on machines like this one."""
    file = _written(requirements, folder)
    words = ("download", "--quiet", "--only-binary=:all:", f"--python-version={version}", "--dest", folder)
    deps = () if dependencies else ("--no-deps",)
    run_pip(*words, *deps, "-r", file, title=f"collecting the requirements for Python {version}")
    os.unlink(file)


def run_pip(*words: str, title: str) -> None:
    """Run pip of this Python, or what uv lends it. Raises PreparationFailed with its last words."""
    argv = (*_pip(), words[0], "--no-input", "--disable-pip-version-check", *words[1:])
    answer = ask(argv, environment={"PYTHONPATH": "", "PIP_REQUIRE_VIRTUALENV": ""}, timeout_seconds=_PATIENCE_SECONDS)
    if answer.status:
        said = (answer.error or answer.output).strip().splitlines()
        lines = [line for line in said if line.startswith("ERROR")] or said
        raise PreparationFailed(f"{title} failed", hint=lines[-1] if lines else None)


def _pip() -> tuple[str, ...]:
    from importlib.util import find_spec

    if find_spec("pip"):
        return (sys.executable, "-m", "pip")
    uv = os.path.join(os.path.dirname(sys.executable), "uv")
    uv = uv if os.path.exists(uv) else "uv"
    if ask((uv, "--version")).status == 0:
        lent = ("--no-project", "--python", sys.executable, "--with", "pip", "python", "-m", "pip")
        return (uv, "run", "--quiet", *lent)
    raise PreparationFailed("neither pip nor uv is here to collect wheels", hint="pip install uv")


def _written(requirements: str, folder: str) -> str:
    path = os.path.join(folder, "requirements.txt")
    with open(path, "w", encoding="utf-8") as file:
        file.write(requirements)
    return path
