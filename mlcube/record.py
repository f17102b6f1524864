"""What is kept of a run: a directory with its invocation, plan, log and record."""

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from mlcube import directories, files, locks
from mlcube.errors import Busy, CubeError, EngineUnavailable, UsageError
from mlcube.invocation import Parameter
from mlcube.plan import Plan

__all__ = [
    "BEGUN",
    "Attempt",
    "CubeIdentity",
    "HostDescription",
    "ImageIdentity",
    "Output",
    "Plans",
    "PlatformIdentity",
    "Record",
    "Remaining",
    "RunDirectory",
    "Seconds",
    "Versions",
    "find_id",
    "find_run",
    "killed",
    "new_id",
    "now",
    "remove",
    "runs",
    "settle",
    "unsettled",
    "without_process",
]

_Kind = TypeVar("_Kind")
BEGUN = "begun"
"""The file in a run's directory that is there before its task is started, if the task can outlive `cube`: what comes
after it may have happened."""

Status = Literal["running", "succeeded", "failed", "timed-out", "interrupted", "refused"]


class CubeIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """The cube that was run."""

    name: Annotated[str, Meta(description="The cube's name.")]
    version: Annotated[str | None, Meta(description="The version that the cube gives itself.")] = None
    file: Annotated[str, Meta(description="Absolute path of the file that was read.")]
    digest: Annotated[str, Meta(description="`sha256:...` of the file with what was set on the command line.")]


class PlatformIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Where it was run."""

    name: Annotated[str, Meta(description="The platform's name in the user's settings.")]
    runner: Annotated[str, Meta(description="The runner behind that name.")]


class ImageIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """The image or environment in which the task ran."""

    reference: Annotated[str | None, Meta(description="The name by which the cube asks for it.")] = None
    id: Annotated[str | None, Meta(description="The engine's own `sha256:...` of it.")] = None
    digests: Annotated[tuple[str, ...], Meta(description="The digests by which registries know it.")] = ()


class HostDescription(msgspec.Struct, frozen=True, kw_only=True):
    """The machine on which `cube` ran."""

    name: Annotated[str, Meta(description="The host's name.")]
    system: Annotated[str, Meta(description="The operating system, as in `Linux`.")]
    machine: Annotated[str, Meta(description="The processor's architecture, as in `x86_64`.")]
    kernel: Annotated[str, Meta(description="The kernel's release.")]
    cpus: Annotated[int, Meta(description="How many processors this process may use.")]
    memory_bytes: Annotated[int, Meta(description="The memory of the machine.")]


class Versions(msgspec.Struct, frozen=True, kw_only=True):
    """What took part."""

    cube: Annotated[str, Meta(description="The version of `cube`.")]
    python: Annotated[str, Meta(description="The version of Python that ran `cube`.")]
    facts: Annotated[dict[str, Any], Meta(description="What the runner knew of the host and its engine.")] = {}


class Seconds(msgspec.Struct, frozen=True, kw_only=True):
    """How long it took."""

    prepare: Annotated[float | None, Meta(description="Until the image or environment was available.")] = None
    run: Annotated[float | None, Meta(description="The task alone.")] = None


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """What the task wrote."""

    name: Annotated[str, Meta(description="The parameter's name.")]
    type: Annotated[Literal["file", "directory"], Meta(description="What the parameter is.")]
    path: Annotated[str, Meta(description="Absolute path on the host.")]
    sha256: Annotated[
        str | None,
        Meta(
            description="Of a file, its content; of a directory, a line for each file below it: path, NUL, sha256."
            " Null when it could not be read."
        ),
    ] = None
    bytes: Annotated[int | None, Meta(description="The size of all files together.")] = None
    files: Annotated[int | None, Meta(description="How many files.")] = None


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """Which of several attempts, where the user allowed more than one."""

    number: Annotated[int, Meta(description="From 1.")]
    most: Annotated[int, Meta(description="How many there may be: one, and as many as `--retries` says.")]
    previous: Annotated[str | None, Meta(description="The run of the attempt before, whose task failed.")] = None


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a run. No secret is in it."""

    schema: Annotated[Literal[1], Meta(description="The version of this format.")] = 1
    id: Annotated[str, Meta(description="`YYYYMMDD-HHMMSS-xxxxxxxx`, in UTC; sorts by time.")]
    cube: Annotated[CubeIdentity, Meta(description="The cube that was run.")]
    task: Annotated[str, Meta(description="The task's name.")]
    platform: Annotated[PlatformIdentity, Meta(description="Where it was run.")]
    invocation: Annotated[dict[str, Any], Meta(description="The task bound to arguments, paths and needs.")]
    attempt: Annotated[Attempt | None, Meta(description="Of `--retries`. Null where a failure would be final.")] = None
    plan: Annotated[
        dict[str, Any], Meta(description="The steps, as `prepare` and `run`; empty if there was none.")
    ] = {}
    image: Annotated[ImageIdentity | None, Meta(description="The image or environment in which the task ran.")] = None
    host: Annotated[HostDescription, Meta(description="The machine on which `cube` ran.")]
    versions: Annotated[Versions, Meta(description="What took part.")]
    started: Annotated[str, Meta(description="When the run began: ISO 8601, UTC, milliseconds.")]
    prepared: Annotated[str | None, Meta(description="When the image or environment was available.")] = None
    finished: Annotated[str | None, Meta(description="When everything had ended.")] = None
    seconds: Annotated[Seconds, Meta(description="How long it took.")] = Seconds()
    status: Annotated[Status, Meta(description="How it went.")] = "running"
    exit_status: Annotated[int | None, Meta(description="What `cube` exits with; the task's own, if it ran.")] = None
    message: Annotated[str | None, Meta(description="What went wrong, in words.")] = None
    outputs: Annotated[tuple[Output, ...], Meta(description="What the task wrote, if it succeeded.")] = ()
    unsettled: Annotated[
        str | None, Meta(description="Where something of it may still be, because that place could not be reached.")
    ] = None


