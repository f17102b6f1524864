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
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from mlcube import cube as content
from mlcube.errors import CubeError, Interrupted, Problem, UsageError
from mlcube.named import Named, named_by

__all__ = ["Cube", "Run", "TaskFailed", "load", "wait"]


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

    def __init__(
        self,
        cube: content.Cube,
        warnings: tuple[Problem, ...] = (),
        *,
        workspace: str | None = None,
        loaded: Sequence[str] = (),
    ) -> None:
        self.content = cube
        self.warnings = warnings
        self.workspace = workspace
        """Where parameters lie unless `run` is told otherwise; None: in the cube's own workspace."""
        self._loaded = tuple(loaded) or (f"--mlcube={cube.file}",)
        self._named = Named(path=cube.file, text=cube.file)
        self._overrides: tuple[str, ...] = ()
        self._trust = False

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
        from mlcube.obtaining.admitting import admit_path
        from mlcube.platforms import choose
        from mlcube.record import RunDirectory, new_id
        from mlcube.running import run_task
        from mlcube.settings import read_settings

        if self._named.obtained is None:
            admit_path(self.content.file)
        given = {name: _text(value) for name, value in {**(parameters or {}), **arguments}.items()}
        check_arguments(self.content, [task], given)
        settings = read_settings()
        named, platform = self._named.on(platform, settings)
        cube = named.admitted(self._overrides, trust=self._trust).cube if named.provided else self.content
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
        choice = choose(platform, settings, [invocation], gather)
        named.check_made(invocation, choice)
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

    def leave(
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
        parameters: Mapping[str, Any] | None = None,
        **arguments: Any,
    ) -> str:
        """Leave a task to a process in the background, which outlives this one; gives the run's id.

        The arguments are those of `run`. It returns as soon as nothing speaks against the run; `mlcube.wait` waits for
        its end, and so do `cube wait`, `cube logs -f` and `cube cancel`, from anywhere. Secrets reach that process in
        its environment.

        Raises a CubeError for all that speaks against it.

        >>> run_id = mlcube.load("examples/digits").leave("train", platform="cluster")  # doctest: +SKIP
        >>> mlcube.wait(run_id).check().outputs["model"]  # doctest: +SKIP
        '/home/me/digits/workspace/model'
        """
        given = {name: _text(value) for name, value in {**(parameters or {}), **arguments}.items()}
        options = {
            "--platform": platform, "--workspace": None if workspace is None else os.fspath(workspace),
            "--gpus": gpus, "--memory": memory, "--cpu": cpu, "--network": network, "--timeout": timeout,
            "--wait": None if wait_seconds is None else f"{wait_seconds:g}",
        }  # fmt: skip
        words = [f"{name}={value}" for name, value in options.items() if value is not None]
        words += [f"{name}={value}" for name, value in given.items()]
        argv = ("run", "--detach", *self._loaded, f"--task={task}", *words)
        return _asked(argv, environment=secrets).strip()

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
    text = os.fspath(path)
    named = Named(path=text, text=text)
    if isinstance(path, str) and not os.path.isdir(text):  # else it is plainly a path
        from mlcube.obtaining import obtain

        named = named_by(text, obtain(text))
    cube, warnings, _ = named.admitted(overrides, trust=trust)
    words = (*(f"-P{each}" for each in overrides), *(["--trust"] if trust else []))
    where = f"--mlcube={cube.file if named.obtained is None else text}"
    loaded = Cube(cube, warnings, workspace=named.workspace, loaded=(where, *words))
    loaded._named, loaded._overrides, loaded._trust = named, tuple(overrides), trust
    return loaded


def wait(run_id: str, *, timeout: str | float | None = None) -> Run:
    """Wait until a run that was left is over, whoever began it; one whose process was killed is brought to its end.

    Raises TimedOut if that takes longer than `timeout`, and the run goes on; KeyboardInterrupt ends the waiting alone.

    >>> mlcube.wait("20250131-101500-a1b2c3d4", timeout="2h").status  # doctest: +SKIP
    0
    """
    from mlcube.amounts import duration
    from mlcube.awaiting import until_over
    from mlcube.record import RunDirectory, find_id, find_run

    known = find_id(run_id)
    try:
        limit = None if timeout is None else duration(str(timeout))
    except ValueError as error:
        raise UsageError(f"`timeout` takes {error}") from None
    deadline = None if limit is None else time.monotonic() + limit
    found = find_run(known)
    if found.finished is None and RunDirectory(known).live():
        found = until_over(RunDirectory(known), timeout_seconds=limit, what=f"the end of run {known}")
    if found.finished is None:  # whoever saw to it was killed; where threads may run, nobody else can begin
        left = () if deadline is None else (f"--timeout={max(deadline - time.monotonic(), 0.001):.3f}",)
        try:
            _asked(("wait", known, *left), environment=None)
        except CubeError:
            if find_run(known).finished is None:
                raise
        found = find_run(known)
    return Run(
        status=found.exit_status or 0, outputs={output.name: output.path for output in found.outputs}, record=found
    )


def _asked(argv: Sequence[str], *, environment: Mapping[str, str] | None) -> str:
    """What the command line prints. Raises what it says is wrong."""
    from mlcube import forks
    from mlcube.failures import ERRORS

    answer = forks.perform(argv, environment=environment)
    if not answer.status:
        return answer.output
    _, _, said = f"\n{answer.error}".rpartition("\nerror: ")
    message, _, hint = said.strip().partition("\nhint: ")
    error = ERRORS.get(answer.status, CubeError)(message or f"status {answer.status}", hint=hint or None)
    error.status = answer.status
    raise error


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
