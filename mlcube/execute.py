"""Performs plans. The only module that starts processes."""

import os
import shlex
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from mlcube import files, locks
from mlcube.child import Child, attend, kill
from mlcube.errors import (
    Busy,
    CubeError,
    EngineUnavailable,
    MissingInput,
    MissingOutput,
    PreparationFailed,
    Refused,
    TimedOut,
    UsageError,
)
from mlcube.in_process import perform
from mlcube.plan import Command, Fail, Plan, SecretText, Step, Unless, WriteFile
from mlcube.redaction import Redaction
from mlcube.runner import Answer
from mlcube.signals import Signals
from mlcube.stream import Log, Outlet, Route

__all__ = ["Execution", "ask"]

GRACE_SECONDS = 10.0
"""How long a task may take to end when it is asked to."""

_SHORT_SECONDS = 2.0
"""How long an engine's client may take to end once its task has, or once it is told to."""

_KEPT_BYTES = 8192
"""How much of a step's output is kept to be shown if it fails."""

_ERRORS: dict[int, type[CubeError]] = {
    error.status: error
    for error in (
        UsageError,
        MissingInput,
        EngineUnavailable,
        MissingOutput,
        PreparationFailed,
        Busy,
        Refused,
        TimedOut,
    )
}


class _CannotStart(Exception):
    """A command that could not even be started."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def ask(argv: Sequence[str], *, environment: Mapping[str, str] | None = None, timeout_seconds: float = 30.0) -> Answer:
    """What a command says. A missing executable is an answer too, with status 127; one that is too slow has 124."""
    command = Command(argv=tuple(argv), environment=environment or {})
    try:
        child = _start(command, Log(None), {}, (None, None), keep=1 << 26)
    except _CannotStart as error:
        return Answer(error.status, "", str(error))
    output, errors = child.routes
    try:
        late = attend(child, deadline=time.monotonic() + timeout_seconds) == "late"
    finally:
        if not child.gone:
            kill(child)
        child.close()
    status = child.reap() if child.gone else 124
    if late:
        return Answer(124, "", f"`{argv[0]}` gave no answer within {timeout_seconds:g} seconds")
    return Answer(status, output.kept.decode(errors="replace"), errors.kept.decode(errors="replace"))


class Execution:
    """Performs plans one after the other, with one log, one set of secrets and one set of signals."""

    def __init__(
        self,
        *,
        signals: Signals,
        log: str | None = None,
        stdout: int = 1,
        stderr: int = 2,
        secrets: Mapping[str, str] | None = None,
        report: Callable[[str], None] = lambda _message: None,
        begun: Callable[[int], None] = lambda _process: None,
    ) -> None:
        """`begun` is told the number of each process that a step starts."""
        self.seconds: float | None = None
        """How long the task ran; None: it did not."""
        self.answers: dict[tuple[str, ...], Answer] = {}
        """What probes said that succeeded, so that nobody asks the same again."""
        self.reason: str | None = None
        """Why the task failed, where its plan knew how to find out."""
        self._signals = signals
        self._log = Log(log)
        self._stdout = stdout
        self._stderr = stderr
        self._secrets = secrets or {}
        self._report = report
        self._begun = begun
        self._ending = False

    def prepare(self, plan: Plan) -> None:
        """Perform a plan without a task. Raises PreparationFailed, or Interrupted."""
        try:
            self._steps(plan.steps, PreparationFailed)
        finally:
            self._always(plan.always)
        self._signals.check()

    def run(
        self,
        plan: Plan,
        *,
        timeout_seconds: float | None = None,
        started: Callable[[int], None] = lambda _process: None,
    ) -> int:
        """Perform a plan and give its task's status; `started` is told the number of the task's process.

        Raises what a failing step means, TimedOut, or Interrupted once the task has ended and is cleaned up.
        """
        succeeded = False
        try:
            self._steps(plan.steps, PreparationFailed)
            status = self._task(plan, plan.task, timeout_seconds, started) if plan.task else 0
            if status == 0:
                self._steps(plan.after, CubeError)
                succeeded = True
            else:
                self._diagnose(plan, status)
        finally:
            self._always(plan.always if succeeded else plan.otherwise + plan.always)
        self._signals.check()
        return status

    def clean_up(self, plan: Plan, *, killed: bool = False) -> None:
        """What a plan does last, for a run whose process could not; `killed`: its task may still run."""
        self._always(((plan.kill,) if plan.kill and killed else ()) + plan.otherwise + plan.always)

    def close(self) -> None:
        """Let go of the log; says if it is not whole."""
        self._log.close()
        if self._log.error:
            self._report(f"the log of this run is not complete: {self._log.error.strerror}")

    def __enter__(self) -> "Execution":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _diagnose(self, plan: Plan, status: int) -> None:
        for diagnosis in plan.diagnoses:
            if diagnosis.status not in (None, status):
                continue
            if ask(diagnosis.probe.argv, environment=diagnosis.probe.environment).output.strip():
                self.reason = diagnosis.message
                if not diagnosis.started:
                    self.seconds = None
                self._report(f"{diagnosis.message}\nhint: {diagnosis.hint}" if diagnosis.hint else diagnosis.message)

    # Steps

    def _steps(self, steps: tuple[Step, ...], failure: type[CubeError]) -> None:
        for step in steps:
            if not self._ending:
                self._signals.check()
            self._step(step, failure)

    def _always(self, steps: tuple[Step, ...]) -> None:
        self._ending = True
        for step in steps:
            with suppress(CubeError):
                self._step(step, CubeError)
        self._ending = False

    def _step(self, step: Step, failure: type[CubeError]) -> None:
        match step:
            case Command():
                self._command(step, failure)
            case WriteFile():
                self._write(step)
            case Unless():
                self._unless(step, failure)
            case Fail():
                error = _ERRORS.get(step.status, CubeError)(step.message, hint=step.hint)
                error.status = step.status
                raise error

    def _command(self, command: Command, failure: type[CubeError]) -> None:
        if perform(command) == 0:
            return
        outlets = (None, None) if command.quiet else (self._stderr, self._stderr)
        try:
            child = _start(command, self._log, self._secrets, outlets, keep=_KEPT_BYTES)
        except _CannotStart as error:
            raise failure(str(error), hint=command.hint) from None
        output, errors = child.routes
        status = self._attend_step(child)
        if status:
            text = bytes(errors.kept).decode(errors="replace").strip() or bytes(output.kept).decode(errors="replace")
            lines = [line.rstrip() for line in text.splitlines() if line.strip()]
            # What was shown already is not shown again, but for the line that usually says why.
            lines = lines[-10:] if command.quiet else lines[-1:]
            said = "".join(f"\n  {line}" for line in lines) if len(lines) > 1 else "".join(f": {x}" for x in lines)
            raise failure(f"`{_shortened(command.argv)}` failed with status {status}{said}", hint=command.hint)

    def _unless(self, step: Unless, failure: type[CubeError]) -> None:
        if self._probe(step.probe):
            return
        if step.lock is None:
            self._unless_steps(step, failure)
            return
        what = f", which is busy with: {step.title}" if step.title else ""
        with locks.exclusive(
            step.lock,
            wait_seconds=float("inf"),
            waiting=lambda message: self._report(message + what),
            pause=self._signals.pause,
        ):
            if not self._probe(step.probe):
                self._unless_steps(step, failure)

    def _unless_steps(self, step: Unless, failure: type[CubeError]) -> None:
        if step.title:
            self._report(step.title)
        self._steps(step.steps, failure)

    def _probe(self, command: Command) -> bool:
        if (status := perform(command)) is not None:
            return status == 0
        try:
            child = _start(command, Log(None), self._secrets, (None, None), keep=1 << 16)
        except _CannotStart:
            return False
        output, errors = child.routes
        status = self._attend_step(child)
        if status == 0 and command == Command(argv=command.argv, quiet=command.quiet):
            texts = (bytes(route.kept).decode(errors="replace") for route in (output, errors))
            self.answers[command.argv] = Answer(status, *texts)
        return status == 0

    def _attend_step(self, child: Child) -> int:
        """The step's status. A signal stops it; while cleaning up, a signal skips it."""
        try:
            self._begun(child.process.pid)
            if attend(child, signals=self._signals) == "signal":
                if not self._ending:
                    child.impatient = True
                    child.signal(self._signals.received[-1])
                    attend(child, signals=self._signals, deadline=time.monotonic() + GRACE_SECONDS)
                raise self._signals.interrupted()
        finally:
            if not child.gone:
                kill(child)
            child.close()
        return child.reap()

    def _write(self, step: WriteFile) -> None:
        if isinstance(step.text, SecretText):
            if step.text.name not in self._secrets:
                raise UsageError(f"the secret `{step.text.name}` has no value")
            files.write(step.path, _bytes(self._secrets[step.text.name]), mode=0o600)
        else:
            files.write(step.path, _bytes(step.text))

    # The task

    def _task(self, plan: Plan, task: Command, timeout_seconds: float | None, started: Callable[[int], None]) -> int:
        self._signals.check()
        try:
            child = _start(task, self._log, self._secrets, (self._stdout, self._stderr))
        except _CannotStart as error:
            self._log.write(f"{error}\n".encode())
            self._report(str(error))
            return error.status
        outlets = [route.outlet for route in child.routes if route.outlet]
        begun = time.monotonic()
        deadline = None if timeout_seconds is None else begun + timeout_seconds
        try:
            started(child.process.pid)
            reason = attend(child, signals=self._signals, deadline=deadline)
            if reason != "ended":
                self._stop(plan, child, self._signals.received[-1] if reason == "signal" else signal.SIGTERM)
        finally:
            if not child.gone:  # only after an error of our own, or a process that nothing can end
                self._end(plan, child)
            self.seconds = time.monotonic() - begun
            # As in a container, nothing that the task left in the background outlives it.
            child.signal(signal.SIGKILL)
            child.close()
        for outlet in outlets:
            if outlet.error:
                self._report(f"the task's output could not be shown: {outlet.error.strerror}")
        if reason == "signal":
            raise self._signals.interrupted()
        if reason == "late":
            raise TimedOut(f"the task was stopped after its time limit of {timeout_seconds:g} seconds")
        return child.reap()

    def _stop(self, plan: Plan, child: Child, number: int) -> None:
        """Ask the task to end; insist after a grace, or at another signal."""
        child.impatient = True
        deadline = time.monotonic() + GRACE_SECONDS
        asked = "done"
        if plan.stop is None:
            child.signal(number)
        else:
            # The engine may itself wait as long before it insists.
            asked = self._beside(plan.stop, child, deadline + _SHORT_SECONDS)
        if asked == "done":  # and not cut short by another signal
            attend(child, signals=self._signals, deadline=deadline)
        if asked == "failed" or not child.gone:
            self._end(plan, child, found=asked != "failed")

    def _end(self, plan: Plan, child: Child, *, found: bool = True) -> None:
        """End the task at once. If it was not found, its engine's client may still be about to start it."""
        child.impatient = True
        if plan.kill and found:
            self._beside(plan.kill, child, time.monotonic() + GRACE_SECONDS)
            attend(child, deadline=time.monotonic() + _SHORT_SECONDS)
        if plan.kill and not child.gone:
            child.signal(signal.SIGTERM)
            attend(child, signals=self._signals, deadline=time.monotonic() + _SHORT_SECONDS)
        if not child.gone:
            kill(child)
        if plan.kill and not found:
            # What the client asked for last may take effect after its end.
            for pause in (0.0, 0.5):
                time.sleep(pause)
                self._beside(plan.kill, child, time.monotonic() + GRACE_SECONDS)

    def _beside(self, command: Command, child: Child, deadline: float) -> str:
        """Perform a command while the child's output is carried on: `done`, `failed` or `late`; a signal ends it."""
        try:
            helper = _start(command, self._log, self._secrets, None)
        except _CannotStart:
            return "failed"
        try:
            reason = attend(child, signals=self._signals, deadline=deadline, beside=helper)
            if reason == "ended":
                reason = attend(helper, signals=self._signals, deadline=deadline)
        finally:
            if not helper.gone:
                kill(helper)
            helper.close()
        if reason in ("signal", "late"):
            return "late"
        return "failed" if helper.reap() else "done"


