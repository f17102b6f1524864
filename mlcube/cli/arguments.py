"""Options that several commands share, and what their values mean."""

import os
from collections.abc import Sequence
from typing import Annotated, Any

from mlcube.cli.declared import argument, option
from mlcube.errors import UsageError, did_you_mean

__all__ = [
    "CubeName",
    "Json",
    "Locked",
    "MlcubePath",
    "Offline",
    "Overrides",
    "PlatformName",
    "TaskNames",
    "Trust",
    "Words",
    "Workspace",
]


def complete_tasks(ctx: Any, incomplete: str) -> list[str]:
    """The tasks of the cube that the words so far name."""
    from mlcube.cli.naming import cube_of, split_words
    from mlcube.errors import CubeError

    try:
        mlcube = ctx.params.get("mlcube") or "."
        word, _ = split_words(ctx.params.get("words"), mlcube)
        cube, _ = cube_of(mlcube, word, offline=True, told=False).read()
    except CubeError:
        return []
    before, comma, _ = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in cube.tasks]


def complete_platforms(incomplete: str) -> list[str]:
    """The platforms that the settings name, and the runners."""
    from mlcube.errors import CubeError
    from mlcube.settings import read_settings

    try:
        return [name for name in read_settings().names() if name.startswith(incomplete)]
    except CubeError:
        return []


MlcubePath = Annotated[
    str, option("--mlcube", metavar="CUBE", help="the cube: a directory, its file, or any other reference")
]
CubeName = Annotated[
    str | None, argument(metavar="[CUBE]", help="the cube, as with `--mlcube`: a path, oci://..., a name in a zoo")
]
Offline = Annotated[bool, option("--offline", help="make no network call; so does CUBE_OFFLINE=1")]
Locked = Annotated[bool, option("--locked", help="refuse what differs from `mlcube.lock`")]
PlatformName = Annotated[
    str | None,
    option("--platform", metavar="NAME", help="where to run, see `cube platforms`", autocompletion=complete_platforms),
]
Workspace = Annotated[
    str | None, option("--workspace", metavar="DIR", help="where parameters lie, instead of the cube's own")
]
TaskNames = Annotated[
    list[str] | None,
    option("--task", metavar="A,B", help="tasks to run, in this order", autocompletion=complete_tasks),
]
Overrides = Annotated[
    list[str] | None,
    option("-P", "-p", metavar="KEY=VALUE", help="set a key of the cube's file, or runner.OPTION of the platform"),
]
Trust = Annotated[
    bool, option("--trust", help="allow what opens this machine: raw engine arguments, far build contexts, far outputs")
]
Json = Annotated[bool, option("--json", help="print JSON")]
Words = Annotated[
    list[str] | None, argument(metavar="[CUBE] [NAME=VALUE]...", help="parameters of the tasks; before them, the cube")
]


_OF_CUBE = (
    *("image", "build_context", "build_file", "build_strategy", "build_args", "env_args", "cpu_args", "gpu_args"),
    *("run_args", "image_dir"),
)
"""What MLCube took for options of a runner, and what a cube says here in the section of that name."""


def overrides(given: Sequence[str] | None, platform: str | None = None) -> tuple[tuple[str, ...], dict[str, Any]]:
    """What `-P` says of the cube, weakest first, and what it says of the runner (`-Prunner.KEY=VALUE`).

    `-P=key=value` means the same as `-Pkey=value`.
    """
    cube: list[str] = []
    strongest: list[str] = []
    runner: dict[str, Any] = {}
    section = "singularity" if platform == "singularity" else "docker"
    for text in (word.removeprefix("=") for word in given or ()):
        key, equals, value = text.partition("=")
        root, _, rest = key.partition(".")
        if root != "runner":
            cube.append(text)
        elif rest.partition(".")[0] in _OF_CUBE:
            strongest.append(f"{section}.{rest}{equals}{value}")
        else:
            from mlcube.source import Document

            runner[rest] = Document.from_value(value, f"-P {text}", "-P", key).data
    return (*cube, *strongest), runner


