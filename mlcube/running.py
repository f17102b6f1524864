"""One invocation from plan to record."""

import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from mlcube import __version__, checksum, host, locks, record, workspace
from mlcube.cube import Cube
from mlcube.errors import (
    Busy,
    CubeError,
    EngineUnavailable,
    Interrupted,
    PreparationFailed,
    Refused,
    TimedOut,
    UsageError,
)
from mlcube.execute import Execution
from mlcube.holding import holding
from mlcube.invocation import Invocation, Parameter
from mlcube.patience import SILENT_SECONDS
from mlcube.plan import Plan
from mlcube.record import Output, Plans, Record, RunDirectory
from mlcube.runner import Host, Runner
from mlcube.signals import Signals, catching
from mlcube.task_image import TaskImage

if TYPE_CHECKING:
    from mlcube.platforms import Platform

__all__ = ["configure", "plans", "run_task", "take_up"]


def plans(invocation: Invocation, runner: Runner, host: Host) -> tuple[Plan, Plan]:
    """What will be performed: the plan that prepares, and the whole plan of the run with the workspace's steps."""
    plan = runner.run(invocation, host)
    whole = msgspec.structs.replace(
        plan,
        steps=workspace.before(invocation) + plan.steps,
        after=plan.after + workspace.after(invocation),
        otherwise=plan.otherwise + workspace.otherwise(invocation),
        always=plan.always + workspace.always(invocation),
    )
    return runner.prepare(invocation, host), whole


def configure(invocation: Invocation, platform: "Platform", *, stderr: int = 2, report: Callable[[str], None]) -> None:
    """Make the image or environment available anew, as the user demands it. Keeps no record."""
    facts = host.gather(platform.runner)
    _check_usable(platform.runner, facts)
    with catching() as signals, Execution(signals=signals, stderr=stderr, report=report) as execution:
        _prepare(execution, platform.runner, platform.runner.configure(invocation, facts))


def run_task(
    invocation: Invocation,
    platform: "Platform",
    cube: Cube,
    *,
    secrets: Mapping[str, str],
    wait_seconds: float | None = None,
    attempt: record.Attempt | None = None,
    stdout: int = 1,
    stderr: int = 2,
    report: Callable[[str], None] = lambda _message: None,
    left: Callable[[], None] | None = None,
    facts: Host | None = None,
) -> Record:
    """Run a task to its end and give its record, whose `exit_status` is the task's own.

    `facts` is what the runner knows of the host, if that was asked just now.

    With `left`, the task outlives this process: `take_up` goes on where it was killed. `left` is called when the run
    has an identity and nothing speaks against it.

    What is no failure of the task is raised, with the run's id as the error's `run_id`; the record has it too.
    """
    _settle(platform.name, report)
    with catching() as signals:
        run = _begun(invocation, platform, cube, signals, attempt)
        try:
            whole = _with_values(invocation, secrets)
            known = host.gather(platform.runner) if facts is None else facts
            run.perform(platform.runner, whole, known, secrets, wait_seconds, stdout, stderr, report, left)
        except BaseException as error:
            run.failed(error)
            raise
        return run.record


def take_up(
    run_id: str, *, secrets: Mapping[str, str], report: Callable[[str], None], left: Callable[[], None]
) -> Record:
    """Bring a run to its end whose process was killed, and give its record.

    `left` is called once this process holds the run. Raises Busy if another one does, and what `run_task` raises.
    """
    directory = RunDirectory(run_id)
    with locks.exclusive(os.path.join(directory.path, "lock"), wait_seconds=SILENT_SECONDS):
        found, remaining = directory.record(), directory.read("remaining.json", record.Remaining)
        if directory.live() or found is None or remaining is None or not directory.lasts():
            raise Busy(f"run {run_id} cannot be taken up: it is over, or somebody sees to it")
        directory.write("holder.json", locks.this_process())
    left()
    with catching() as signals:
        run = _Run(directory, found, signals)
        try:
            run.go_on(remaining, secrets, report)
        except BaseException as error:
            run.failed(error)
            raise
        return run.record