def _start(
    command: Command,
    log: Log,
    secrets: Mapping[str, str],
    outlets: tuple[int | None, int | None] | None,
    keep: int = 0,
) -> Child:
    """Start a command in a session of its own; its output goes to the log and to the outlets, or nowhere if None."""
    import subprocess

    environment: dict[str, str] | None = None
    if command.clean or command.environment or command.secrets:
        environment = {} if command.clean else dict(os.environ)
        environment.update(command.environment)
        environment.update({name: secrets[name] for name in command.secrets if name in secrets})
    target = subprocess.DEVNULL if outlets is None else subprocess.PIPE
    try:
        process = subprocess.Popen(
            command.argv,
            bufsize=0,
            stdin=subprocess.DEVNULL,
            stdout=target,
            stderr=target,
            cwd=command.directory,
            env=environment,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise _why(error, command) from None
    routes: list[Route] = []
    for pipe, descriptor in zip((process.stdout, process.stderr), outlets or (), strict=False):
        if pipe is not None:
            source = os.dup(pipe.fileno())
            pipe.close()
            hide = Redaction(value.encode(errors="surrogateescape") for value in secrets.values()) if secrets else None
            routes.append(Route(source, log, None if descriptor is None else Outlet(descriptor), keep, hide))
    return Child(process, tuple(routes))


def _why(error: OSError | ValueError, command: Command) -> _CannotStart:
    """What kept a command from starting, with the status that a shell would give."""
    executable = command.argv[0]
    if isinstance(error, ValueError):  # a NUL, or a name of a variable with `=`; the text holds no value
        return _CannotStart(f"`{executable}` cannot be started: {error}", 126)
    if command.directory and error.filename == command.directory:
        return _CannotStart(f"the directory `{command.directory}` cannot be entered: {error.strerror}", 126)
    if isinstance(error, FileNotFoundError):
        # Also a script whose interpreter is missing, which the kernel reports in the same words.
        missing = "its interpreter is missing" if os.path.isfile(executable) else "there is no such executable"
        return _CannotStart(f"`{executable}` cannot be started: {missing}", 127)
    return _CannotStart(f"`{executable}` cannot be started: {error.strerror}", 126)


def _shortened(argv: tuple[str, ...]) -> str:
    text = shlex.join(argv)
    return text if len(text) <= 200 else text[:197] + "..."


def _bytes(text: str) -> bytes:
    """As it came: a name that is not UTF-8 stands in a text with its bytes escaped."""
    return text.encode(errors="surrogateescape")