class Plans(msgspec.Struct, frozen=True, kw_only=True):
    """Both plans of a run, as they are kept to clean up after a run that was killed."""

    prepare: Plan = Plan()
    run: Plan = Plan()


class Remaining(msgspec.Struct, frozen=True, kw_only=True):
    """What must be known, besides the plan, to bring a run to its end whose process is no more."""

    outputs: tuple[Parameter, ...] = ()
    timeout_seconds: float | None = None
    secrets: tuple[str, ...] = ()
    """Their names: a value that the task prints is hidden in the log."""


class RunDirectory:
    """The files of one run, under `runs` in the state directory."""

    __slots__ = ("id", "path")

    def __init__(self, run_id: str) -> None:
        self.id = run_id
        self.path = os.path.join(directories.state(), "runs", run_id)

    @property
    def _open(self) -> str:
        """There as long as somebody may have to see to something of it."""
        return os.path.join(directories.state(), "open", self.id)

    @property
    def log(self) -> str:
        """What the task and the steps printed."""
        return os.path.join(self.path, "log")

    def create(self) -> None:
        """Make it, for the user alone, held by this process."""
        try:
            for path in (self.path, self._open):
                os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            os.close(os.open(self._open, os.O_WRONLY | os.O_CREAT, 0o600))
            os.mkdir(self.path, 0o700)
        except OSError as error:
            hint = "set CUBE_STATE_DIR to a directory where you may write"
            raise CubeError(f"`{self.path}` cannot be made: {error.strerror}", hint=hint) from error
        self.write("holder.json", locks.this_process())

    def write(self, name: str, content: object, *, durable: bool = False) -> None:
        """Write one of its files."""
        text = msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"
        files.write(os.path.join(self.path, name), text, mode=0o600, durable=durable)

    def write_record(self, record: Record) -> None:
        """Write the record; once the run is over, nobody holds it any more."""
        over = record.status != "running"
        self.write("record.json", record, durable=over)
        if over:
            for name in (
                "holder.json",
                "step.json",
                "task.json",
                "remaining.json",
                "ended.json",
                "brought.json",
                BEGUN,
            ):
                if os.path.exists(os.path.join(self.path, name)):
                    os.unlink(os.path.join(self.path, name))
            _remove_tree(os.path.join(self.path, "job"))
            if not record.unsettled:
                self.close()

    def close(self) -> None:
        """Nobody needs to see to anything of it any more."""
        with suppress(FileNotFoundError):
            os.unlink(self._open)

    def record(self) -> Record | None:
        """The record as it stands; one whose process is dead was interrupted. None if there is none to be read."""
        found = self.read("record.json", Record)
        if found and found.status == "running" and not self.live() and not self.lasts():
            # It may have ended between the two looks.
            found = self.read("record.json", Record) or found
            if found.status == "running":
                return msgspec.structs.replace(found, status="interrupted", message="the run was killed")
        return found

    def live(self) -> bool:
        """Whether a process performs it."""
        holder = self.read("holder.json", locks.Holder)
        return holder is not None and locks.alive(holder)

    def lasts(self) -> bool:
        """Whether its task goes on without the process that began it, and can be taken up by another one."""
        names = ("remaining.json", BEGUN)
        return all(os.path.exists(os.path.join(self.path, name)) for name in names)

    def killed(self) -> bool:
        """Whether its process was killed, and what it left is to be ended."""
        if not os.path.exists(os.path.join(self.path, "holder.json")) or self.live() or self.lasts():
            return False
        found = self.read("record.json", Record)
        return found is not None and found.status == "running"

    def settle(self, *, message: str = "the run was killed") -> None:
        """After a run whose process was killed: end its task, perform what its plan does last, and note it."""
        from mlcube.execute import Execution
        from mlcube.signals import catching

        found = self.read("record.json", Record)
        if self.live() or (found and found.status != "running" and not found.unsettled):
            return
        plans = self.read("plan.json", Plans) or Plans()
        # Where something else ends the task, its engine's client ends with it.
        self.end_processes("step.json", *(("task.json",) if plans.run.kill is None else ()))
        with catching() as signals, Execution(signals=signals) as execution:
            execution.clean_up(plans.run, killed=True)
            execution.clean_up(plans.prepare)
        left_there = (plans.run.elsewhere or "another host") if execution.unreached else None
        if found and os.path.isdir(self.path):
            ended = msgspec.structs.replace(found, unsettled=left_there)
            if found.status == "running":
                ended = msgspec.structs.replace(
                    ended, status="interrupted", exit_status=137, message=message, finished=now()
                )
            self.write_record(ended)
        if left_there:
            raise EngineUnavailable(
                f"run {self.id} is not settled: `{left_there}` cannot be reached, and may hold its outputs",
                hint=f"another run there tries it again; to forget what is there: cube runs remove --force {self.id}",
            )

    def end_processes(self, *names: str) -> None:
        """Those that a process which was killed has left: a step, what followed the task."""
        for name in names:
            process = self.read(name, locks.Holder)
            if process and locks.alive(process):
                _kill_group(process.pid)

    def read(self, name: str, kind: type[_Kind]) -> _Kind | None:
        """One of its files; None if it is not there, or broken."""
        try:
            return msgspec.json.decode(files.read(os.path.join(self.path, name)), type=kind)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None