def _settle(platform: str, report: Callable[[str], None]) -> None:
    """End and note what runs left that were killed, before another begins; what cannot be settled stays as it is.

    So are those of the same platform of which something was left where it could not be reached.
    """
    idle = record.without_process()
    for run_id in record.killed(idle):
        report(f"run {run_id} was killed: cleaning up what it left")
        try:
            record.settle(run_id)
        except (CubeError, OSError) as error:
            report(f"what run {run_id} left is not cleaned up: {error}")
    for run_id in record.unsettled(platform, idle):
        report(f"run {run_id} left something elsewhere, which is seen to now")
        try:
            record.settle(run_id)
        except (CubeError, OSError):
            continue  # the run that begins now will say why it cannot be reached
        report(f"run {run_id} is settled")


def _begun(
    invocation: Invocation, platform: "Platform", cube: Cube, signals: Signals, attempt: record.Attempt | None
) -> "_Run":
    directory = RunDirectory(invocation.run_id)
    directory.create()
    found = Record(
        id=invocation.run_id,
        cube=record.CubeIdentity(name=cube.name, version=cube.version, file=cube.file, digest=cube.digest),
        task=invocation.task,
        attempt=attempt,
        platform=record.PlatformIdentity(name=platform.name, runner=platform.runner_name),
        invocation=invocation.as_json(),
        image=record.ImageIdentity(reference=invocation.image) if invocation.image else None,
        host=record.HostDescription(**host.describe()),
        versions=record.Versions(cube=__version__, python=sys.version.split()[0]),
        started=record.now(),
    )
    directory.write("invocation.json", found.invocation)
    directory.write_record(found)
    return _Run(directory, found, signals)


