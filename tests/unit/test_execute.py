"""Plans are performed exactly: in order, with the task's own status, and nothing is left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from mlcube.asking import ask
from mlcube.errors import (
    CubeError,
    Interrupted,
    MissingOutput,
    PreparationFailed,
    TimedOut,
)
from mlcube.execute import Execution
from mlcube.plan import Command, Diagnosis, Fail, Plan, SecretText, Unless, WriteFile, command
from mlcube.runner import Answer
from mlcube.signals import Signals, catching

PYTHON = sys.executable


def shell(script: str, *arguments: str, quiet: bool = False) -> Command:
    return command("sh", "-c", script, "sh", *arguments, quiet=quiet)


@pytest.fixture
def signals() -> Iterator[Signals]:
    with catching() as caught:
        yield caught


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def execution(signals: Signals, log: Path) -> Iterator[Execution]:
    with Execution(signals=signals, log=str(log)) as made:
        yield made


def after(seconds: float, action: Callable[[], object]) -> threading.Timer:
    timer = threading.Timer(seconds, action)
    timer.start()
    return timer


def signalled(number: int, when: Path) -> threading.Thread:
    """Send this process a signal as soon as a file is there."""

    def wait() -> None:
        for _ in range(500):
            if when.exists():
                break
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


# Asking


def test_an_answer_has_status_output_and_error() -> None:
    found = ask(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (found.status, found.output, found.error) == (3, "out\n", "err\n")


def test_a_missing_executable_is_an_answer() -> None:
    assert ask(["no-such-executable"]).status == 127


def test_a_question_gives_up_after_its_time_and_leaves_no_process(tmp_path: Path) -> None:
    begun = time.monotonic()
    assert ask(["sh", "-c", f"echo $$ >{tmp_path}/pid; sleep 60"], timeout_seconds=0.3).status == 124
    assert time.monotonic() - begun < 5
    assert ends(int((tmp_path / "pid").read_text()))


def test_a_question_is_asked_with_more_variables_and_without_standard_input() -> None:
    assert ask(["sh", "-c", "cat; echo $WORD"], environment={"WORD": "x y"}).output == "x y\n"


# Steps


def test_nothing_that_is_started_gets_the_passphrase_of_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is built on the way to an environment would run with it."""
    from mlcube.withheld import PASSWORD

    monkeypatch.setenv(PASSWORD, "secret")
    monkeypatch.setenv("CUBE_TEST_OTHER", "kept")
    for more in ({}, {"X": "1"}):
        output = ask(("env",), environment=more).output
        assert "secret" not in output
        assert "CUBE_TEST_OTHER=kept" in output
    assert "secret" not in ask(("env",), environment=dict(os.environ)).output