def _remove_tree(path: str) -> None:
    if os.path.isdir(path):
        import shutil

        shutil.rmtree(path, ignore_errors=True)


def _kill_group(pid: int) -> None:
    """End a process that was started in a session of its own, with all that it started."""
    import signal

    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def new_id() -> str:
    """An identity for a run: sorts by time, is short to type, and is taken by no other run of this user."""
    while True:
        run_id = time.strftime("%Y%m%d-%H%M%S-", time.gmtime()) + os.urandom(4).hex()
        if not os.path.lexists(RunDirectory(run_id).path):
            return run_id


def now() -> str:
    """The time: ISO 8601, UTC, milliseconds."""
    seconds = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03d}Z"


def runs() -> list[Record]:
    """The records of all runs, newest first. What is no run, or broken, is passed over."""
    found = (RunDirectory(run_id).record() for run_id in _ids())
    # Not by id: of two runs in one second, which a script easily makes, either may have the smaller one.
    return sorted((record for record in found if record), key=lambda record: record.started, reverse=True)


def find_run(prefix: str) -> Record:
    """The record of the run whose id begins with `prefix`, or of the `last` one. Raises UsageError if it has none."""
    run_id = find_id(prefix)
    if record := RunDirectory(run_id).record():
        return record
    raise UsageError(f"the record of run `{run_id}` cannot be read", hint=f"cube runs remove {run_id}")