def parameters(words: Sequence[str] | None, tasks: Sequence[str]) -> dict[str, str]:
    """`name=value` words; everything after the first `=` is the value."""
    result: dict[str, str] = {}
    for word in words or ():
        name, equals, value = word.partition("=")
        if not equals or not name:
            hint = f"--task {word}" if word in tasks else "parameters are given as name=value"
            raise UsageError(f"`{word}` is no `name=value`", hint=hint)
        if name in result:
            raise UsageError(f"parameter `{name}` is given twice", hint="give it once")
        result[name] = value
    return result


def chosen_tasks(given: Sequence[str] | None, known: Sequence[str], cube_name: str) -> tuple[str, ...]:
    """The tasks that `--task` names; without it the only one there is."""
    names = tuple(name for text in given or () for part in text.split(",") if (name := part.strip()))
    for name in names:
        if name not in known:
            hint = did_you_mean(name, tuple(known)) or f"tasks: {', '.join(known)}"
            raise UsageError(f"`{cube_name}` has no task `{name}`", hint=hint)
    if names:
        return names
    if given:
        raise UsageError("`--task` names no task", hint=f"--task {known[0]}")
    if len(known) == 1:
        return (known[0],)
    listed = "\n".join(f"  --task {name}" for name in known)
    raise UsageError(f"`{cube_name}` has several tasks: say which", hint=f"one or more of\n{listed}")


_LARGEST_SECRET = 1 << 20


def seconds(option: str, text: str | None) -> float | None:
    """The time that an option says, in seconds. Raises UsageError."""
    if text is None:
        return None
    from mlcube.amounts import duration

    try:
        return duration(text)
    except ValueError as error:
        raise UsageError(f"`{option}` takes {error}") from None


def secrets(
    names: Sequence[tuple[str, bool]], files: Sequence[str] | None, withheld: Sequence[str] = ()
) -> dict[str, str]:
    """The value of each secret (name, optional): of the file that `--secret` names, else of the environment.

    Those of the environment that are `withheld` are left out.

    Raises UsageError for a secret that is needed and not given, before anything starts.
    """
    given: dict[str, str] = {}
    for name, path in secret_files([name for name, _ in names], files).items():
        try:
            given[name] = _secret(path)
        except (OSError, ValueError) as error:  # noqa: PERF203 - each in turn
            raise UsageError(f"the secret `{name}` cannot be read from `{path}`: {_reason(error)}") from None
    for name, optional in names:
        if name in given:
            continue
        if name in os.environ and name not in withheld:
            given[name] = os.environ[name]
        elif not optional:
            hint = f"set the variable {name}, or give a file: --secret {name}=FILE"
            raise UsageError(f"the secret `{name}` is not given", hint=hint)
    return given


def secret_files(known: Sequence[str], files: Sequence[str] | None) -> dict[str, str]:
    """The file that `--secret` names for each secret; one that no task has, or that comes twice, is an error."""
    given: dict[str, str] = {}
    for text in files or ():
        name, equals, path = text.partition("=")
        if not equals or not path:
            raise UsageError(f"`--secret {text}` names no file", hint=f"--secret {name or 'NAME'}=FILE")
        if name not in known:
            hint = did_you_mean(name, tuple(known)) or "see `cube describe`"
            raise UsageError(f"no task that runs has a secret `{name}`", hint=hint)
        if name in given:
            raise UsageError(f"the secret `{name}` is given twice", hint="give it once")
        given[name] = os.path.expanduser(path)
    return given


def _secret(path: str) -> str:
    """What a file says, without its last line break. A pipe or a device, which may never end, is no file."""
    import stat

    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is no regular file")
    with open(path, "rb") as file:
        content = file.read(_LARGEST_SECRET + 1)
    if len(content) > _LARGEST_SECRET:
        raise ValueError("it is larger than 1 MiB")
    if b"\0" in content:
        raise ValueError("it is no text")
    return content.decode().removesuffix("\n")


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is no text"
    strerror: str | None = getattr(error, "strerror", None)
    return strerror.lower() if strerror else str(error)
