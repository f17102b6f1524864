"""Performs plans."""

import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from functools import partial

from mlcube import files, locks, patience
from mlcube.asking import ask
from mlcube.child import Child, attend, kill
from mlcube.errors import Busy, CubeError, Interrupted, PreparationFailed, TimedOut
from mlcube.failures import ERRORS, CannotStart, Failed, content, late, said, shortened, too_late
from mlcube.following import follow
from mlcube.in_process import perform
from mlcube.job_here import JobHere
from mlcube.plan import (
    PATIENT_PAUSES,
    PAUSES,
    Command,
    Fail,
    Job,
    Pipe,
    Plan,
    SecretText,
    Step,
    Unless,
    WriteFile,
    only_looks,
)  # fmt: skip
from mlcube.runner import Answer
from mlcube.signals import Signals
from mlcube.starting import start
from mlcube.stopping import GRACE_SECONDS, SHORT_SECONDS, Stopping
from mlcube.stream import Log
from mlcube.task import attend_task

__all__ = ["Execution"]

_LONGEST_PAUSE = 60.0

_KEPT_BYTES = 8192
"""How much of a step's output is kept to be shown if it fails."""


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
        ended: Callable[[int], None] = lambda _status: None,
        bringing: Callable[[int], None] = lambda _number: None,
    ) -> None:
        """`begun` is told the number of each process that a step starts, `ended` the status of the task, and `bringing`
        how many of the steps after the task have been performed."""
        self.seconds: float | None = None
        """How long the task ran; None: it did not."""
        self.answers: dict[tuple[str, ...], Answer] = {}
        """What probes said that succeeded, so that nobody asks the same again."""
        self.reason: str | None = None
        """Why the task failed, where its plan knew how to find out."""
        self.unreached = False
        """Whether a connection failed over which the end of the run should have been seen to."""
        self._signals = signals
        self._log = Log(log)
        self._stdout = stdout
        self._stderr = stderr
        self._secrets = secrets or {}
        self._report = report
        self._begun = begun
        self._ended = ended
        self._bringing = bringing
        self._ending = False
        self._settling = False
        self._prepared_by: tuple[float, float] | None = None
        """When whatever comes before the task must be over, and how many seconds that was."""
        stopping = Stopping(signals, lambda command: start(command, self._log, self._secrets, None))
        self._attended_task = partial(attend_task, signals=signals, stopping=stopping, report=report)

    def prepare(self, plan: Plan) -> None:
        """Perform a plan without a task. Raises PreparationFailed, or Interrupted."""
        succeeded = False
        self._limit()
        try:
            self._steps(plan.steps, PreparationFailed)
            succeeded = True
        finally:
            self._always(plan.always if succeeded else plan.otherwise + plan.always)
        self._signals.check()

    def run(
        self,
        plan: Plan,
        *,
        timeout_seconds: float | None = None,
        started: Callable[[int | None], None] = lambda _process: None,
    ) -> int:
        """Perform a plan and give its task's status; `started` is told the number of the task's process, if it has one.

        Raises what a failing step means, TimedOut, or Interrupted once the task has ended and is cleaned up.
        """
        succeeded = False
        if self._prepared_by is None:
            self._limit()
        try:
            self._steps(plan.steps, PreparationFailed)
            status = self._whole_task(plan, timeout_seconds, started)
            self._ended(status)
            if status == 0:
                for number, step in enumerate(plan.after):
                    if not only_looks(step):
                        self._bringing(number)
                    self._steps((step,), CubeError)
                if not all(map(only_looks, plan.after)):
                    self._bringing(len(plan.after))
                succeeded = True
            else:
                self._diagnose(plan, status)
        finally:
            self._always(plan.always if succeeded else plan.otherwise + plan.always)
        self._signals.check()
        return status

    def clean_up(self, plan: Plan, *, killed: bool = False) -> None:
        """What a plan does last, for a run whose process could not; `killed`: its task may still run."""
        self._settling = True
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

    def _limit(self) -> None:
        """From here on the time counts that preparing may take."""
        limit = patience.prepare_seconds()
        self._prepared_by = None if limit is None else (time.monotonic() + limit, limit)

    def _diagnose(self, plan: Plan, status: int) -> None:
        for diagnosis in plan.diagnoses:
            if diagnosis.status not in (None, status):
                continue
            if ask(diagnosis.probe.argv, environment=diagnosis.probe.environment).output.strip():
                if diagnosis.status in ERRORS:
                    raise ERRORS[diagnosis.status](diagnosis.message, hint=diagnosis.hint)
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
        self._ending, self._prepared_by = True, None
        for step in steps:
            with suppress(CubeError):
                self._step(step, CubeError)
        self._ending = False

    def _step(self, step: Step, failure: type[CubeError]) -> None:
        match step:
            case Command() | Pipe():
                self._command(step, failure)
            case WriteFile():
                self._write(step)
            case Unless():
                self._unless(step, failure)
            case Fail():
                error = ERRORS.get(step.status, CubeError)(step.message, hint=step.hint)
                error.status = step.status
                raise error

    def _command(self, step: Command | Pipe, failure: type[CubeError]) -> None:
        """Perform it; if a connection is what failed, again after a while."""
        once = self._pipe if isinstance(step, Pipe) else self._once
        failed = once(step, failure)  # type: ignore[arg-type]
        interrupted = self._settling or bool(self._signals.received)  # then nobody wants to wait
        patient = step.patient and not interrupted
        pauses = patience.limited(PATIENT_PAUSES if patient else PAUSES) if step.transient else ()
        for number, seconds in enumerate(pauses):
            if failed is None or failed[1] not in step.transient:
                break
            if patient and number == 0:
                self._report("the connection was lost; it is tried again, for hours if need be")
            try:
                self._signals.pause(min(seconds, 1.0) if interrupted else min(seconds, _LONGEST_PAUSE))
            except Interrupted:
                if not interrupted:
                    self.unreached = self.unreached or step.patient
                    raise
            failed = once(step, failure)  # type: ignore[arg-type]
        if failed:
            command, status, said = failed
            self.unreached = self.unreached or (status in step.transient and (self._ending or step.patient))
            what = command.failure or f"`{shortened(command.argv)}` failed with status {status}"
            raise failure(f"{what}{said}", hint=command.hint)

    def _once(self, command: Command, failure: type[CubeError]) -> Failed | None:
        if perform(command) == 0:
            return None
        outlets = (None, None) if command.quiet else (self._stderr, self._stderr)
        child = self._start(command, outlets, failure)
        kept = [route.kept for route in reversed(child.routes)]
        what = command.waiting or (f"`{shortened(command.argv, 80)}`" if command.quiet else None)
        status = self._attend_step(child, what)
        return (command, status, said(kept, command.quiet)) if status else None

    def _pipe(self, pipe: Pipe, failure: type[CubeError]) -> Failed | None:
        reading, writing = os.pipe()
        try:
            target = self._start(pipe.target, (None, None), failure, stdin=reading)
            try:
                # Nobody attends to what it complains of, and it must not wait for that.
                complaints = files.unnamed(b"")
                source = self._start(pipe.source, None, failure, stdout=writing, stderr=complaints)
            except CubeError:
                kill(target)
                target.close()
                raise
        finally:
            os.close(reading)
            os.close(writing)
        kept = [route.kept for route in reversed(target.routes)]
        try:
            received = self._attend_step(target, pipe.waiting or f"`{shortened(pipe.target.argv, 80)}`")
            attend(source, deadline=time.monotonic() + SHORT_SECONDS)
        finally:
            kill(source)
            source.close()
            kept.append(files.end_of(complaints, _KEPT_BYTES))
        sent = source.reap()
        # Whoever reads no more ends the other one; whoever ends too early is the one that failed.
        for command, status in ((pipe.target, received), (pipe.source, sent)):
            if status:
                return command, status, said(kept, True)
        return None

    def _start(
        self,
        command: Command,
        outlets: tuple[int | None, int | None] | None,
        failure: type[CubeError],
        **ends: int,
    ) -> Child:
        try:
            return start(command, self._log, self._secrets, outlets, keep=_KEPT_BYTES, **ends)
        except CannotStart as error:
            raise failure(str(error), hint=command.hint) from None

    def _unless(self, step: Unless, failure: type[CubeError]) -> None:
        if self._probe(step.probe):
            return
        if step.lock is None:
            self._unless_steps(step, failure)
            return
        what = f", which is busy with: {step.title}" if step.title else ""
        until, _ = self._prepared_by or (float("inf"), 0.0)
        with ExitStack() as held:
            try:
                held.enter_context(
                    locks.exclusive(
                        step.lock,
                        wait_seconds=max(0.0, until - time.monotonic()),
                        waiting=lambda message: self._report(message + what),
                        pause=self._signals.pause,
                    )
                )
            except Busy:
                raise self._too_late() from None
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
            child = start(command, Log(None), self._secrets, (None, None), keep=1 << 16)
        except CannotStart:
            return False
        output, errors = child.routes
        status = self._attend_step(child)
        if status == 0 and command == Command(argv=command.argv, quiet=command.quiet):
            texts = (bytes(route.kept).decode(errors="replace") for route in (output, errors))
            self.answers[command.argv] = Answer(status, *texts)
        return status == 0

    def _attend_step(self, child: Child, what: str | None = None) -> int:
        """The step's status; `what` is told to the user who waits. A signal stops it, or the end of the time that
        preparing has; while cleaning up, a signal skips it.
        """
        try:
            self._begun(child.process.pid)
            came = self._attended(child, what)
            if came == "late":
                child.impatient = True
                child.signal(signal.SIGTERM)
                attend(child, signals=self._signals, deadline=time.monotonic() + GRACE_SECONDS)
                raise self._too_late()
            if came == "signal" and self._ending and len(self._signals.received) == 1:
                # Nobody knew that all was over but this; whoever is impatient says so again.
                came = attend(child, signals=self._signals)
            if came == "signal":
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

    def _attended(self, child: Child, what: str | None) -> str:
        told_by = time.monotonic() + patience.SILENT_SECONDS if what else float("inf")
        until, _ = self._prepared_by or (float("inf"), 0.0)
        while True:
            deadline = min(told_by, until)
            came = attend(child, signals=self._signals, deadline=None if deadline == float("inf") else deadline)
            if came != "late" or time.monotonic() >= until:
                return came
            self._report(f"waiting for {what}")
            told_by = float("inf")

    def _too_late(self) -> TimedOut:
        return too_late(self._prepared_by[1] if self._prepared_by else 0.0)

    def _write(self, step: WriteFile) -> None:
        mode = 0o600 if isinstance(step.text, SecretText) else 0o666
        files.write(step.path, content(step.text, self._secrets), mode=mode)

    # The task

    def _whole_task(self, plan: Plan, timeout_seconds: float | None, started: Callable[[int | None], None]) -> int:
        """The task's status, wherever it runs."""
        match plan.task:
            case None:
                return 0
            case Command() as task:
                self._prepared_by = None
                try:
                    return self._task(plan, task, timeout_seconds, None, started)[0]
                except CannotStart as error:
                    self._log.write(f"{error}\n".encode())
                    self._report(str(error))
                    return error.status
            case Job() as job:
                return self._job(plan, job, None if job.timed else timeout_seconds, started)

    def _job(self, plan: Plan, job: Job, timeout_seconds: float | None, started: Callable[[int | None], None]) -> int:
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        begun = time.monotonic()

        def once(command: Command) -> tuple[int, int, int]:
            try:
                return self._task(plan, command, timeout_seconds, deadline, started, job.waiting)
            except CannotStart as error:
                raise CubeError(str(error), hint=command.hint) from None

        def pause(seconds: float) -> None:
            """Wait while nobody is connected: a signal or the end of the time is then told to the job."""
            left = seconds if deadline is None else deadline - time.monotonic()
            self._signals.pause(min(seconds, left))
            if left <= 0:
                raise late(timeout_seconds)

        def here(directory: str) -> tuple[int | None, tuple[int, int]]:
            """The status, unless only the job's script can tell it, and how much was carried."""
            self._signals.check()
            child = JobHere(directory, self._log, self._secrets, (self._stdout, self._stderr))
            status = self._attended_task(
                plan, child, child.deliveries, partial(started, None), timeout_seconds, deadline, job.waiting
            )
            return status if child.known else None, child.carried

        ending = tuple(step for step in (plan.stop, plan.kill) if step)
        try:
            self._command(job.start, PreparationFailed)
        except CubeError:  # it may have begun nevertheless
            self._always(ending)
            raise
        self._prepared_by = None
        try:
            status, known = here(job.directory) if job.directory else (None, (0, 0))
            if status is not None:
                return status
            return follow(job, once, self._told, pause, self._report, known)
        except (Interrupted, TimedOut):
            if not self._told(job.status):  # it was not to be stopped while nobody was connected
                self._always(ending)
            raise
        finally:
            self.seconds = time.monotonic() - begun

    def _told(self, command: Command) -> str:
        """What a command prints; nothing if it fails."""
        child = start(command, Log(None), self._secrets, (None, None), keep=_KEPT_BYTES)
        output = child.routes[0]
        return bytes(output.kept).decode(errors="replace") if self._attend_step(child) == 0 else ""

    def _task(
        self,
        plan: Plan,
        task: Command,
        timeout_seconds: float | None,
        deadline: float | None,
        started: Callable[[int | None], None],
        waiting: str | None = None,
    ) -> tuple[int, int, int]:
        """The status of the task's process, how many bytes it put out, and how many as errors; `waiting` is told when
        there are none for a while.
        """
        self._signals.check()
        child = start(task, self._log, self._secrets, (self._stdout, self._stderr))
        begun = time.monotonic()
        output, errors = routes = tuple(child.routes)
        try:
            status = self._attended_task(
                plan, child, routes, partial(started, child.process.pid), timeout_seconds, deadline, waiting
            )
        finally:
            self.seconds = time.monotonic() - begun
        return status, output.carried, errors.carried
