"""Limits that the user sets, and waiting that needs no looks."""

import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from mlcube import locks, patience, watching
from mlcube.asking import ask
from mlcube.errors import TimedOut, UsageError
from mlcube.execute import Execution
from mlcube.plan import Command, Job, Plan, Unless, command
from mlcube.signals import catching

SILENT = Command(argv=("sleep", "2.2"), quiet=True, waiting="the moon to rise")


def test_without_a_word_of_the_user_the_limits_are_the_plans_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (patience.PREPARE, patience.CONNECTION, patience.ANSWER):
        monkeypatch.delenv(variable, raising=False)
    assert patience.prepare_seconds() is None
    assert patience.answer_seconds() == 30
    assert patience.limited((1.0, 4.0)) == (1.0, 4.0)


def test_pauses_fit_into_the_time_that_a_connection_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(patience.CONNECTION, "10s")
    assert patience.limited((1.0, 4.0, 10.0, 60.0)) == (1.0, 4.0, 5.0)


def test_a_limit_that_is_no_time_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(patience.ANSWER, "soon")
    with pytest.raises(UsageError, match=f"`{patience.ANSWER}` takes a time such as"):
        ask(["true"])


def test_an_answer_has_the_time_that_the_user_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(patience.ANSWER, "0.2s")
    answer = ask(["sleep", "60"])
    assert (answer.status, answer.error) == (124, "`sleep` gave no answer within 0.2 seconds")


def test_preparing_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(patience.PREPARE, "0.2s")
    with (
        catching() as signals,
        Execution(signals=signals) as execution,
        pytest.raises(TimedOut, match=r"what comes before the task took longer than 0\.2 seconds") as caught,
    ):
        execution.prepare(Plan(steps=(command("sleep", "60"),)))
    assert "CUBE_PREPARE_TIMEOUT" in str(caught.value.problems[0].hint)


def test_so_has_waiting_for_another_one_that_prepares(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(patience.PREPARE, "0.2s")
    lock, told = str(tmp_path / "lock"), list[str]()
    step = Unless(probe=command("false"), steps=(command("true"),), title="building", lock=lock)
    with (
        locks.exclusive(lock),
        catching() as signals,
        Execution(signals=signals, report=told.append) as execution,
        pytest.raises(TimedOut, match=r"0\.2 seconds"),
    ):
        execution.run(Plan(steps=(step,), task=command("true")))
    assert told == [f"waiting for process {os.getpid()} on {os.uname().nodename}, which is busy with: building"]


def test_the_task_does_not_count_as_preparing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(patience.PREPARE, "1s")
    with catching() as signals, Execution(signals=signals) as execution:
        assert execution.run(Plan(steps=(command("true"),), task=command("sleep", "1.2"))) == 0


def test_whoever_waits_is_told_for_what() -> None:
    told: list[str] = []
    job = Job(start=command("true"), follow=command("sh", "-c", "sleep 2.2"), status=command("true"), waiting="a node")
    with catching() as signals, Execution(signals=signals, report=told.append) as execution:
        assert execution.run(Plan(steps=(SILENT,), task=job)) == 0
    assert told == ["waiting for the moon to rise", "waiting for a node"]


def test_a_lock_that_is_let_go_is_seen_at_once(tmp_path: Path) -> None:
    path, waited, begun = str(tmp_path / "lock"), list[float](), threading.Event()

    def second() -> None:
        before = time.monotonic()
        with locks.exclusive(path, wait_seconds=10, waiting=lambda _: begun.set()):
            waited.append(time.monotonic() - before)

    thread = threading.Thread(target=second)
    with locks.exclusive(path):
        thread.start()
        assert begun.wait(5)
        time.sleep(0.1)
    thread.join()
    assert 0.1 <= waited[0] < 0.9  # without an event it would be a second


def test_nobody_looks_more_than_once_a_second(tmp_path: Path) -> None:
    path, pauses = str(tmp_path / "lock"), list[float]()

    def pause(seconds: float, *_: int) -> None:
        pauses.append(seconds)
        if len(pauses) == 9:
            os.unlink(path)

    with locks.exclusive(path), locks.exclusive(path, wait_seconds=1e6, pause=pause):
        pass
    assert pauses[0] == 1
    assert pauses == sorted(pauses)
    assert pauses[-1] == 15


def test_the_end_of_a_process_cuts_a_pause_short(tmp_path: Path) -> None:
    process = subprocess.Popen(["sleep", "0.1"])
    begun = time.monotonic()
    with watching.passing(str(tmp_path / "nothing"), process.pid) as events:
        watching.doze(30, *events)
    process.wait()
    assert time.monotonic() - begun < 10


def test_a_file_that_grows_cuts_a_pause_short(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("")
    begun = time.monotonic()
    with watching.growing(str(path)) as events, path.open("a") as file:
        file.write("line")
        file.flush()
        watching.doze(30, *events)
    assert time.monotonic() - begun < 10
