"""A script of `--dry-run` ends as `cube run` does: stopped, late, or waiting for what another makes."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from mlcube import locks
from mlcube.plan import Command, Diagnosis, Plan, Unless, command

SHELLS = [["sh"], ["bash", "--posix"]]
NO = command("false")


@pytest.fixture
def started() -> Iterator[list["subprocess.Popen[str]"]]:
    """Scripts; none outlives its test."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def start(
    started: list["subprocess.Popen[str]"], plan: Plan, shell: list[str], timeout_seconds: float | None = None
) -> "subprocess.Popen[str]":
    script = plan.script(timeout_seconds=timeout_seconds).replace("cube_after 10 ", "cube_after 1 ")
    pipe = subprocess.PIPE
    started.append(subprocess.Popen([*shell, "-c", script], stdout=pipe, stderr=pipe, text=True))
    return started[-1]


def until(path: Path) -> None:
    for _ in range(1000):
        if path.exists():
            return
        time.sleep(0.01)
    raise AssertionError(f"{path} never came")


def gone(pid: int) -> bool:
    for _ in range(300):
        if locks.holder_of(pid) is None:
            return True
        time.sleep(0.01)
    return False


def sleeping(tmp_path: Path, before: str = "") -> Command:
    script = f"{before} sleep 60 & echo $! >child; echo $$ >pid.new; mv pid.new pid; wait; wait"
    return Command(argv=("sh", "-c", script), directory=str(tmp_path))


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [False, True], ids=["task", "step"])
def test_a_signal_ends_what_runs_and_cleans_up(
    tmp_path: Path, started: list["subprocess.Popen[str]"], shell: list[str], number: int, step: bool
) -> None:
    mark = (command("touch", str(tmp_path / "cleaned")),)
    slow = sleeping(tmp_path)
    plan = Plan(steps=(slow,), always=mark) if step else Plan(task=slow, always=mark)
    process = start(started, plan, shell)
    until(tmp_path / "pid")
    process.send_signal(number)
    assert process.wait(timeout=20) == 128 + number
    assert gone(int((tmp_path / "pid").read_text()))
    assert gone(int((tmp_path / "child").read_text()))
    assert (tmp_path / "cleaned").exists()


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_a_task_that_is_late_is_stopped_and_then_killed(
    tmp_path: Path, started: list["subprocess.Popen[str]"], shell: list[str]
) -> None:
    task = sleeping(tmp_path, before="trap '' TERM;")
    process = start(started, Plan(task=task, otherwise=(command("touch", f"{tmp_path}/left"),)), shell, 0.7)
    output, errors = process.communicate(timeout=20)
    assert (process.returncode, output) == (124, "")
    assert errors == "error: the task was stopped after its time limit of 0.7 seconds\n"
    assert gone(int((tmp_path / "pid").read_text()))
    assert (tmp_path / "left").exists()


def test_a_task_in_time_is_not_waited_for(tmp_path: Path, started: list["subprocess.Popen[str]"]) -> None:
    begun = time.monotonic()
    process = start(started, Plan(task=command("sh", "-c", "exit 5")), ["sh"], 3600)
    assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == 5
    assert time.monotonic() - begun < 10


def test_the_plans_own_commands_stop_the_task(tmp_path: Path, started: list["subprocess.Popen[str]"]) -> None:
    stop = Command(argv=("sh", "-c", "touch asked; kill $(cat pid) $(cat child)"), directory=str(tmp_path))
    kill = command("touch", f"{tmp_path}/forced")
    process = start(started, Plan(task=sleeping(tmp_path), stop=stop, kill=kill), ["sh"])
    until(tmp_path / "pid")
    process.terminate()
    assert process.wait(timeout=20) == 143
    assert (tmp_path / "asked").exists()
    assert (tmp_path / "forced").exists()


def test_what_a_task_leaves_in_the_background_ends_with_it(
    tmp_path: Path, started: list["subprocess.Popen[str]"]
) -> None:
    task = Command(argv=("sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $! >child"), directory=str(tmp_path))
    assert start(started, Plan(task=task), ["sh"]).wait(timeout=20) == 0
    assert gone(int((tmp_path / "child").read_text()))


def test_a_diagnosis_is_asked_only_about_its_status(started: list["subprocess.Popen[str]"]) -> None:
    diagnosis = Diagnosis(probe=command("echo", "yes"), message="it never ran", status=125)
    for status, said in ((125, "error: it never ran\n"), (3, "")):
        plan = Plan(task=command("sh", "-c", f"exit {status}"), diagnoses=(diagnosis,))
        assert start(started, plan, ["sh"]).communicate(timeout=20)[1] == said


# Locks


def made(tmp_path: Path, script: str) -> Plan:
    making = Command(argv=("sh", "-c", script), directory=str(tmp_path))
    lock = str(tmp_path / "locks" / "it's.lock")
    return Plan(
        steps=(Unless(probe=command("test", "-e", f"{tmp_path}/made"), steps=(making,), title="it", lock=lock),)
    )


def test_a_script_that_is_interrupted_leaves_no_lock(tmp_path: Path, started: list["subprocess.Popen[str]"]) -> None:
    process = start(started, made(tmp_path, "touch begun; sleep 60"), ["sh"])
    until(tmp_path / "begun")
    assert os.listdir(tmp_path / "locks") == ["it's.lock"]
    process.terminate()
    assert process.wait(timeout=20) == 143
    assert os.listdir(tmp_path / "locks") == []


