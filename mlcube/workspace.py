"""The workspace: the only place that looks at it, and the steps that prepare it and collect from it."""

import os
import os.path
from collections.abc import Iterator
from typing import Literal

from mlcube.cube import Cube
from mlcube.errors import MissingInput, UsageError
from mlcube.invocation import Invocation
from mlcube.plan import Fail, SecretText, Step, Unless, WriteFile, command

__all__ = ["EXCLUDED", "after", "always", "before", "free_bytes", "is_text", "kind", "locate", "source_digest"]

EXCLUDED = (".git", ".venv", "__pycache__", "workspace")
"""Names in a source folder that are no code."""


def locate(cube: Cube, workspace: str | None) -> str:
    """The absolute path of the workspace: the user's, or the one in the cube.

    Raises UsageError for what can be no folder.
    """
    if workspace and workspace.startswith("storage:"):
        raise UsageError(f"`{workspace}` is no folder", hint=f"--workspace DIR names a folder, as `./{workspace}` does")
    path = os.path.abspath(os.path.expanduser(workspace)) if workspace else cube.internal_workspace
    if not is_text(path):
        raise UsageError("the path of the workspace is no UTF-8 text", hint="rename the folder")
    if os.path.exists(path) and not os.path.isdir(path):
        raise UsageError(f"the workspace `{path}` is a file", hint="--workspace DIR names a folder")
    return path


def is_text(path: str) -> bool:
    """Whether a path can be written down: it is UTF-8 and holds no null character."""
    return (path.isascii() and "\0" not in path) or not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in path)


def kind(path: str) -> Literal["file", "directory"] | None:
    """What lies at a path; None when nothing does."""
    if os.path.isdir(path):
        return "directory"
    return "file" if os.path.lexists(path) else None


def free_bytes(path: str) -> int:
    """What is free for the caller where a path lies, or will lie."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def source_digest(folder: str) -> str:
    """Hex sha256 of the names, modes and contents of a folder's code, whatever their order on disk."""
    import hashlib

    digest = hashlib.sha256()
    for path in _source_files(folder):
        name = os.path.relpath(path, folder)
        if os.path.islink(path):
            content, mode = os.readlink(path).encode(errors="surrogateescape"), "l"
        else:
            try:
                with open(path, "rb") as file:
                    content = file.read()
            except OSError as error:
                raise MissingInput(f"`{path}` cannot be read: {str(error.strerror).lower()}") from None
            mode = "x" if os.access(path, os.X_OK) else "f"
        inner = hashlib.sha256(content).hexdigest()
        digest.update(f"{mode} {inner} {name}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _source_files(folder: str) -> Iterator[str]:
    for directory, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(directory, name))]
        folders[:] = sorted(name for name in folders if name not in EXCLUDED and name not in links)
        for name in sorted(files + links):
            if name not in EXCLUDED and not name.endswith(".pyc"):
                path = os.path.join(directory, name)
                if os.path.islink(path) or os.path.isfile(path):
                    yield path


def before(invocation: Invocation) -> tuple[Step, ...]:
    """What must be there when the task starts: scratch, output directories, copied inputs, secrets."""
    steps: list[Step] = [command("mkdir", "-p", f"{invocation.scratch}/home")]
    folders = dict.fromkeys([invocation.workspace])
    for output in invocation.outputs:
        folders[output.path if output.type == "directory" else os.path.dirname(output.path)] = None
        if output.staged:
            folders[os.path.dirname(output.staged)] = None
    folders |= dict.fromkeys(os.path.dirname(target) for _, target in invocation.copies)
    steps.append(command("mkdir", "-p", "--", *folders))
    for source, target in invocation.copies:
        copy = command("cp", "-R", "-p", "--", source, target)
        steps.append(Unless(probe=command("test", "-e", target), steps=(copy,)))
    steps += [
        Unless(probe=command("test", "-e", output.path), steps=(command("touch", "--", output.path),))
        for output in invocation.outputs
        if output.created
    ]
    if mounted := [secret for secret in invocation.secrets if secret.mount]:
        steps.append(command("mkdir", "-p", "-m", "700", f"{invocation.scratch}.secrets"))
        steps += [WriteFile(path=invocation.secret_path(secret), text=SecretText(secret.name)) for secret in mounted]
    return tuple(steps)


def after(invocation: Invocation) -> tuple[Step, ...]:
    """What a task that succeeded must have left, brought to its place."""
    steps: list[Step] = []
    for output in invocation.outputs:
        written = output.staged or output.path
        test = "-d" if output.type == "directory" else "-s" if output.created else "-e"
        fail = Fail(
            message=f"the task succeeded, but its output `{output.name}` is missing: {output.path}",
            hint=f"the task must write {output.target}, which it gets as `--{output.name}`",
            status=73,
        )
        if not output.optional:
            steps.append(Unless(probe=command("test", test, written), steps=(fail,)))
        if output.staged:
            move = command("mv", "-f", "--", written, output.path)
            if output.optional:
                move_if = Unless(probe=command("test", "!", "-e", written), steps=(move,))
                steps.append(move_if)
            else:
                steps.append(move)
    return tuple(steps)


def always(invocation: Invocation) -> tuple[Step, ...]:
    """What no run leaves behind."""
    folders = [invocation.scratch, f"{invocation.scratch}.secrets"]
    folders += [os.path.dirname(output.staged) for output in invocation.outputs if output.staged]
    return (command("rm", "-rf", "--", *folders),)