def test_steps_are_performed_in_order_until_one_fails(execution: Execution, tmp_path: Path) -> None:
    steps = (shell("touch a"), shell("exit 3"), shell("touch b"))
    plan = Plan(steps=tuple(Command(argv=step.argv, directory=str(tmp_path)) for step in steps))
    with pytest.raises(PreparationFailed) as caught:
        execution.prepare(plan)
    assert "failed with status 3" in str(caught.value)
    assert (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()


def test_a_failing_steps_own_words_are_in_the_error_with_its_hint(execution: Execution) -> None:
    step = Command(argv=("sh", "-c", "echo why >&2; exit 1"), hint="mend it")
    with pytest.raises(PreparationFailed, match="failed with status 1: why") as caught:
        execution.prepare(Plan(steps=(step,)))
    assert caught.value.hint == "mend it"


def test_a_quiet_step_is_heard_only_when_it_fails(
    execution: Execution, capfd: pytest.CaptureFixture[str], log: Path
) -> None:
    execution.prepare(Plan(steps=(shell("echo one", quiet=True), shell("echo two"))))
    assert capfd.readouterr() == ("", "two\n")
    with pytest.raises(PreparationFailed) as caught:
        execution.prepare(Plan(steps=(shell("echo three; echo four >&2; echo five >&2; false", quiet=True),)))
    assert str(caught.value).endswith("\n  four\n  five")
    assert capfd.readouterr() == ("", "")
    assert b"one\ntwo\n" in log.read_bytes()


def test_a_missing_executable_in_a_step_is_one_sentence(execution: Execution) -> None:
    with pytest.raises(PreparationFailed, match="`no-such-thing` cannot be started: there is no such executable"):
        execution.prepare(Plan(steps=(command("no-such-thing"),)))


def test_a_nul_in_an_argument_is_one_sentence(execution: Execution) -> None:
    with pytest.raises(PreparationFailed, match="`echo` cannot be started"):
        execution.prepare(Plan(steps=(command("echo", "a\0b"),)))


def test_a_fail_step_raises_the_error_of_its_status(execution: Execution) -> None:
    plan = Plan(task=command("true"), after=(Fail(message="`model` is missing", hint="look", status=73),))
    with pytest.raises(MissingOutput) as caught:
        execution.run(plan)
    assert (caught.value.status, caught.value.hint) == (73, "look")


def test_steps_are_left_out_when_the_probe_succeeds(signals: Signals, tmp_path: Path) -> None:
    told: list[str] = []
    with Execution(signals=signals, report=told.append) as execution:
        for _ in range(2):
            step = Unless(
                probe=command("test", "-e", f"{tmp_path}/there"),
                steps=(shell('echo x >>"$1"', f"{tmp_path}/there"),),
                title="making it",
                lock=f"{tmp_path}/locks/it",
            )
            execution.prepare(Plan(steps=(step,)))
    assert (tmp_path / "there").read_text() == "x\n"
    assert told == ["making it"]
    assert not (tmp_path / "locks" / "it").exists()


def test_a_locked_step_is_performed_once_by_many_processes(tmp_path: Path) -> None:
    code = f"""
from mlcube.execute import Execution
from mlcube.plan import Plan, Unless, command
from mlcube.signals import catching
step = Unless(probe=command("test", "-e", {str(tmp_path / "done")!r}), lock={str(tmp_path / "lock")!r}, steps=(
    command("sh", "-c", "echo x >>{tmp_path}/count; sleep 0.3; touch {tmp_path}/done"),))
with catching() as signals, Execution(signals=signals) as execution:
    execution.prepare(Plan(steps=(step,)))
"""
    processes = [subprocess.Popen([PYTHON, "-c", code]) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert (tmp_path / "count").read_text() == "x\n"


def test_a_files_text_is_written_whole(execution: Execution, tmp_path: Path) -> None:
    text = "été\n$(id) 'quoted'\n"
    execution.prepare(Plan(steps=(WriteFile(path=f"{tmp_path}/f", text=text),)))
    assert (tmp_path / "f").read_text() == text
    assert os.listdir(tmp_path / "home") == []


def test_a_secrets_file_is_the_users_alone(signals: Signals, tmp_path: Path) -> None:
    with Execution(signals=signals, secrets={"TOKEN": "s3cret"}) as execution:
        execution.prepare(Plan(steps=(WriteFile(path=f"{tmp_path}/t", text=SecretText("TOKEN")),)))
    assert (tmp_path / "t").read_text() == "s3cret"
    assert (tmp_path / "t").stat().st_mode & 0o777 == 0o600


def test_a_file_that_cannot_be_written_is_one_sentence(execution: Execution, tmp_path: Path) -> None:
    with pytest.raises(CubeError, match="cannot be written: No such file or directory"):
        execution.prepare(Plan(steps=(WriteFile(path=f"{tmp_path}/no/f", text=""),)))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_ends_the_log_not_the_run(signals: Signals) -> None:
    told: list[str] = []
    with Execution(signals=signals, log="/dev/full", report=told.append) as execution:
        assert execution.run(Plan(task=shell("echo hello"))) == 0
    assert told == ["the log of this run is not complete: No space left on device"]


# The task


@pytest.mark.parametrize("status", [0, 1, 42, 125, 255])
def test_status_is_the_tasks_own(execution: Execution, status: int) -> None:
    assert execution.run(Plan(task=shell(f"exit {status}"))) == status


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_task_ended_by_signal_n_has_status_128_plus_n(execution: Execution, number: int) -> None:
    assert execution.run(Plan(task=shell(f"kill -{number} $$"))) == 128 + number


def test_a_missing_task_has_status_127_and_one_that_is_no_program_126(signals: Signals, tmp_path: Path) -> None:
    told: list[str] = []
    (tmp_path / "plain").write_text("no program")
    with Execution(signals=signals, report=told.append) as execution:
        assert execution.run(Plan(task=command("no-such-task"))) == 127
        assert execution.run(Plan(task=command(f"{tmp_path}/plain"))) == 126
    assert told == [
        "`no-such-task` cannot be started: there is no such executable",
        f"`{tmp_path}/plain` cannot be started: Permission denied",
    ]


def test_output_goes_to_its_own_descriptor_and_both_into_the_log(
    execution: Execution, capfd: pytest.CaptureFixture[str], log: Path
) -> None:
    execution.run(Plan(task=shell("echo out; sleep 0.1; echo err >&2; sleep 0.1; printf end")))
    assert capfd.readouterr() == ("out\nend", "err\n")
    assert log.read_bytes() == b"out\nerr\nend"


def test_the_tasks_output_can_be_sent_to_standard_error(signals: Signals, capfd: pytest.CaptureFixture[str]) -> None:
    with Execution(signals=signals, stdout=2) as execution:
        execution.run(Plan(task=shell("echo out")))
    assert capfd.readouterr() == ("", "out\n")


def test_every_byte_arrives(signals: Signals, tmp_path: Path, log: Path) -> None:
    task = command(PYTHON, "-c", "import os\nfor i in range(256): os.write(1, bytes([i]) * 100_003)")
    reading, writing = os.pipe()
    received = bytearray()

    def read() -> None:
        while chunk := os.read(reading, 1 << 16):
            received.extend(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    with Execution(signals=signals, log=str(log), stdout=writing) as execution:
        assert execution.run(Plan(task=task)) == 0
    os.close(writing)
    reader.join()
    os.close(reading)
    expected = b"".join(bytes([i]) * 100_003 for i in range(256))
    assert bytes(received) == expected
    assert log.read_bytes() == expected


def test_a_reader_that_went_away_ends_only_the_showing(signals: Signals, log: Path, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    script = f"i=0; while [ $i -lt 100 ]; do echo line $i; i=$((i+1)); done; touch {tmp_path}/done"
    with Execution(signals=signals, log=str(log), stdout=writing) as execution:
        assert execution.run(Plan(task=shell(script))) == 0
    os.close(writing)
    assert (tmp_path / "done").exists()
    assert log.read_text().splitlines()[-1] == "line 99"


def test_a_reader_that_does_not_read_keeps_no_signal_waiting(signals: Signals) -> None:
    reading, writing = os.pipe()
    timer = after(0.5, lambda: os.kill(os.getpid(), signal.SIGINT))
    begun = time.monotonic()
    with Execution(signals=signals, stdout=writing) as execution, pytest.raises(Interrupted):
        execution.run(Plan(task=command("yes")))
    assert time.monotonic() - begun < 5
    timer.join()
    assert os.get_blocking(writing)
    os.close(reading)
    os.close(writing)


def test_what_the_task_left_in_the_background_does_not_outlive_it(
    execution: Execution, tmp_path: Path, log: Path
) -> None:
    begun = time.monotonic()
    assert execution.run(Plan(task=shell(f"sleep 60 & echo $! >{tmp_path}/pid; echo last"))) == 0
    assert time.monotonic() - begun < 5
    assert log.read_text() == "last\n"
    assert ends(int((tmp_path / "pid").read_text()))


def test_a_daemon_that_keeps_the_pipe_does_not_keep_us(execution: Execution, tmp_path: Path) -> None:
    begun = time.monotonic()
    assert (
        execution.run(
            Plan(task=shell(f"setsid sh -c 'echo $$ >{tmp_path}/pid; while sleep 0.05; do echo on; done' & sleep 0.2"))
        )
        == 0
    )
    assert time.monotonic() - begun < 5
    if running(pid := int((tmp_path / "pid").read_text())):
        os.kill(pid, signal.SIGKILL)


def test_a_task_reads_nothing_from_the_users_terminal(execution: Execution) -> None:
    assert execution.run(Plan(task=shell("read line"))) == 1


def test_the_steps_after_need_a_task_that_succeeded_and_the_last_ones_nothing(
    execution: Execution, tmp_path: Path
) -> None:
    plan = Plan(
        task=shell("exit 5"),
        after=(command("touch", f"{tmp_path}/after"),),
        always=(shell("exit 1"), command("no-such-thing"), command("touch", f"{tmp_path}/always")),
    )
    assert execution.run(plan) == 5
    assert not (tmp_path / "after").exists()
    assert (tmp_path / "always").exists()


@pytest.mark.parametrize(
    ("task", "missing", "performed"), [("exit 0", False, False), ("exit 3", False, True), ("exit 0", True, True)]
)
def test_only_what_a_success_leaves_needs_no_removal(
    execution: Execution, tmp_path: Path, task: str, missing: bool, performed: bool
) -> None:
    check = Unless(probe=command("test", "-e", f"{tmp_path}/output"), steps=(Fail(message="missing", status=73),))
    plan = Plan(
        task=shell(task), after=(check,) if missing else (), otherwise=(command("touch", f"{tmp_path}/otherwise"),)
    )
    with suppress(MissingOutput):
        execution.run(plan)
    assert (tmp_path / "otherwise").exists() == performed


def test_what_a_probe_said_is_kept_if_it_succeeded(execution: Execution) -> None:
    yes, no = shell("echo yes"), shell("echo no; exit 1")
    execution.prepare(Plan(steps=(Unless(probe=yes, steps=()), Unless(probe=no, steps=()))))
    assert execution.answers == {yes.argv: Answer(0, "yes\n", "")}


def test_a_task_that_failed_is_explained(signals: Signals) -> None:
    told: list[str] = []
    diagnoses = (
        Diagnosis(probe=command("true"), message="not this"),
        Diagnosis(probe=command("echo", "oom"), message="it needed more memory", hint="give it more"),
    )
    with Execution(signals=signals, report=told.append) as execution:
        assert execution.run(Plan(task=shell("exit 137"), diagnoses=diagnoses)) == 137
        assert execution.reason == "it needed more memory"
    assert told == ["it needed more memory\nhint: give it more"]


# Secrets


def test_a_secret_is_in_one_environment_and_nowhere_else(
    signals: Signals, tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER", "inherited")
    with Execution(signals=signals, log=str(log), secrets={"TOKEN": "s3cret"}) as execution:
        plan = Plan(
            steps=(shell(f'echo "${{TOKEN-unset}}" >{tmp_path}/step'),),
            task=Command(
                argv=("sh", "-c", f'echo "$TOKEN-${{OTHER-unset}}" >{tmp_path}/task'), clean=True, secrets=("TOKEN",)
            ),
        )
        execution.run(plan)
        with pytest.raises(PreparationFailed) as caught:
            execution.prepare(Plan(steps=(Command(argv=("no-such-thing",), secrets=("TOKEN",)),)))
    assert (tmp_path / "step").read_text() == "unset\n"
    assert (tmp_path / "task").read_text() == "s3cret-unset\n"
    assert "s3cret" not in str(caught.value)
    assert b"s3cret" not in log.read_bytes()


# Stopping


def running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def ends(pid: int) -> bool:
    """Whether a process is gone, or goes in the next moment: the kernel takes its time, also with SIGKILL."""
    for _ in range(200):
        if not running(pid):
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_task_and_cleans_up(execution: Execution, tmp_path: Path, number: int) -> None:
    plan = Plan(
        task=shell(f"touch {tmp_path}/begun; sleep 60"),
        after=(command("touch", f"{tmp_path}/after"),),
        always=(command("touch", f"{tmp_path}/always"),),
    )
    sender = signalled(number, tmp_path / "begun")
    with pytest.raises(Interrupted) as caught:
        execution.run(plan)
    sender.join()
    assert caught.value.status == 128 + number
    assert (tmp_path / "always").exists()
    assert not (tmp_path / "after").exists()


def test_what_the_task_prints_while_it_stops_is_kept(execution: Execution, tmp_path: Path, log: Path) -> None:
    sender = signalled(signal.SIGINT, tmp_path / "begun")
    script = f"trap 'echo bye; exit 0' INT; touch {tmp_path}/begun; sleep 60 & wait"
    with pytest.raises(Interrupted):
        execution.run(Plan(task=shell(script)))
    sender.join()
    assert log.read_text() == "bye\n"


def test_a_second_signal_forces(execution: Execution, tmp_path: Path) -> None:
    first = signalled(signal.SIGINT, tmp_path / "begun")
    second = after(1.0, lambda: os.kill(os.getpid(), signal.SIGINT))
    begun = time.monotonic()
    with pytest.raises(Interrupted):
        execution.run(Plan(task=shell(f"trap '' INT; touch {tmp_path}/begun; while :; do sleep 1; done")))
    first.join()
    second.join()
    assert time.monotonic() - begun < 5


def test_the_stop_command_ends_the_task(execution: Execution, tmp_path: Path) -> None:
    # The task is in another session, as a container is, and its client waits for it.
    engine = f"setsid sh -c 'echo $$ >{tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; exec sleep 60'; exit 7"
    sender = signalled(signal.SIGTERM, tmp_path / "pid")
    plan = Plan(
        task=shell(engine), stop=shell(f"kill $(cat {tmp_path}/pid)"), kill=command("touch", f"{tmp_path}/killed")
    )
    with pytest.raises(Interrupted):
        execution.run(plan)
    sender.join()
    assert ends(int((tmp_path / "pid").read_text()))
    assert not (tmp_path / "killed").exists()


def test_when_there_is_nothing_to_stop_yet_the_client_is_ended_and_the_kill_repeated(
    execution: Execution, tmp_path: Path
) -> None:
    sender = signalled(signal.SIGINT, tmp_path / "pid")
    plan = Plan(
        task=shell(f"echo $$ >{tmp_path}/pid; sleep 60"),
        stop=command("false"),
        kill=shell(
            f"echo x >>{tmp_path}/kills; kill -0 $(cat {tmp_path}/pid) 2>/dev/null && touch {tmp_path}/too-soon"
        ),
    )
    begun = time.monotonic()
    with pytest.raises(Interrupted):
        execution.run(plan)
    sender.join()
    assert time.monotonic() - begun < 10
    assert ends(int((tmp_path / "pid").read_text()))
    assert (tmp_path / "kills").read_text() == "x\nx\nx\n"


def test_a_signal_during_a_step_stops_the_step_and_cleans_up(execution: Execution, tmp_path: Path) -> None:
    sender = signalled(signal.SIGINT, tmp_path / "pid")
    plan = Plan(
        steps=(shell(f"echo $$ >{tmp_path}/pid; sleep 60"), command("touch", f"{tmp_path}/next")),
        always=(command("touch", f"{tmp_path}/always"),),
    )
    with pytest.raises(Interrupted):
        execution.prepare(plan)
    sender.join()
    assert ends(int((tmp_path / "pid").read_text()))
    assert (tmp_path / "always").exists()
    assert not (tmp_path / "next").exists()


def test_a_signal_between_steps_is_not_lost(execution: Execution, tmp_path: Path) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Interrupted):
        execution.run(Plan(task=command("touch", f"{tmp_path}/task")))
    assert not (tmp_path / "task").exists()


def test_a_time_limit_stops_the_task(execution: Execution, tmp_path: Path) -> None:
    plan = Plan(task=command("sleep", "60"), always=(command("touch", f"{tmp_path}/always"),))
    with pytest.raises(TimedOut, match=r"after its time limit of 0\.3 seconds") as caught:
        execution.run(plan, timeout_seconds=0.3)
    assert caught.value.status == 124
    assert (tmp_path / "always").exists()
    assert execution.seconds is not None
    assert 0.3 <= execution.seconds < 5


def test_the_time_limit_is_the_tasks_not_its_readers(signals: Signals) -> None:
    reading, writing = os.pipe()
    size = 2_000_000

    def read() -> None:
        time.sleep(1)
        left = size
        while left:
            left -= len(os.read(reading, 1 << 16))

    reader = threading.Thread(target=read)
    reader.start()
    with Execution(signals=signals, stdout=writing) as execution:
        assert execution.run(Plan(task=shell(f"head -c {size} /dev/zero")), timeout_seconds=20) == 0
    reader.join()
    os.close(reading)
    os.close(writing)


def test_an_error_of_our_own_leaves_no_task(execution: Execution) -> None:
    processes: list[int] = []

    def started(process: int | None) -> None:
        assert process
        processes.append(process)
        raise RuntimeError("of our own")

    with pytest.raises(RuntimeError):
        execution.run(Plan(task=command("sleep", "60")), started=started)
    assert ends(processes[0])


# Signals


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with catching():
        assert signal.getsignal(signal.SIGTERM) is not before[1]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before
    assert signal.set_wakeup_fd(-1) == -1


def test_a_signal_that_nobody_acted_upon_is_delivered_at_the_end() -> None:
    with pytest.raises(KeyboardInterrupt), catching():
        os.kill(os.getpid(), signal.SIGINT)


def test_what_the_caller_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with catching() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            signals.check()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_status_is_not_lost_when_the_caller_ignores_children() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with catching() as signals, Execution(signals=signals) as execution:
            assert execution.run(Plan(task=shell("exit 9"))) == 9
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_a_task_can_be_run_from_another_thread(tmp_path: Path) -> None:
    statuses: list[int] = []

    def perform() -> None:
        with catching() as signals, Execution(signals=signals) as execution:
            statuses.append(execution.run(Plan(task=shell("exit 4"))))

    thread = threading.Thread(target=perform)
    thread.start()
    thread.join()
    assert statuses == [4]


def test_a_diagnosis_of_one_status_may_say_that_the_task_never_ran(signals: Signals) -> None:
    told: list[str] = []
    never = Diagnosis(probe=command("echo", "yes"), message="it never ran", status=125, started=False)
    for status, ran in ((125, False), (1, True)):
        with Execution(signals=signals, report=told.append) as execution:
            assert execution.run(Plan(task=shell(f"exit {status}"), diagnoses=(never,))) == status
        assert (execution.seconds is not None, execution.reason) == (ran, None if ran else "it never ran")
    assert told == ["it never ran"]