class _Run:
    """A run while it is performed, and its record."""

    def __init__(self, directory: RunDirectory, found: Record, signals: Signals) -> None:
        self.directory = directory
        self.record = found
        self.signals = signals

    def perform(
        self,
        runner: Runner,
        invocation: Invocation,
        facts: Host,
        secrets: Mapping[str, str],
        wait_seconds: float | None,
        stdout: int,
        stderr: int,
        report: Callable[[str], None],
        left: Callable[[], None] | None,
    ) -> None:
        """Everything, in order; notes how it went unless something is raised."""
        _check_usable(runner, facts)
        _check_needs(invocation)
        workspace.check_writable(invocation)
        if refused := runner.refuses(invocation, facts):
            raise Refused(refused[0], hint=refused[1])
        prepare, run = plans(invocation, runner, facts)
        remaining = record.Remaining(outputs=invocation.outputs, timeout_seconds=invocation.resources.timeout_seconds)
        if left:
            from mlcube.apart import lasting

            run = lasting(run, invocation)
            names = tuple(secret.name for secret in invocation.secrets)
            self.directory.write("remaining.json", msgspec.structs.replace(remaining, secrets=names))
        both = Plans(prepare=prepare, run=run)
        self.directory.write("plan.json", both)
        self._note(
            plan=msgspec.json.decode(msgspec.json.encode(both)), versions=_with_facts(self.record.versions, facts)
        )
        self.directory.write_record(self.record)
        if left:
            left()

        paths = [output.path for output in invocation.outputs]
        held = holding(
            invocation.run_id, invocation.task, paths, workspace=invocation.workspace,
            wait_seconds=wait_seconds, report=report, pause=self.signals.pause,
        )  # fmt: skip
        with self._execution(stdout, stderr, secrets, report, lasts=bool(left)) as execution, held:
            begun = time.monotonic()
            try:
                _prepare(execution, runner, prepare)
            finally:
                self._note_unreached(execution, run.elsewhere, report)
            self._note(prepared=record.now(), seconds=record.Seconds(prepare=_since(begun)))
            if left:
                self.directory.write_record(self.record)
            self._task(execution, run, remaining, TaskImage(runner, invocation, facts, execution.answers), report)

    def go_on(self, remaining: record.Remaining, secrets: Mapping[str, str], report: Callable[[str], None]) -> None:
        """The same from the task on, which may have begun, and may have ended; it is not started twice."""
        from mlcube.apart import ended

        self.directory.end_processes("step.json", "task.json")
        run = (self.directory.read("plan.json", Plans) or Plans()).run
        status = self.directory.read("ended.json", int)
        brought = self.directory.read("brought.json", int) or 0
        run = msgspec.structs.replace(run, steps=(), after=run.after[brought:])
        if status is not None:
            run = msgspec.structs.replace(run, task=ended(status))
        if status is None and os.path.exists(self.directory.log):  # the job tells all of it once more
            os.truncate(self.directory.log, 0)
        if remaining.timeout_seconds is not None:
            begun = os.stat(os.path.join(self.directory.path, record.BEGUN)).st_mtime
            left = max(1.0, begun + remaining.timeout_seconds - time.time())
            remaining = msgspec.structs.replace(remaining, timeout_seconds=left)
        paths = [output.path for output in remaining.outputs]
        held = holding(self.record.id, self.record.task, paths, report=report, pause=self.signals.pause)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        with self._execution(nowhere, nowhere, secrets, report, lasts=True, brought=brought) as execution, held:
            self._task(execution, run, remaining, None, report)

    def _execution(
        self, stdout: int, stderr: int, secrets: Mapping[str, str], report: Callable[[str], None], *, lasts: bool,
        brought: int = 0,
    ) -> Execution:  # fmt: skip
        def bringing(number: int) -> None:
            """What has been brought to its place is not looked for where it was."""
            self.directory.write("brought.json", brought + number)

        noted = {"ended": self._ended, "bringing": bringing} if lasts else {}
        return Execution(
            signals=self.signals, log=self.directory.log, stdout=stdout, stderr=stderr, secrets=secrets, report=report,
            begun=self._begun, **noted,
        )  # fmt: skip

    def _task(
        self,
        execution: Execution,
        run: Plan,
        remaining: record.Remaining,
        image: TaskImage | None,
        report: Callable[[str], None],
    ) -> None:
        """The task, and what comes after it."""
        places = [os.path.realpath(output.path) for output in remaining.outputs]
        try:
            status = execution.run(run, timeout_seconds=remaining.timeout_seconds, started=self._started(image))
        finally:
            if image:  # else this process has not seen when the task began
                seconds = msgspec.structs.replace(self.record.seconds, run=_rounded(execution.seconds))
                self._note(seconds=seconds, image=image.identity())
            self._note_unreached(execution, run.elsewhere, report)
        if status == 0:
            named = zip(remaining.outputs, places, strict=True)
            self._note(outputs=tuple(self._output(output, place, report) for output, place in named))
        message = execution.reason or (f"the task ended with status {status}" if status else None)
        self.end(status="failed" if status else "succeeded", exit_status=status, message=message)

    def failed(self, error: BaseException) -> None:
        """Note an error as the run's end."""
        if not isinstance(error, CubeError):
            with suppress(CubeError):
                self.end(status="failed", exit_status=1, message=f"{type(error).__name__}: {error}")
            return
        error.run_id = self.record.id
        match error:
            case Interrupted():
                status = "interrupted"
            case TimedOut():
                status = "timed-out"
            case Refused() | EngineUnavailable() | UsageError() | Busy():
                status = "refused"
            case _:
                status = "failed"
        with suppress(CubeError):  # a full disk must not hide what went wrong first
            self.end(status=status, exit_status=error.status, message=error.problems[0].message)

    def end(self, **ending: Any) -> None:
        """Note how the run went, for good."""
        self._note(**ending, finished=record.now())
        self.directory.write_record(self.record)

    def _note_unreached(self, execution: Execution, elsewhere: str | None, report: Callable[[str], None]) -> None:
        """If its end could not be seen to, a later run does it."""
        if not execution.unreached or self.record.unsettled:
            return
        place = elsewhere or "another host"
        self._note(unsettled=place)
        report(
            f"`{place}` could not be reached: the task may still run there, and its outputs may be there\n"
            f"hint: the next run on that platform sees to it, and so does: cube runs remove {self.record.id}"
        )

    def _note(self, **changes: Any) -> None:
        self.record = msgspec.structs.replace(self.record, **changes)

    def _started(self, image: TaskImage | None) -> Callable[[int | None], None]:
        def started(process: int | None) -> None:
            # If this process is killed, the next one finds the task's by this.
            if process is not None and (task := locks.holder_of(process)):
                self.directory.write("task.json", task)
            if image:
                image.ask()

        return started

    def _begun(self, process: int) -> None:
        """What prepares the task can take long, and would go on if this process were killed."""
        if step := locks.holder_of(process):
            self.directory.write("step.json", step)

    def _ended(self, status: int) -> None:
        """From here on the task is not asked any more."""
        self.directory.write("ended.json", status, durable=True)

    def _output(self, output: Parameter, place: str, report: Callable[[str], None]) -> Output:
        found = Output(name=output.name, type=output.type, path=output.path)
        if os.path.realpath(output.path) != place:  # the task made a link of it: what that leads to is not its own
            return found
        late = time.monotonic() + SILENT_SECONDS

        def check() -> None:
            nonlocal late
            self.signals.check()
            if time.monotonic() >= late:
                late = float("inf")
                report(f"computing the checksum of output `{output.name}`")

        try:
            computed = checksum.checksum(output.path, check)
        except OSError:  # an optional one that is not there, or one that is not ours to read
            return found
        return msgspec.structs.replace(found, **msgspec.structs.asdict(computed))


