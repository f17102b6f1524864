"""The workspace: the only place that looks at it, and the steps that prepare it and collect from it."""

import os
import os.path
import stat
from collections.abc import Collection, Iterator
from typing import Literal

from mlcube.cube import Cube
from mlcube.errors import CubeError, MissingInput, MissingOutput, UsageError
from mlcube.invocation import Invocation, Parameter
from mlcube.plan import Fail, SecretText, Step, Unless, WriteFile, command

__all__ = [
    "EXCLUDED",
    "after",
    "always",
    "before",
    "check_writable",
    "free_bytes",
    "is_text",
    "kind",
    "locate",
    "otherwise",
    "source_digest",
]

EXCLUDED = (".git", ".venv", ".cube", "__pycache__", "*.pyc")
"""What is no code, wherever it lies in a source folder."""


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


def kind(path: str) -> Literal["file", "directory", "special"] | None:
    """What lies at a path; None when nothing does. `special` is a device, a named pipe or a socket."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return "file" if os.path.lexists(path) else None
    if stat.S_ISDIR(mode):
        return "directory"
    return "file" if stat.S_ISREG(mode) else "special"


def free_bytes(path: str) -> int:
    """What is free for the caller where a path lies, or will lie."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def source_digest(folder: str, excluded: Collection[str] = ()) -> str:
    """Hex sha256 of the names, modes and contents of a folder's code, whatever their order on disk.

    `excluded` are names at its top that are no code. The same for every user who may read it.
    """
    import hashlib

    digest = hashlib.sha256()
    for path in _source_files(folder, excluded):
        name = os.path.relpath(path, folder)
        if os.path.islink(path):
            content, mode = os.readlink(path).encode(errors="surrogateescape"), "l"
        else:
            try:
                with open(path, "rb") as file:
                    content, bits = file.read(), os.fstat(file.fileno()).st_mode
            except OSError as error:
                raise MissingInput(f"`{path}` cannot be read: {str(error.strerror).lower()}") from None
            mode = "x" if bits & 0o111 else "f"
        inner = hashlib.sha256(content).hexdigest()
        digest.update(f"{mode} {inner} {name}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _source_files(folder: str, excluded: Collection[str]) -> Iterator[str]:
    def unreadable(error: OSError) -> None:
        raise MissingInput(f"`{error.filename}` cannot be read: {str(error.strerror).lower()}")

    for directory, folders, files in os.walk(folder, onerror=unreadable):
        links = [name for name in folders if os.path.islink(os.path.join(directory, name))]
        leave = {name for name in folders + files if _is_excluded(name) or (directory == folder and name in excluded)}
        folders[:] = sorted(name for name in folders if name not in leave and name not in links)
        for name in sorted(files + links):
            if name not in leave:
                path = os.path.join(directory, name)
                if os.path.islink(path) or os.path.isfile(path):
                    yield path


def _is_excluded(name: str) -> bool:
    return name in EXCLUDED or name.endswith(".pyc")


def check_writable(invocation: Invocation) -> None:
    """Raise CubeError if this user may not make what `before` will make."""
    made = [*_folders(invocation), *(target for _, target in invocation.copies)]
    made += [output.path for output in invocation.outputs if output.created]
    for path in made:
        if os.path.exists(path):
            continue
        folder = os.path.dirname(path)
        while not os.path.lexists(folder):
            folder = os.path.dirname(folder)
        if not os.path.isdir(folder) or os.access(folder, os.W_OK | os.X_OK):
            continue  # what is wrong there, if anything, is said best by who makes it
        reason = "read-only file system" if os.statvfs(folder).f_flag & os.ST_RDONLY else "permission denied"
        workspace = invocation.workspace
        if path != workspace and not path.startswith(f"{workspace}/"):
            raise CubeError(
                f"`{path}` cannot be made: `{folder}`: {reason}", hint="name another place for it: NAME=PATH"
            )
        within = f": `{folder}`" if folder.startswith(f"{workspace}/") else ""
        hint = "--workspace DIR names another, where you may write"
        raise CubeError(f"the workspace `{workspace}` cannot be written{within}: {reason}", hint=hint)


def _folders(invocation: Invocation) -> dict[str, None]:
    """Those that must be there when the task starts, in order."""
    folders = dict.fromkeys([invocation.workspace])
    for output in invocation.outputs:
        folders[output.path if output.type == "directory" else os.path.dirname(output.path)] = None
        if output.staged:
            folders[os.path.dirname(output.staged)] = None
    return folders | dict.fromkeys(os.path.dirname(target) for _, target in invocation.copies)


def before(invocation: Invocation) -> tuple[Step, ...]:
    """What must be there when the task starts: scratch, output directories, copied inputs, secrets."""
    steps: list[Step] = [command("mkdir", "-p", f"{invocation.scratch}/home")]
    steps.append(command("mkdir", "-p", "--", *_folders(invocation)))
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
        test = "-s" if output.created else "-e"
        checks = (*_as_declared(output, written), *(_move(output, written) if output.staged else ()))
        if output.optional:
            steps.append(Unless(probe=command("test", "!", "-e", written), steps=checks))
            continue
        fail = Fail(
            message=f"the task succeeded, but its output `{output.name}` is missing: {output.path}",
            hint=f"the task must write {output.target}, which it gets as `--{output.name}`",
            status=MissingOutput.status,
        )
        steps += [Unless(probe=command("test", test, written), steps=(fail,)), *checks]
    return tuple(steps)


_LEADS_INSIDE = 'case $(readlink -f -- "$1") in "$(readlink -f -- "$2")"/*) ;; *) exit 1 ;; esac'


def _as_declared(output: Parameter, written: str) -> tuple[Step, ...]:
    """What the task left is a file or a directory, and no link by which it would hand out what it could not read."""
    test = "-d" if output.type == "directory" else "-f"
    wrong = _refused(output, f"is no {'directory' if output.type == 'directory' else 'regular file'}")
    leads_away = _refused(output, "is a symbolic link that leads out of the place where the task may write")
    folder = os.path.dirname(written)
    if output.staged or output.type == "directory":  # its place is its own, and so a link leads away from it
        look: tuple[Step, ...] = (leads_away,)
    else:
        look = (Unless(probe=command("sh", "-c", _LEADS_INSIDE, "sh", written, folder), steps=(leads_away,)),)
    places = (written, folder) if output.staged else (written,)
    links = tuple(Unless(probe=command("test", "!", "-L", place), steps=look) for place in places)
    return (Unless(probe=command("test", test, written), steps=(wrong,)), *links)


def _move(output: Parameter, written: str) -> tuple[Step, ...]:
    """To its place, unless something came to lie there meanwhile that `mv` would replace and no program would."""
    fail = _refused(output, "cannot be brought to its place, where no regular file lies")
    not_a_file = Unless(probe=command("test", "-f", output.path), steps=(fail,))
    return (
        Unless(probe=command("test", "!", "-L", output.path), steps=(fail,)),
        Unless(probe=command("test", "!", "-e", output.path), steps=(not_a_file,)),
        # It is in its place already where the run was killed at this step, and is taken up.
        Unless(probe=command("test", "!", "-e", written), steps=(command("mv", "-f", "--", written, output.path),)),
    )


def _refused(output: Parameter, why: str) -> Fail:
    return Fail(
        message=f"the task succeeded, but its output `{output.name}` {why}: {output.path}",
        hint=f"the task must write a {output.type}: {output.target}, which it gets as `--{output.name}`",
        status=MissingOutput.status,
    )


_BRING = """\
for place in "$1" "${1%/*}" "$2"; do [ ! -L "$place" ] || exit 1; done
[ -f "$1" ] || exit 1
[ ! -e "$2" ] || [ -f "$2" ] || exit 1
mv -f -- "$1" "$2"
"""
"""WRITTEN PLACE: no link is followed, and nothing but a file is replaced."""


def otherwise(invocation: Invocation) -> tuple[Step, ...]:
    """What a task that failed has left for a place outside the workspace: there as in it, what was written is kept."""
    return tuple(
        command("sh", "-c", _BRING, "sh", output.staged, output.path, quiet=True)
        for output in invocation.outputs
        if output.staged
    )


def always(invocation: Invocation) -> tuple[Step, ...]:
    """What no run leaves behind."""
    folders = [invocation.scratch, f"{invocation.scratch}.secrets"]
    folders += [os.path.dirname(output.staged) for output in invocation.outputs if output.staged]
    return (command("rm", "-rf", "--", *folders),)