def test_a_script_and_cube_exclude_each_other(tmp_path: Path, started: list["subprocess.Popen[str]"]) -> None:
    lock = str(tmp_path / "locks" / "it's.lock")
    with locks.exclusive(lock):
        process = start(started, made(tmp_path, "touch made"), ["sh"])
        assert process.stderr
        assert process.stderr.readline().startswith(f"waiting for process {os.getpid()} on ")
        assert process.stderr.readline() == f"hint: if it does not run: rm {lock}\n"
        assert not (tmp_path / "made").exists()
    assert process.wait(timeout=20) == 0
    assert (tmp_path / "made").exists()
    (tmp_path / "made").unlink()

    process = start(started, made(tmp_path, "touch begun; sleep 1; touch made"), ["sh"])
    until(tmp_path / "begun")
    told: list[str] = []
    with locks.exclusive(lock, wait_seconds=20, waiting=told.append):
        assert (tmp_path / "made").exists()
    assert told == [f"waiting for process {process.pid} on {os.uname().nodename}"]


def test_a_script_takes_the_lock_of_a_process_that_was_killed(
    tmp_path: Path, started: list["subprocess.Popen[str]"]
) -> None:
    first = start(started, made(tmp_path, "touch begun; sleep 5"), ["sh"])
    until(tmp_path / "begun")
    first.kill()
    first.wait()
    assert start(started, made(tmp_path, "touch made"), ["sh"]).wait(timeout=20) == 0
    assert os.listdir(tmp_path / "locks") == []


def test_one_script_at_a_time_makes_it(tmp_path: Path, started: list["subprocess.Popen[str]"]) -> None:
    script = "mkdir busy && sleep 0.2 && echo x >>count && rmdir busy && touch made"
    for _ in range(4):
        start(started, made(tmp_path, script), ["sh"])
    assert [process.wait(timeout=60) for process in started] == [0, 0, 0, 0]
    assert (tmp_path / "count").read_text() == "x\n"


@pytest.fixture
def without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system that has no hard links."""
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs" / "ln").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "programs" / "ln").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/programs:{os.environ['PATH']}")


@pytest.mark.usefixtures("without_links")
@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_where_there_are_no_hard_links_one_script_at_a_time_makes_it(
    tmp_path: Path, started: list["subprocess.Popen[str]"], shell: list[str]
) -> None:
    for _ in range(3):
        start(started, made(tmp_path, "mkdir busy && echo x >>count && rmdir busy && touch made"), shell)
    assert [process.wait(timeout=20) for process in started] == [0, 0, 0]
    assert (tmp_path / "count").read_text() == "x\n"
    assert os.listdir(tmp_path / "locks") == []


@pytest.mark.usefixtures("without_links")
def test_where_there_are_no_hard_links_the_lock_of_a_dead_process_is_taken(
    tmp_path: Path, started: list["subprocess.Popen[str]"]
) -> None:
    first = start(started, made(tmp_path, "touch begun; sleep 5"), ["sh"])
    until(tmp_path / "begun")
    first.kill()
    first.wait()
    assert start(started, made(tmp_path, "touch made"), ["sh"]).wait(timeout=20) == 0
    assert os.listdir(tmp_path / "locks") == []


def test_a_lock_that_cannot_be_made_is_an_error_and_nothing_is_waited_for(
    tmp_path: Path, started: list["subprocess.Popen[str]"]
) -> None:
    """Its directory goes while the script is about to make it, as the only way of ours to have it fail for root too."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "ln").write_text(f"#!/bin/sh\nrm -rf '{tmp_path}/locks'\nexit 1\n")
    (programs / "ln").chmod(0o755)
    script = f"PATH={programs}:$PATH\n{made(tmp_path, 'touch made').script()}"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=20)
    assert done.returncode == 74
    assert f"error: the lock {tmp_path}/locks/it's.lock cannot be made\nhint: " in done.stderr
    assert not (tmp_path / "made").exists()


# Secrets


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_no_value_of_a_secret_is_in_an_argument_vector(tmp_path: Path, shell: list[str]) -> None:
    """Every process that the script starts is looked at while it runs."""
    value = "s3cret 'of\nmine"
    task = Command(
        argv=("sh", "-c", 'sleep 0.5; test "$KEY" = "$1"', "sh", "not it"),
        environment={"PATH": "/usr/bin:/bin"},
        clean=True,
        secrets=("KEY",),
        directory=str(tmp_path),
    )
    seen: set[bytes] = set()
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            for process in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):  # it has ended
                    seen.add((process / "cmdline").read_bytes())

    looking = threading.Thread(target=look)
    looking.start()
    done = subprocess.run(
        [*shell, "-c", Plan(task=task).script()], env={**os.environ, "KEY": value, "OTHER": "x"}, timeout=30
    )
    over.set()
    looking.join()
    assert done.returncode == 1
    assert any(b"not it" in words for words in seen)
    assert not any(b"s3cret" in words for words in seen)


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_a_clean_environment_with_a_secret_holds_nothing_of_the_callers(tmp_path: Path, shell: list[str]) -> None:
    environment = {"PATH": "/usr/bin:/bin", "A": "it's\n$x"}
    task = Command(argv=("env", "-0"), environment=environment, clean=True, secrets=("KEY",))
    done = subprocess.run(
        [*shell, "-c", Plan(task=task).script()],
        env={**os.environ, "KEY": "k\ney", "B": "cube_apart=\nKEY=no", "odd-name": "x"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    found = dict(each.split("=", 1) for each in done.stdout.split("\0") if each)
    found.pop("_", None)  # bash's own
    found.pop("odd-name", None)  # which no shell can take away
    assert found == {**environment, "KEY": "k\ney"}
