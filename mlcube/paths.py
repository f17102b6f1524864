"""Path parameters bound: where each lies on the host, what it is, and where the task sees it."""

import os
import os.path
import re
import shlex
from collections.abc import Mapping
from typing import Literal

from mlcube.cube import Access, Cube, Parameter, Task
from mlcube.errors import InvalidFile, MissingInput, Problem, UsageError
from mlcube.invocation import Mount, Word
from mlcube.invocation import Parameter as Bound
from mlcube.layers import ENVIRONMENT
from mlcube.workspace import is_text
from mlcube.workspace import kind as kind_at

__all__ = ["Paths", "expand"]


class Paths:
    """The paths of one task: mounts are numbered as parameters come."""

    def __init__(
        self,
        cube: Cube,
        task: Task,
        given: Mapping[str, str],
        workspace: str,
        produced: Mapping[str, Literal["file", "directory"]],
        input_access: Access | None,
    ) -> None:
        self.cube, self.task, self.given, self.workspace, self.produced = cube, task, given, workspace, produced
        self.input_access = input_access
        """What the user says of every input, over what the cube says."""
        self.numbers: dict[str, int] = {}
        self.mounts: dict[tuple[str, str], Access] = {}
        self.bound: list[Bound] = []
        self.copies: list[tuple[str, str]] = []
        self.refused: list[Problem] = []
        """What the cube's file would write where only the user may send it."""
        self.warnings: list[Problem] = []
        """What the cube's file reads where the user may not expect it."""
        self._own = (os.path.realpath(workspace), os.path.realpath(cube.root))

    def bind(self, parameter: Parameter) -> Word | None:
        """Bind a file or directory; None when it is optional and not there."""
        written = self.given.get(parameter.name)
        default = str(parameter.default) if parameter.default is not None else parameter.name
        path = self._host_path(parameter, written, default)
        if parameter.direction == "output":
            path = _followed(parameter, path)
        kind = self._kind(parameter, path, written, default)
        if kind is None:
            return None
        if parameter.direction == "input":
            access: Access = self.input_access or parameter.access or "ro"
        else:
            access = "rw"
        if written is None:
            self._judge(parameter, path, access)
        inside = _within(os.path.realpath(os.path.dirname(path)), os.path.realpath(self.workspace))
        staged, created = None, False
        if parameter.mount:
            target, source = parameter.mount, path
            created = parameter.direction == "output" and kind == "file"
        elif kind == "directory":
            target, source = f"/mlcube_io{self._number(path)}", path
        elif inside and parameter.direction == "input" and _leads_out(path):
            target, source = f"/mlcube_io{self._number(path)}/{os.path.basename(path)}", path
        elif inside:
            folder = os.path.dirname(path)
            target, source = f"/mlcube_io{self._number(folder)}", folder
        elif parameter.direction == "input":
            target = f"/mlcube_io{self._number(os.path.dirname(path))}/{os.path.basename(path)}"
            source = path
        else:
            folder = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.cube")
            target, source, staged = (
                f"/mlcube_io{self._number(folder)}",
                folder,
                os.path.join(folder, os.path.basename(path)),
            )
        self.mount(source, target, access)
        in_folder = kind == "file" and source != path
        place = f"{target}/{os.path.basename(path)}" if in_folder else target
        self.bound.append(
            Bound(
                name=parameter.name,
                direction=parameter.direction,
                type=kind,
                path=path,
                staged=staged,
                target=place,
                optional=parameter.optional,
                created=created,
            )
        )
        return Word("", place)

    def _host_path(self, parameter: Parameter, written: str | None, default: str) -> str:
        text = default if written is None else written
        if not is_text(text):
            raise UsageError(f"the path of `{parameter.name}` is no UTF-8 text", hint="rename the file")
        if not text and parameter.direction == "output" and written is not None:
            raise UsageError(f"`{parameter.name}` needs a path", hint=f"{parameter.name}=PATH")
        if os.path.lexists(os.path.join(self.workspace, text)):
            return os.path.normpath(os.path.join(self.workspace, text))  # as it is, whatever signs its name holds
        expanded, missing = expand(text, only=None if written is not None else ENVIRONMENT)
        if missing and written is None:
            hint = f"a cube may read {', '.join(ENVIRONMENT)}; or give {parameter.name}=PATH on the command line"
            message = f"`${missing}` in the path of `{parameter.name}` cannot be read"
            position = self.cube.position(*self._key(parameter), "default")
            raise InvalidFile((Problem(message=message, position=position, hint=hint),))
        return os.path.normpath(os.path.join(self.workspace, expanded))

    def _judge(self, parameter: Parameter, path: str, access: Access) -> None:
        """A path that the file names, not the user, should lie in the workspace or in the cube; links are followed."""
        place = os.path.realpath(path)
        position = self.cube.position(*self._key(parameter), "default")
        if self.cube.trusted or position.source.startswith("-P ") or any(_within(place, own) for own in self._own):
            return
        what = f"{parameter.direction} `{parameter.name}` of task `{self.task.name}`"
        hint = f"name it yourself if you agree: {parameter.name}={shlex.quote(place)}; or run with --trust"
        if access == "rw":
            message = f"{what} would be written outside the workspace and the cube: `{place}`"
            self.refused.append(Problem(message=message, position=position, hint=hint))
        else:
            message = f"{what} is read from outside the workspace and the cube: `{place}`"
            self.warnings.append(Problem(message=message, position=position, severity="warning"))

    def _kind(
        self, parameter: Parameter, path: str, written: str | None, default: str
    ) -> Literal["file", "directory"] | None:
        """What the parameter is; None for an optional input that is not there, and that nobody named."""
        declared = "directory" if default.endswith(("/", "\\")) or (written or "").endswith(("/", "\\")) else None
        if parameter.type is not None:
            declared = "file" if parameter.type == "file" else "directory"
        if parameter.direction == "output":
            return self._output_kind(parameter, path, declared)
        found = self._made(path, declared) or self._there(path) or self._copied(path)
        if found is None:
            if parameter.optional and written is None:
                return None
            shown = path if not _within(path, self.workspace) else os.path.relpath(path, self.workspace)
            makers = [
                task.name
                for task in self.cube.tasks.values()
                if task.name != self.task.name and any(_within(path, self._written(output)) for output in task.outputs)
            ]
            hint = f"run task `{makers[0]}` first, which makes it" if makers else f"{parameter.name}=PATH names another"
            where = "" if os.path.isabs(shown) else f" in the workspace {self.workspace}"
            raise MissingInput(
                f"input `{parameter.name}` of task `{self.task.name}` is not there: `{shown}`{where}", hint=hint
            )
        if declared is not None and found != declared:
            raise UsageError(f"input `{parameter.name}` is to be a {declared}, but `{path}` is a {found}")
        return found

    def _made(self, path: str, declared: str | None) -> Literal["file", "directory"] | None:
        """What the tasks before this one will have made of a path; in a directory of theirs, it is as it looks."""
        written = os.path.realpath(path) if os.path.islink(path) else path
        if written in self.produced:
            return self.produced[written]
        if not any(kind == "directory" and _within(path, folder) for folder, kind in self.produced.items()):
            return None
        if found := self._there(path):
            return found
        return "file" if (declared or ("file" if os.path.splitext(path)[1] else "")) == "file" else "directory"

    def _there(self, path: str) -> Literal["file", "directory"] | None:
        """What lies at a path; a link that leads nowhere is nothing that a task could read."""
        found = kind_at(path) if os.path.exists(path) else None
        return "file" if found == "special" else found

    def _output_kind(self, parameter: Parameter, path: str, declared: str | None) -> Literal["file", "directory"]:
        found = self.produced.get(path) or kind_at(path)
        if declared is None:
            message = f"nothing says whether output `{parameter.name}` is a file or a directory"
            shown = f"{parameter.name}={os.path.basename(path)}/"
            hint = f"end it with `/` for a directory ({shown}), or add a type to the cube"
            raise InvalidFile(
                (Problem(message=message, position=self.cube.position(*self._key(parameter)), hint=hint),)
            )
        if found == "special":
            message = f"output `{parameter.name}` cannot replace `{path}`, which is a device, a pipe or a socket"
            raise UsageError(message, hint=f"{parameter.name}=PATH names a {declared}")
        if found is not None and found != declared:
            raise UsageError(f"output `{parameter.name}` is to be a {declared}, but `{path}` is a {found}")
        return "file" if declared == "file" else "directory"

    def _written(self, output: Parameter) -> str:
        """The path of an output, of this task or another."""
        default = str(output.default) if output.default is not None else output.name
        text = self.given.get(output.name, default)
        expanded, _ = expand(text, only=None if output.name in self.given else ENVIRONMENT)
        return os.path.normpath(os.path.join(self.workspace, expanded))

    def _copied(self, path: str) -> Literal["file", "directory"] | None:
        """What the cube's own workspace holds for an input that another workspace lacks; outputs never count."""
        internal = self.cube.internal_workspace
        if self.workspace == internal or not _within(path, self.workspace) or path == self.workspace:
            return None
        source = os.path.join(internal, os.path.relpath(path, self.workspace))
        outputs = (output for task in self.cube.tasks.values() for output in task.outputs)
        if path in {self._written(output) for output in outputs}:
            return None
        found = kind_at(source)
        if found is None or found == "special":
            return None
        self.copies.append((source, path))
        return found

    def _key(self, parameter: Parameter) -> tuple[str, ...]:
        return ("tasks", self.task.name, "parameters", f"{parameter.direction}s", parameter.name)

    def _number(self, folder: str) -> int:
        return self.numbers.setdefault(folder, len(self.numbers))

    def mount(self, source: str, target: str, access: Access) -> None:
        """One mount for each place; read-write wins."""
        if self.mounts.get((source, target)) != "rw":
            self.mounts[(source, target)] = access

    def distinct_mounts(self) -> tuple[Mount, ...]:
        """The mounts, without files that the mount of their folder shows at the same place anyway."""
        return tuple(
            Mount(source, target, access)
            for (source, target), access in self.mounts.items()
            if os.path.basename(source) != os.path.basename(target)
            or self.mounts.get((os.path.dirname(source), os.path.dirname(target))) not in (access, "rw")
        )


