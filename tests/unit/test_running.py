"""One invocation from plan to record, with real processes, real signals and real deaths."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from mlcube import directories, record
from mlcube.checksum import checksum
from mlcube.cube import Resources, Secret
from mlcube.errors import (
    Busy,
    CubeError,
    EngineUnavailable,
    Interrupted,
    MissingOutput,
    PreparationFailed,
    Refused,
    TimedOut,
    UsageError,
)
from mlcube.invocation import Invocation
from mlcube.plan import Unless, command
from mlcube.record import Record, RunDirectory
from mlcube.runner import Fact, Host
from mlcube.running import plans, run_task
from tests.unit.shell_runner import ShellRunner, cube, invocation, platform

SHELL_RUNNER = str(Path(__file__).with_name("shell_runner.py"))


def run(root: Path, bound: Invocation, runner: ShellRunner | None = None, **more: object) -> Record:
    options = {"secrets": {}, "wait_seconds": None, **more}
    return run_task(bound, platform(runner), cube(root), **options)  # type: ignore[arg-type]


def left_behind(root: Path) -> list[str]:
    return [path.name for path in root.iterdir() if path.name.startswith("scratch-")]


def until(path: Path) -> None:
    for _ in range(1000):
        if path.exists():
            return
        time.sleep(0.01)
    raise AssertionError(f"{path} never came")


def ends(pid: int) -> bool:
    """Whether a process is gone, or goes in the next moment."""
    for _ in range(200):
        try:
            if Path(f"/proc/{pid}/cmdline").read_bytes() == b"":  # a zombie
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)
    return False


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that run a task; none outlives its test."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stderr:
            process.stderr.close()


def start(children: list[subprocess.Popen[str]], root: Path, script: str, *wait: str) -> subprocess.Popen[str]:
    (root / "workspace").mkdir(exist_ok=True)
    argv = [sys.executable, SHELL_RUNNER, str(root), script, *wait]
    children.append(subprocess.Popen(argv, text=True, stderr=subprocess.PIPE))
    return children[-1]


# What is kept


def test_the_image_is_not_asked_for_again_when_preparing_has_asked(tmp_path: Path) -> None:
    counted = ("sh", "-c", f"echo x >>{tmp_path}/asked; echo sha256:$(wc -l <{tmp_path}/asked)")
    prepared = (Unless(probe=command(*counted), steps=()),)

    class Asking(ShellRunner, frozen=True, kw_only=True):
        def identify(self, invocation: Invocation, host: Host) -> Fact | None:
            return Fact(name="image", argv=counted, parse=lambda said: {"id": said.output.strip()})

    done = run(tmp_path, invocation(tmp_path, "true"), runner=Asking(prepared_by=prepared))
    assert done.image
    assert done.image.id == "sha256:1"
    assert (tmp_path / "asked").read_text() == "x\n"


def test_a_run_whose_workspace_cannot_be_written_says_so_and_starts_nothing(tmp_path: Path) -> None:
    bound = invocation(tmp_path, "touch ran")
    bound = msgspec.structs.replace(bound, workspace="/proc/sys/w")
    with pytest.raises(CubeError, match="the workspace `/proc/sys/w` cannot be written"):
        run(tmp_path, bound)
    found = record.find_run(bound.run_id)
    assert found.status == "failed"
    assert not (tmp_path / "ran").exists()
    assert left_behind(tmp_path) == []


def test_a_run_that_succeeds_leaves_a_whole_record(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bound = invocation(tmp_path, "echo hello; printf model >out", outputs=("out",))
    done = run(tmp_path, bound)
    assert (done.status, done.exit_status, done.message) == ("succeeded", 0, None)
    assert done == record.find_run(bound.run_id)
    (output,) = done.outputs
    assert output.sha256 == hashlib.sha256(b"model").hexdigest()
    assert (output.bytes, output.files) == (5, 1)
    assert done.image
    assert done.image.id == "sha256:1234"
    assert done.versions.facts == {"shell": {"status": 0, "output": "7"}}
    assert done.prepared
    assert done.finished
    assert done.started <= done.prepared <= done.finished
    assert done.seconds.run is not None
    assert set(done.plan) == {"prepare", "run"}
    assert capfd.readouterr().out == "hello\n"
    assert Path(RunDirectory(done.id).log).read_text() == "hello\n"
    assert sorted(os.listdir(RunDirectory(done.id).path)) == ["invocation.json", "log", "plan.json", "record.json"]
    assert left_behind(tmp_path) == []


def test_the_tasks_own_failure_is_returned_not_raised(tmp_path: Path) -> None:
    done = run(tmp_path, invocation(tmp_path, "exit 42", outputs=("out",)))
    assert (done.status, done.exit_status) == ("failed", 42)
    assert done.message == "the task ended with status 42"
    assert done.outputs == ()
    assert left_behind(tmp_path) == []


def test_an_output_that_is_missing_after_success_is_an_error(tmp_path: Path) -> None:
    bound = invocation(tmp_path, "true", outputs=("out",))
    with pytest.raises(MissingOutput) as caught:
        run(tmp_path, bound)
    assert caught.value.run_id == bound.run_id
    assert (record.find_run("last").status, record.find_run("last").exit_status) == ("failed", 73)
    assert left_behind(tmp_path) == []


def test_a_time_limit_is_the_tasks_not_the_preparations(tmp_path: Path) -> None:
    slow = ShellRunner(prepared_by=(command("sleep", "0.5"),))
    limited = Resources(timeout_seconds=0.3)
    done = run(tmp_path, invocation(tmp_path, "true", resources=limited), slow)
    assert done.status == "succeeded"
    assert done.seconds.prepare is not None
    assert done.seconds.prepare >= 0.5
    with pytest.raises(TimedOut):
        run(tmp_path, invocation(tmp_path, "sleep 60", resources=limited))
    assert [(found.status, found.exit_status) for found in record.runs()] == [("timed-out", 124), ("succeeded", 0)]


def test_an_unexpected_error_ends_the_record_too(tmp_path: Path) -> None:
    def report(_message: str) -> None:
        raise ZeroDivisionError("in a callback")

    bound = msgspec.structs.replace(invocation(tmp_path, "true"), entrypoint=("no-such-thing",))
    with pytest.raises(ZeroDivisionError):
        run(tmp_path, bound, report=report)
    found = record.find_run("last")
    assert (found.status, found.message) == ("failed", "ZeroDivisionError: in a callback")


# What is refused


def test_a_runner_that_cannot_be_used_or_cannot_honour_it_refuses_before_anything_is_done(tmp_path: Path) -> None:
    (tmp_path / "gone").touch()
    with pytest.raises(EngineUnavailable, match="the shell is gone"):
        run(tmp_path, invocation(tmp_path, "touch out"), ShellRunner(unusable_if=f"{tmp_path}/gone"))
    with pytest.raises(Refused, match="it has no GPUs"):
        run(tmp_path, invocation(tmp_path, "touch out", resources=Resources(gpus=1)))
    assert [found.status for found in record.runs()] == ["refused", "refused"]
    assert not (tmp_path / "workspace" / "out").exists()


def test_an_engine_that_went_away_is_told_instead_of_the_step_that_failed(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    runner = ShellRunner(unusable_if=str(gone), prepared_by=(command("sh", "-c", f"touch {gone}; exit 1"),))
    with pytest.raises(EngineUnavailable, match="the shell is gone"):
        run(tmp_path, invocation(tmp_path, "true"), runner)


def test_a_preparation_that_fails_is_told(tmp_path: Path) -> None:
    runner = ShellRunner(prepared_by=(command("sh", "-c", "echo no such image >&2; exit 1"),))
    with pytest.raises(PreparationFailed, match="no such image"):
        run(tmp_path, invocation(tmp_path, "true"), runner)
    assert record.find_run("last").exit_status == 74


@pytest.mark.parametrize(
    ("needs", "word"),
    [(Resources(disk_bytes=1 << 60), "`disk`"), (Resources(host_memory_bytes=1 << 60), "`host_memory_gb`")],
)
def test_what_the_machine_does_not_have_is_refused(tmp_path: Path, needs: Resources, word: str) -> None:
    with pytest.raises(Refused, match=f"the task needs {word}: 1.074e.09 GiB") as caught:
        run(tmp_path, invocation(tmp_path, "true", resources=needs))
    assert caught.value.hint


# Secrets


def test_no_secret_is_kept_anywhere(tmp_path: Path) -> None:
    bound = invocation(tmp_path, 'test "$TOKEN" = "s3"cret', secrets=(Secret(name="TOKEN"),))
    assert run(tmp_path, bound, secrets={"TOKEN": "s3cret"}).status == "succeeded"
    for folder, _, names in os.walk(directories.state()):
        for name in names:
            assert b"s3cret" not in Path(folder, name).read_bytes(), name


def test_a_secret_that_the_task_prints_is_not_in_the_log(tmp_path: Path) -> None:
    bound = invocation(tmp_path, 'printf "%s" "the key is $TOKEN" >&2', secrets=(Secret(name="TOKEN"),))
    done = run(tmp_path, bound, secrets={"TOKEN": "s3cret"})
    assert Path(RunDirectory(done.id).log).read_text() == "the key is ***"


def test_a_secret_that_is_a_file_lies_there_only_while_the_task_runs(tmp_path: Path) -> None:
    bound = invocation(tmp_path, "", secrets=(Secret(name="TOKEN", mount="/run/token"),))
    path = bound.secret_path(bound.secrets[0])
    bound = msgspec.structs.replace(bound, entrypoint=("sh", "-c", f"wc -c < {path}"))
    done = run(tmp_path, bound, secrets={"TOKEN": "s3cret"})
    assert Path(RunDirectory(done.id).log).read_text().strip() == "6"
    assert left_behind(tmp_path) == []


def test_a_secret_without_a_value_is_an_error_unless_it_is_optional(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`TOKEN` has no value"):
        run(tmp_path, invocation(tmp_path, "true", secrets=(Secret(name="TOKEN"),)))
    optional = (Secret(name="TOKEN", optional=True, mount="/run/token"),)
    assert run(tmp_path, invocation(tmp_path, "true", secrets=optional)).status == "succeeded"


# Plans


def test_the_whole_plan_has_the_workspaces_steps_around_the_runners(tmp_path: Path) -> None:
    bound = invocation(tmp_path, "true", outputs=("out",))
    runner = ShellRunner(finally_touch="/tmp/x")
    prepare, whole = plans(bound, runner, {})
    assert prepare.steps == ()
    assert whole.task == runner.run(bound, {}).task
    assert bound.scratch in whole.steps[0].script()
    assert whole.always[0] == command("touch", "/tmp/x")
    assert whole.always[-1].script().startswith("rm -rf")


# Interrupted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_is_cleaned_up_and_recorded(
    tmp_path: Path, children: list[subprocess.Popen[str]], number: int
) -> None:
    # A shell that gets SIGINT just before it starts a command waits for that command's end first.
    process = start(children, tmp_path, "touch begun; exec sleep 60")
    until(tmp_path / "workspace" / "begun")
    process.send_signal(number)
    process.wait(timeout=30)
    found = record.find_run("last")
    assert (found.status, found.exit_status) == ("interrupted", 128 + number)
    assert (tmp_path / "cleaned").exists()
    assert left_behind(tmp_path) == []
    assert process.stderr
    assert "Interrupted: error: stopped by" in process.stderr.read()


def test_an_interrupt_here_is_raised_with_the_runs_id(tmp_path: Path) -> None:
    bound = invocation(tmp_path, "kill -INT $PPID; sleep 60")
    with pytest.raises(Interrupted) as caught:
        run(tmp_path, bound)
    assert caught.value.run_id == bound.run_id


def test_a_run_that_was_killed_shows_as_interrupted_and_the_next_one_ends_its_task(
    tmp_path: Path, children: list[subprocess.Popen[str]]
) -> None:
    workspace = tmp_path / "workspace"
    first = start(children, tmp_path, "echo $$ >pid.new; mv pid.new pid; sleep 60")
    until(workspace / "pid")
    until(Path(RunDirectory(record.runs()[0].id).path) / "task.json")
    first.kill()
    first.wait()
    killed = record.find_run("last")
    assert (killed.status, killed.finished) == ("interrupted", None)
    assert left_behind(tmp_path) != []

    task = int((workspace / "pid").read_text())
    os.kill(task, 0)  # it still runs, and could still write
    assert run(tmp_path, invocation(tmp_path, "echo x >out", outputs=("out",))).status == "succeeded"
    assert ends(task)
    assert (tmp_path / "cleaned").exists()
    assert left_behind(tmp_path) == []
    settled = record.find_run(killed.id)
    assert (settled.status, settled.exit_status) == ("interrupted", 137)
    assert settled.finished


def test_the_next_run_ends_what_a_killed_one_was_preparing(
    tmp_path: Path, children: list[subprocess.Popen[str]]
) -> None:
    slow = f"cd {tmp_path}; sleep 60 & echo $! >child; echo $$ >pid.new; mv pid.new pid; wait"
    first = start(children, tmp_path, "true", "0", slow)
    until(tmp_path / "pid")
    until(Path(RunDirectory(record.runs()[0].id).path) / "step.json")
    first.kill()
    first.wait()
    told: list[str] = []
    other = invocation(tmp_path, "true")  # it writes nothing that the killed one would
    assert run(tmp_path, other, report=told.append).status == "succeeded"
    assert ends(int((tmp_path / "pid").read_text()))
    assert ends(int((tmp_path / "child").read_text()))
    killed = record.runs()[1]
    assert (killed.status, killed.exit_status) == ("interrupted", 137)
    assert told == [f"run {killed.id} was killed: cleaning up what it left"]
    assert record.killed() == []


# Simultaneous


def test_who_writes_the_same_output_is_refused_with_the_holders_name(
    tmp_path: Path, children: list[subprocess.Popen[str]]
) -> None:
    start(children, tmp_path, "touch begun; sleep 60")
    until(tmp_path / "workspace" / "begun")
    with pytest.raises(Busy) as caught:
        run(tmp_path, invocation(tmp_path, "echo x >out", outputs=("out/below",)))
    holder = next(found.id for found in record.runs() if found.status == "running")
    assert f"run {holder} (task `work`, process {children[0].pid} on" in str(caught.value)
    assert f"which writes `{tmp_path}/workspace/out`" in str(caught.value)
    assert not (tmp_path / "workspace" / "out").exists()


def test_who_writes_elsewhere_runs_at_the_same_time(tmp_path: Path, children: list[subprocess.Popen[str]]) -> None:
    start(children, tmp_path, "touch begun; sleep 60")
    until(tmp_path / "workspace" / "begun")
    done = run(tmp_path, invocation(tmp_path, "echo x >output", outputs=("output",)))
    assert done.status == "succeeded"


def test_simultaneous_writers_wait_for_each_other_and_never_interleave(
    tmp_path: Path, children: list[subprocess.Popen[str]]
) -> None:
    script = "mkdir inside || exit 9; echo begin >>trace; sleep 0.2; echo end >>trace; touch out; rmdir inside"
    for _ in range(3):
        start(children, tmp_path, script, "60")
    assert [process.wait(timeout=60) for process in children] == [0, 0, 0]
    assert (tmp_path / "workspace" / "trace").read_text() == "begin\nend\n" * 3
    said = "".join(process.stderr.read() for process in children if process.stderr)
    assert "waiting for run " in said
    assert os.listdir(f"{directories.state()}/holding") == []


def test_who_waits_can_be_interrupted(tmp_path: Path, children: list[subprocess.Popen[str]]) -> None:
    start(children, tmp_path, "touch begun; sleep 60")
    until(tmp_path / "workspace" / "begun")
    waiting = start(children, tmp_path, "touch second", "60")
    assert waiting.stderr
    assert waiting.stderr.readline().startswith("waiting for run ")
    waiting.send_signal(signal.SIGTERM)
    waiting.wait(timeout=5)
    assert not (tmp_path / "workspace" / "second").exists()
    assert sorted(found.status for found in record.runs()) == ["interrupted", "running"]


def test_an_output_that_is_a_named_pipe_keeps_nobody_waiting(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert checksum(str(pipe)).sha256 == "special"