def _with_values(invocation: Invocation, secrets: Mapping[str, str]) -> Invocation:
    """The invocation without the optional secrets that have no value."""
    missing = [secret for secret in invocation.secrets if secret.name not in secrets]
    for secret in missing:
        if not secret.optional:
            raise UsageError(f"the secret `{secret.name}` has no value", hint=f"export {secret.name}=...")
    kept = tuple(secret for secret in invocation.secrets if secret not in missing)
    return msgspec.structs.replace(invocation, secrets=kept) if missing else invocation


def _check_usable(runner: Runner, facts: Host) -> None:
    if reason := runner.unusable(facts):
        raise EngineUnavailable(reason[0], hint=reason[1])


def _check_needs(invocation: Invocation) -> None:
    """What the machine must have, whatever the runner."""
    needs = invocation.resources
    if needs.disk_bytes:
        free = workspace.free_bytes(invocation.workspace)
        if free < needs.disk_bytes:
            raise Refused(
                f"the task needs `disk`: {_gib(needs.disk_bytes)} free, but `{invocation.workspace}` has {_gib(free)}",
                hint="free some, or choose another place with `--workspace`",
            )
    if needs.host_memory_bytes:
        memory = host.describe()["memory_bytes"]
        if memory < needs.host_memory_bytes:
            raise Refused(
                f"the task needs `host_memory_gb`: {_gib(needs.host_memory_bytes)},"
                f" but this machine has {_gib(memory)}",
                hint="run it on a larger machine",
            )


def _prepare(execution: Execution, runner: Runner, plan: Plan) -> None:
    """Perform a preparing plan. If the engine has gone away since it was last asked, say that instead."""
    try:
        execution.prepare(plan)
    except PreparationFailed as error:
        if reason := runner.unusable(host.gather(runner, fresh=True)):
            raise EngineUnavailable(reason[0], hint=reason[1]) from error
        raise


def _with_facts(versions: record.Versions, facts: Host) -> record.Versions:
    return msgspec.structs.replace(versions, facts=dict(facts))


def _since(begun: float) -> float:
    return round(time.monotonic() - begun, 3)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.4g} GiB"