def _followed(parameter: Parameter, path: str) -> str:
    """Where an output is written that is a symbolic link: to what it leads to, as a program would."""
    if not os.path.islink(path):
        return path
    found = os.path.realpath(path)
    if os.path.islink(found):
        message = f"output `{parameter.name}` is a symbolic link that leads to itself: `{path}`"
        raise UsageError(message, hint=f"{parameter.name}=PATH names another")
    return found


def _leads_out(path: str) -> bool:
    """Whether a file is a link that cannot be followed where its folder alone is seen at another place."""
    folder = os.path.realpath(os.path.dirname(path))
    place = os.path.join(folder, os.path.basename(path))
    for _ in range(_MOST_LINKS):
        if not os.path.islink(place):
            return not _within(os.path.realpath(place), folder)
        lead = os.readlink(place)
        if os.path.isabs(lead):
            return True
        place = os.path.normpath(os.path.join(os.path.dirname(place), lead))
    return True


_MOST_LINKS = 40
"""As many as Linux follows."""


def expand(text: str, *, only: tuple[str, ...] | None) -> tuple[str, str | None]:
    """`~`, `$NAME` and `${NAME}` in a path, and the first variable that could not be read.

    With `only`, no other variable is read; what cannot be read stays as it is.
    """
    missing: list[str] = []

    def value(match: "re.Match[str]") -> str:
        name = match[1] or match[2]
        if (only is None or name in only) and name in os.environ:
            return os.environ[name]
        missing.append(name)
        return match[0]

    expanded = os.path.expanduser(text)
    if "$" in expanded:
        expanded = re.sub(r"\$(?:\{(\w+)\}|([A-Za-z_]\w*))", value, expanded)
    return expanded, (missing[0] if missing else None)


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
