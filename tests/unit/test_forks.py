"""Words of the command line from Python: each in a process of its own, forked off one that has imported everything."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlcube import forks
from mlcube.errors import CubeError
from mlcube.locks import Holder
from mlcube.record import RunDirectory


@pytest.fixture(autouse=True)
def own_source(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test has a process of its own to fork off, which ends with the test."""
    source = forks._Source()
    monkeypatch.setattr(forks, "_SOURCE", source)
    yield
    process = source._process
    source.close()
    assert process is None or process.returncode is not None


def test_it_gives_output_errors_and_status() -> None:
    good = forks.perform(["--version"])
    assert (good.status, good.output.split()[0], good.error) == (0, "cube", "")
    bad = forks.perform(["check", "nowhere"])
    assert bad.status != 0
    assert "nowhere" in bad.error
    assert bad.output == ""


def test_it_is_as_this_process_is_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "mlcube.yaml").write_text("name: here\npython: {}\ntasks: {a: {entrypoint: 'true'}}\n")
    forks.perform(["--version"])  # the other process lives by now
    monkeypatch.chdir(tmp_path / "here")
    assert "here" in forks.perform(["describe"]).output
    monkeypatch.setenv("CUBE_OFFLINE", "1")
    assert "no network call" in forks.perform(["pull", "oci://127.0.0.1:1/x:1"]).error
    monkeypatch.delenv("CUBE_OFFLINE")
    assert (
        "no network call" in forks.perform(["pull", "oci://127.0.0.1:1/x:1"], environment={"CUBE_OFFLINE": "1"}).error
    )


def test_much_is_said_at_the_same_time(tmp_path: Path) -> None:
    parameters = "".join(f"      p{number}: {{type: string, default: '{'x' * 100}'}}\n" for number in range(3000))
    text = (
        f"name: large\npython: {{}}\ntasks:\n  a:\n    entrypoint: 'true'\n    parameters:\n     inputs:\n{parameters}"
    )
    (tmp_path / "mlcube.yaml").write_text(text)
    found: list[str] = []
    words = ["describe", "--json", str(tmp_path)]
    threads = [threading.Thread(target=lambda: found.append(forks.perform(words).output)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found[0]) > 300_000


def test_a_process_that_was_killed_is_replaced() -> None:
    forks.perform(["--version"])
    first = forks._SOURCE._process
    assert first is not None
    first.kill()
    first.wait()
    assert forks.perform(["--version"]).status == 0
    assert forks._SOURCE._process is not first


@pytest.fixture
def slow_run(tmp_path: Path) -> Iterator[str]:
    """A run that lasts longer than the test."""
    (tmp_path / "mlcube.yaml").write_text("name: slow\npython: {}\ntasks: {a: {entrypoint: sleep 60}}\n")
    left = forks.perform(["run", "--detach", "--mlcube", str(tmp_path), "--task", "a", "--platform", "local"])
    assert left.status == 0, left.error
    yield left.output.strip()
    assert forks.perform(["cancel", left.output.strip()]).status == 0


@pytest.mark.engine("local")
def test_a_process_that_is_killed_meanwhile_is_told(slow_run: str) -> None:
    source = forks._SOURCE._process
    assert source is not None
    timer = threading.Timer(0.5, source.kill)
    timer.start()
    before = time.monotonic()
    with pytest.raises(CubeError, match="was killed"):
        forks.perform(["wait", slow_run])
    assert time.monotonic() - before < 10, "at once, not when the run has ended"
    timer.join()


@pytest.mark.engine("local")
def test_what_is_left_goes_on_in_the_process_that_answered(slow_run: str) -> None:
    source, holder = forks._SOURCE._process, RunDirectory(slow_run).read("holder.json", Holder)
    assert source is not None
    assert holder is not None
    assert Path("/proc", str(holder.pid), "stat").read_text().split()[3] == str(source.pid), "forked off once"
    assert os.getsid(holder.pid) == holder.pid
    assert {os.readlink(f"/proc/{holder.pid}/fd/{number}") for number in (0, 1)} == {os.devnull}
    before = time.monotonic()
    forks.close()
    assert time.monotonic() - before < 10, "nobody waits for what was left"
    assert RunDirectory(slow_run).live()


def test_a_directory_that_has_gone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(CubeError, match="the current directory is no more"):
        forks.perform(["--version"])


FEW_FILES = """
import resource, threading
from mlcube import forks
from mlcube.errors import CubeError
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
told = []
def ask():
    try:
        told.append(forks.perform(["wait", RUN]).error)
    except CubeError as error:
        told.append(str(error))
RUN = "nosuch"
threads = [threading.Thread(target=ask) for _ in range(16)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert all("no run is named" in each or "no process can be started" in each for each in told), told
assert len(told) == 16
assert "no run is named" in forks.perform(["wait", RUN]).error
"""


def test_too_many_at_once_are_refused_one_by_one() -> None:
    done = subprocess.run([sys.executable, "-c", FEW_FILES], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


WAITING = """
import signal
import sys
from mlcube import forks
if sys.argv[2:]:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
print("begin", flush=True)
try:
    forks.perform(["wait", sys.argv[1]])
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.engine("local")
@pytest.mark.parametrize(("number", "more"), [(signal.SIGINT, []), (signal.SIGKILL, []), (signal.SIGKILL, ["deaf"])])
def test_the_processes_end_with_the_one_that_began_them(slow_run: str, number: signal.Signals, more: list[str]) -> None:
    argv = [sys.executable, "-c", WAITING, slow_run, *more]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (source,) = eventually_children(process.pid)
        (waiting,) = eventually_children(source)
        process.send_signal(number)
        assert (process.stdout.read() == "interrupted\n") == (number == signal.SIGINT)
    assert gone(source)
    assert gone(waiting)


def eventually_children(process: int) -> list[int]:
    for _ in range(200):
        done = subprocess.run(["ps", "--ppid", str(process), "-o", "pid="], capture_output=True, text=True)
        if done.stdout.split():
            time.sleep(0.5)  # it is to be where it waits
            return [int(each) for each in done.stdout.split()]
        time.sleep(0.05)
    raise AssertionError("no process began")


def gone(process: int) -> bool:
    for _ in range(200):
        if not Path(f"/proc/{process}").exists():
            return True
        time.sleep(0.05)
    return False
