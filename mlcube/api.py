"""Cubes from Python: load one, run its tasks, use what they wrote.

>>> import mlcube
>>> cube = mlcube.load("examples/digits")  # doctest: +SKIP
>>> cube.tasks  # doctest: +SKIP
('prepare', 'train', 'evaluate')
>>> run = cube.run("train", platform="local", epochs=5).check()  # doctest: +SKIP
>>> run.outputs["model"]  # doctest: +SKIP
'/home/me/digits/workspace/model'
"""

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from mlcube import cube as content
from mlcube.errors import CubeError, Interrupted, Problem

if TYPE_CHECKING:
    from mlcube.obtaining import Obtained

__all__ = ["Cube", "Run", "TaskFailed", "load"]


class TaskFailed(CubeError):
    """A task ended with a status that is not 0; raised by `Run.check` alone."""

    def __init__(self, run: "Run") -> None:
        last = "\n".join(run.log.splitlines()[-20:])
        super().__init__(f"task `{run.record.task}` failed with status {run.status}", hint=f"it printed\n{last}")
        self.status = run.status
        self.run = run


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A task that was run to its end."""

    status: int
    """The task's own exit status."""
    outputs: Mapping[str, str]
    """Where each output lies, by the parameter's name."""
    record: Any
    """Everything that is kept of the run: a `mlcube.record.Record`."""

    @property
    def id(self) -> str:
        """By which `cube runs` knows it."""
        return str(self.record.id)

    @property
    def log(self) -> str:
        """What the task printed."""
        from mlcube.record import RunDirectory

        try:
            with open(RunDirectory(self.id).log, encoding="utf-8", errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def check(self) -> "Run":
        """This run, if it succeeded. Raises TaskFailed with the end of the log if not."""
        if self.status:
            raise TaskFailed(self)
        return self

    def __repr__(self) -> str:
        return f"<Run {self.id} of {self.record.task}: {self.record.status}>"


class Cube:
    """A cube, ready to be run. `content` is what its file says."""

    def __init__(self, cube: content.Cube, warnings: tuple[Problem, ...] = (), workspace: str | None = None) -> None:
        self.content = cube
        self.warnings = warnings
        self.workspace = workspace
        """Where parameters lie unless `run` is told otherwise; None: in the cube's own workspace."""
        self._from_bundle: Callable[[str | None], tuple[content.Cube, str | None]] | None = None
        """What makes the bundle's image or packages available to a platform, where it lies in one."""

    @property
    def name(self) -> str:
        """The cube's name."""
        return self.content.name

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of its tasks, in the order of the file."""
        return tuple(self.content.tasks)

    def run(
        self,
        task: str,
        *,
        platform: str | None = None,
        workspace: str | os.PathLike[str] | None = None,
        gpus: str | int | None = None,
        memory: str | None = None,
        cpu: str | int | None = None,
        network: str | None = None,
        timeout: str | float | None = None,
        secrets: Mapping[str, str] | None = None,
        wait_seconds: float | None = None,
        show: bool = False,
        report: Callable[[str], None] | None = None,
        parameters: Mapping[str, Any] | None = None,
        **arguments: Any,
    ) -> Run:
        """Run a task to its end, whatever its status.

        Parameters of the task are keyword arguments; those that are no Python names, or named like one of these
        arguments, go into `parameters`. Without `platform`, as on the command line: the settings' default, else the
        first that can. `show` lets the task print on this process's output; its log is kept either way.

        Raises a CubeError for all that is no failure of the task: UsageError, MissingInput, Refused, ...; and
        KeyboardInterrupt once the task has ended that Ctrl-C stopped.

        >>> run = mlcube.load("examples/hello_world").run("hello", name="names/alice.txt")  # doctest: +SKIP
        >>> run.status, run.outputs["chat"]  # doctest: +SKIP
        (0, '/home/me/hello_world/workspace/chats/chat_with_alice.txt')
        """
        from mlcube.binding import bind, check_arguments
        from mlcube.host import gather
        from mlcube.needs import Needs
        from mlcube.platforms import choose
        from mlcube.record import RunDirectory, new_id
        from mlcube.running import run_task
        from mlcube.settings import read_settings

        given = {name: _text(value) for name, value in {**(parameters or {}), **arguments}.items()}
        check_arguments(self.content, [task], given)
        cube = self.content
        if self._from_bundle is not None:
            cube, platform = self._from_bundle(platform)
        run_id = new_id()
        needs = Needs(
            gpus=_optional(gpus), memory=memory, cpu=_optional(cpu), network=network, timeout=_optional(timeout)
        )
        invocation = bind(
            cube,
            task,
            arguments=given,
            workspace=os.fspath(workspace) if workspace is not None else self.workspace,
            needs=needs,
            run_id=run_id,
            scratch=f"{RunDirectory(run_id).path}/scratch",
        )
        choice = choose(platform, read_settings(), [invocation], gather)
        quiet = -1 if show else os.open(os.devnull, os.O_WRONLY)
        try:
            record = run_task(
                invocation,
                choice.platform,
                cube,
                secrets=_secrets(invocation.secrets, secrets or {}),
                wait_seconds=wait_seconds,
                stdout=1 if show else quiet,
                stderr=2 if show else quiet,
                report=report or (lambda _message: None),
            )
        except Interrupted as error:
            if error.status == 128 + signal.SIGINT:
                raise KeyboardInterrupt(str(error.args[0])) from error
            raise
        finally:
            if not show:
                os.close(quiet)
        outputs = {output.name: output.path for output in invocation.outputs}
        return Run(status=record.exit_status or 0, outputs=outputs, record=record)

    def __repr__(self) -> str:
        return f"<Cube {self.name}: {', '.join(self.tasks)}>"


def load(path: str | os.PathLike[str] = ".", *, overrides: Sequence[str] = (), trust: bool = False) -> Cube:
    """The cube at `path`: a directory, its file, or any other reference to a cube, as `oci://host/name:tag`.

    What is no path is brought to this machine unless it is there, and verified; its parameters then lie in `workspace`
    in the current directory. `overrides` are what `-P` takes on the command line, as in `docker.image=mine:2`. `trust`
    allows what the cube's raw engine arguments open on this machine.

    Raises MissingInput when there is none, InvalidFile with every problem of its file, Untrusted when the policy of
    this machine forbids it; Unreachable, Denied and Damaged for what comes from elsewhere.

    >>> load("examples/hello_world").tasks  # doctest: +SKIP
    ('hello', 'bye')
    """
    from mlcube.obtaining.admitting import admit_path
    from mlcube.reading import read_cube

    text = os.fspath(path)
    if not isinstance(path, str) or os.path.isdir(text):  # plainly a path
        admit_path(text)
        return Cube(*read_cube(text, overrides=overrides, trust=trust))
    from mlcube.obtaining import obtain

    found = obtain(text)
    if found.reference.kind == "path":
        admit_path(found.path)
    if found.admission is not None:
        from mlcube.trust.covering import check_overrides

        check_overrides(found.admission, overrides)
    cube, warnings = read_cube(
        found.path, overrides=(*found.overrides, *overrides), workspace=found.workspace, trust=trust
    )
    if found.admission is not None:
        from mlcube.trust.covering import check_image

        check_image(found.admission, cube)
    loaded = Cube(cube, warnings, found.workspace)
    if found.bundle is not None:
        loaded._from_bundle = partial(_provided, found, tuple(overrides), trust)
    return loaded


def _provided(
    found: "Obtained", overrides: tuple[str, ...], trust: bool, platform: str | None
) -> tuple[content.Cube, str | None]:
    """The cube as it runs on a platform with what its bundle holds, and the platform."""
    from mlcube.bundling import provide
    from mlcube.reading import read_cube
    from mlcube.settings import read_settings
    from mlcube.trust.covering import check_image

    assert found.bundle is not None  # noqa: S101 - who calls has looked
    assert found.config is not None  # noqa: S101 - every bundle has one
    provided = provide(found.bundle, platform, read_settings(), found.config)
    os.environ.update(provided.environment)  # the installers that a runner starts read them
    every = (*found.overrides, *provided.overrides, *overrides)
    cube, _ = read_cube(found.path, overrides=every, workspace=found.workspace, trust=trust)
    check_image(found.admission, cube)
    return cube, platform or provided.platform


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)


def _optional(value: Any) -> str | None:
    return None if value is None else str(value)


def _secrets(wanted: Sequence[content.Secret], given: Mapping[str, str]) -> dict[str, str]:
    """The values of the caller, else of the environment; what raw arguments ask for is the caller's to give."""
    values = {
        **{
            secret.name: os.environ[secret.name]
            for secret in wanted
            if secret.from_environment and secret.name in os.environ
        },
        **given,
    }
    return {secret.name: values[secret.name] for secret in wanted if secret.name in values}