def find_id(prefix: str) -> str:
    """The run whose id begins with `prefix`, or the `last` one; its record may be broken, or not be there at all.

    Raises UsageError unless there is exactly one.
    """
    if prefix == "last":
        if found := runs():
            return found[0].id
        raise UsageError("there are no runs yet", hint="cube run")
    matching = [run_id for run_id in _ids() if run_id.startswith(prefix)]
    if len(matching) > 1 and prefix not in matching:
        some = ", ".join(f"`{run_id}`" for run_id in matching[:5])
        raise UsageError(f"`{prefix}` is the beginning of {len(matching)} runs", hint=f"one of {some}")
    if not matching:
        raise UsageError(f"no run is named `{prefix}`", hint="cube runs list")
    return prefix if prefix in matching else matching[0]


def without_process() -> list[str]:
    """The runs that somebody may have to see to, and that no process performs now."""
    return [run.id for run in map(RunDirectory, _open_ids()) if not run.live()]


def killed(among: Iterable[str] | None = None) -> list[str]:
    """The runs whose process was killed, and that nobody has settled since; `among`: of these."""
    return [run.id for run in map(RunDirectory, without_process() if among is None else among) if run.killed()]


def unsettled(platform: str, among: Iterable[str] | None = None) -> list[str]:
    """The runs of that platform of which something may be left where it could not be reached; `among`: of these."""
    found = []
    for run in map(RunDirectory, without_process() if among is None else among):
        each = run.read("record.json", Record)  # as it stands: one that says `running` may have been killed just now
        if each is None or each.status == "running":
            continue
        if not each.unsettled:
            run.close()  # whoever ended it was killed before it could
        elif each.platform.name == platform:
            found.append(each)
    return [each.id for each in sorted(found, key=lambda record: record.started, reverse=True)]


def remove(run_id: str, *, force: bool = False) -> None:
    """Delete what is kept of a run, and what it left running if it was killed.

    `force`: also where that cannot be reached, and is left there. Raises Busy if it still runs.
    """
    import shutil

    run = RunDirectory(run_id)
    if run_id not in _ids():
        raise UsageError(f"no run is named `{run_id}`", hint="cube runs list")
    if run.live():
        raise Busy(f"run `{run_id}` still runs", hint=f"stop it first: cube cancel {run_id}")
    if run.lasts():
        hint = f"cube wait {run_id}, or cube cancel {run_id}"
        raise Busy(f"run `{run_id}` is not over: its task may go on without cube", hint=hint)
    try:
        run.settle()
    except EngineUnavailable:
        if not force:
            raise
    try:
        shutil.rmtree(run.path)
    except OSError as error:
        raise CubeError(f"`{run.path}` cannot be removed: {error.strerror}") from error
    run.close()


def settle(run_id: str) -> None:
    """After a run whose process was killed: end its task, clean up, and note it as interrupted.

    Raises Busy for one that goes on nevertheless.
    """
    run = RunDirectory(run_id)
    if run.lasts():
        raise Busy(f"run {run_id} goes on without cube", hint=f"cube wait {run_id}")
    run.settle()


def _ids() -> list[str]:
    return _listed("runs")


def _open_ids() -> list[str]:
    """Of runs that go on, that were killed, or that left something: how many there were before costs nobody time."""
    return _listed("open")


def _listed(name: str) -> list[str]:
    return files.names(os.path.join(directories.state(), name))[::-1]
