"""A run in a terminal: its keys, and what becomes of it when somebody leaves; and tasks that are run again."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

COUNT = """\
import sys, time
given = dict(word[2:].split("=", 1) for word in sys.argv[1:])
for number in range(int(given["lines"])):
    print("line", number, flush=True)
    time.sleep(0.25)
open(given["out"], "x").write("whole")
"""
FLAKY = """\
import pathlib, sys
out = pathlib.Path(sys.argv[1].partition("=")[2])
with out.open("a") as attempts:
    attempts.write("x")
sys.exit(0 if out.stat().st_size == 3 else 5)
"""
OUT = {"outputs": {"out": {"type": "file", "default": "out.txt"}}}
TASKS = {
    "count": {
        "entrypoint": ["python3", "-c", COUNT],
        "parameters": {**OUT, "inputs": {"lines": {"type": "integer", "default": 8}}},
    },
    "flaky": {"entrypoint": ["python3", "-c", FLAKY], "parameters": OUT},
}
SPAWN = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
"""Gives a command a terminal, and that the keys that come by a pipe."""


@pytest.fixture
def cube(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CUBE_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "cube/src").mkdir(parents=True)
    (tmp_path / "cube/mlcube.yaml").write_text(
        json.dumps({"name": "cube", "python": {"source": "src"}, "tasks": TASKS})
    )
    return tmp_path / "cube"


class Terminal:
    """`cube run` in a terminal of its own."""

    def __init__(self, cube: Path, *words: str) -> None:
        argv = [sys.executable, "-m", "mlcube", "run", f"--mlcube={cube}", "--platform=local", *words]
        self.process = subprocess.Popen(
            [sys.executable, "-c", SPAWN, *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.shown = b""

    def until(self, text: bytes) -> None:
        assert self.process.stdout
        while text not in self.shown:
            more = os.read(self.process.stdout.fileno(), 4096)
            assert more, self.shown.decode()
            self.shown += more

    def key(self, key: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(key)
        self.process.stdin.flush()

    def end(self) -> tuple[int, str]:
        """The exit status, and all that was shown."""
        rest = self.process.communicate(timeout=30)[0]
        return self.process.returncode, (self.shown + rest).decode()


@pytest.fixture
def opened(cube: Path) -> Iterator[Callable[..., Terminal]]:
    """Runs the cube in a terminal, which is gone when the test is."""
    terminals: list[Terminal] = []

    def run(*words: str) -> Terminal:
        terminals.append(Terminal(cube, *words))
        return terminals[-1]

    yield run
    for terminal in terminals:
        with terminal.process as process:
            process.kill()


def cube_said(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mlcube", *words], capture_output=True, text=True, check=False, timeout=60
    )


def test_a_run_that_is_left_goes_on_and_can_be_waited_for(cube: Path, opened: Callable[..., Terminal]) -> None:
    terminal = opened("--task=count", "lines=12")
    terminal.until(b"line 1\r\n")
    terminal.key(b"\x1c")  # Ctrl-\
    status, shown = terminal.end()
    assert status == 0, shown
    (run_id,) = re.findall(r"left to go on: cube logs -f (\S+),", shown)
    assert "line 11" not in shown
    assert not (cube / "workspace/out.txt").exists()
    waited = cube_said("wait", run_id)
    assert waited.returncode == 0, waited.stderr
    assert (cube / "workspace/out.txt").read_text() == "whole"
    assert cube_said("logs", run_id).stdout.split("\n")[-2] == "line 11"


def test_a_run_that_was_left_can_be_cancelled(cube: Path, opened: Callable[..., Terminal]) -> None:
    terminal = opened("--task=count", "lines=200")
    terminal.until(b"line 0\r\n")
    terminal.key(b"\x1c")
    assert terminal.end()[0] == 0
    assert cube_said("cancel", "last").returncode == 0
    shown = json.loads(cube_said("wait", "last", "--json").stdout)
    assert shown["status"] == "interrupted"
    assert not (cube / "workspace/out.txt").exists()


@pytest.mark.parametrize(
    ("task", "words", "key", "status"),
    [("count", ["lines=1"], b"", 0), ("count", ["lines=200"], b"\x03", 130), ("flaky", [], b"", 5)],
)
def test_in_a_terminal_a_run_ends_as_elsewhere(
    opened: Callable[..., Terminal], task: str, words: list[str], key: bytes, status: int
) -> None:
    terminal = opened(f"--task={task}", *words)
    terminal.until(b"line 0\r\n" if task == "count" else b"status 5")
    if key:
        terminal.key(key)
    assert terminal.end()[0] == status


def test_a_signal_to_the_process_that_the_shell_knows_stops_the_task(opened: Callable[..., Terminal]) -> None:
    terminal = opened("--task=count", "lines=200")
    terminal.until(b"line 0\r\n")
    children = Path(f"/proc/{terminal.process.pid}/task/{terminal.process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGTERM)
    status, shown = terminal.end()
    assert status == 143, shown
    assert json.loads(cube_said("runs", "show", "last", "--json").stdout)["status"] == "interrupted"


def test_a_task_that_fails_is_run_again_as_often_as_the_user_allows(cube: Path) -> None:
    done = cube_said("run", f"--mlcube={cube}", "--platform=local", "--task=flaky", "--retries=4", "--json")
    assert done.returncode == 0, done.stderr
    assert "running task flaky on local, attempt 3 of 5" in done.stderr
    records = json.loads(done.stdout)["runs"]
    assert [record["exit_status"] for record in records] == [5, 5, 0]
    previous = [None, records[0]["id"], records[1]["id"]]
    assert [record["attempt"] for record in records] == [
        {"number": number, "most": 5, "previous": before} for number, before in enumerate(previous, start=1)
    ]


def test_without_being_told_nothing_is_run_again_and_the_last_failure_is_the_command_s(cube: Path) -> None:
    run = ("run", f"--mlcube={cube}", "--platform=local", "--task=flaky")
    assert cube_said(*run).returncode == 5
    assert (cube / "workspace/out.txt").read_text() == "x"
    (cube / "workspace/out.txt").write_text("xxxx")
    assert cube_said(*run, "--retries=1").returncode == 5
    assert (cube / "workspace/out.txt").read_text() == "xxxxxx"


def test_a_time_limit_is_not_tried_again(cube: Path) -> None:
    began = time.monotonic()
    done = cube_said(
        "run", f"--mlcube={cube}", "--platform=local", "--task=count", "lines=200", "--timeout=1s", "--retries=9"
    )
    assert done.returncode == 124, done.stderr
    assert time.monotonic() - began < 15


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--retries=many"], "`--retries` takes a number from 0 to 1000, not `many`"),
        (["--retries=2", "--detach"], "`--retries` needs somebody who sees to the run"),
    ],
)
def test_what_cannot_be_meant_is_refused(cube: Path, words: list[str], message: str) -> None:
    done = cube_said("run", f"--mlcube={cube}", "--platform=local", "--task=flaky", *words)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    assert not (cube / "workspace").exists()
