"""`cube run --detach`, and what is done about such a run from elsewhere: `wait`, `logs`, `collect`, `cancel`."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CUBE = """\
name: patient
python: {source: src}
tasks:
  work:
    entrypoint: python work.py
    parameters:
      outputs: {out: {type: file, default: out.txt}}
"""
WORK = """\
import os, sys, time
(out,) = (word.partition("=")[2] for word in sys.argv if word.startswith("--out="))
with open("../begun", "a") as file:
    file.write("x")
print("started", flush=True)
while not os.path.exists("../go"):
    time.sleep(0.05)
with open(out, "w") as file:
    file.write("done")
print("ended")
sys.exit(int(open("../go").read() or 0))
"""


class Site:
    """A cube whose task waits until it is told how to end, and a user with a state of their own."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.cube = place / "cube"
        (self.cube / "src").mkdir(parents=True)
        (self.cube / "mlcube.yaml").write_text(CUBE)
        (self.cube / "src" / "work.py").write_text(WORK.replace("../", f"{self.cube}/"))
        names = {name: str(place / name.lower()) for name in ("CUBE_STATE_DIR", "CUBE_CACHE_DIR", "CUBE_CONFIG_DIR")}
        self.environment = {**os.environ, **names, "MLCUBE_SYSTEM_SETTINGS": str(place / "settings.yaml")}

    def do(self, *words: str, seconds: float = 60) -> "subprocess.CompletedProcess[str]":
        """A command of cube's, to its end."""
        return subprocess.run(
            [sys.executable, "-m", "mlcube", *words],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def leave(self, *words: str) -> str:
        """Begin a run and leave it; gives its id."""
        left = self.do("run", "--mlcube", str(self.cube), "--platform", "local", "--detach", *words)
        assert left.returncode == 0, left.stderr
        return left.stdout.strip()

    def run(self, run_id: str) -> Path:
        """Its directory."""
        return self.place / "cube_state_dir" / "runs" / run_id

    def started(self, run_id: str) -> None:
        """Return once its task has begun."""
        until(lambda: (self.cube / "begun").exists() and (self.run(run_id) / "begun").exists())

    def go(self, status: int = 0) -> None:
        """Have the task end."""
        (self.cube / "new").write_text(str(status))
        (self.cube / "new").rename(self.cube / "go")

    def holder(self, run_id: str) -> int:
        """The process that sees to it."""
        return int(json.loads((self.run(run_id) / "holder.json").read_text())["pid"])

    def kill(self, run_id: str) -> None:
        """As the kernel kills for want of memory."""
        process = self.holder(run_id)
        os.kill(process, signal.SIGKILL)
        until(lambda: not alive(process))

    def record(self, run_id: str) -> Any:
        """What `cube runs show` says."""
        return json.loads(self.do("runs", "show", run_id, "--json").stdout)


@pytest.fixture
def site(tmp_path: Path) -> Any:
    made = Site(tmp_path)
    yield made
    made.go()
    for record in json.loads(made.do("runs", "--json").stdout)["runs"]:
        if not record.get("finished"):
            made.do("cancel", record["id"])


def until(holds: Callable[[], bool], seconds: float = 30) -> None:
    """Return once it holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


def alive(process: int) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_who_watches_sees_soon_what_no_event_tells(site: Site, tmp_path: Path) -> None:
    (tmp_path / "lacking").mkdir()
    (tmp_path / "lacking" / "ctypes.py").write_text("raise ImportError")  # without it there is no inotify
    run_id = site.leave()
    site.started(run_id)
    environment = {**site.environment, "PYTHONPATH": str(tmp_path / "lacking")}
    argv = [sys.executable, "-m", "mlcube", "logs", "-f", run_id]
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout
        assert follower.stdout.readline() == "started\n"
        time.sleep(8.6)
        with (site.run(run_id) / "log").open("a") as log:
            log.write("late\n")
        begun = time.monotonic()
        assert follower.stdout.readline() == "late\n"
        seconds = time.monotonic() - begun
        site.go()
        assert follower.wait(60) == 0
    assert seconds < 3


def test_a_run_is_left_and_found_again_from_another_terminal(site: Site) -> None:
    run_id = site.leave()
    site.started(run_id)
    assert run_id in site.do("runs").stdout
    site.go()
    waited = site.do("wait", run_id)
    assert waited.returncode == 0
    assert "succeeded" in waited.stderr
    assert site.do("logs", run_id).stdout == "started\nended\n"
    assert (site.cube / "workspace" / "out.txt").read_text() == "done"
    kept = {path.name for path in site.run(run_id).iterdir()}
    assert kept == {"invocation.json", "log", "notes", "plan.json", "record.json"}


def test_the_exit_status_of_wait_is_the_tasks_own(site: Site) -> None:
    run_id = site.leave()
    site.started(run_id)
    site.go(42)
    waited = site.do("wait", run_id)
    assert waited.returncode == 42
    assert f"cube logs {run_id}" in waited.stderr
    assert site.do("collect", run_id).returncode == 42


def test_what_speaks_against_a_run_is_told_before_it_is_left(site: Site) -> None:
    refused = site.do("run", "--mlcube", str(site.cube), "--platform", "local", "--detach", "--memory", "1MiB")
    assert (refused.returncode, refused.stdout) == (77, "")
    assert "memory" in refused.stderr


def test_a_log_is_followed_until_the_run_is_over(site: Site) -> None:
    run_id = site.leave()
    site.started(run_id)
    with subprocess.Popen(
        [sys.executable, "-m", "mlcube", "logs", "-f", run_id], env=site.environment, stdout=subprocess.PIPE, text=True
    ) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == "started\n"
        site.go()
        assert follower.stdout.read() == "ended\n"
        assert follower.wait(30) == 0


def test_waiting_has_a_limit_and_the_run_goes_on(site: Site) -> None:
    run_id = site.leave()
    site.started(run_id)
    late = site.do("wait", run_id, "--timeout", "1s")
    assert late.returncode == 124
    assert f"the end of run {run_id} took longer than 1 s; the run goes on" in late.stderr
    assert site.record(run_id)["status"] == "running"


def test_whoever_waits_may_leave(site: Site) -> None:
    run_id = site.leave()
    site.started(run_id)
    with subprocess.Popen(
        [sys.executable, "-m", "mlcube", "wait", run_id], env=site.environment, stderr=subprocess.PIPE, text=True
    ) as waiting:
        assert waiting.stderr is not None
        assert "waiting for the end of" in waiting.stderr.readline()
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(10) == 130
        assert f"run {run_id} goes on" in waiting.stderr.read()
    assert site.record(run_id)["status"] == "running"


def test_a_run_is_cancelled_from_elsewhere(site: Site) -> None:
    run_id = site.leave()
    site.started(run_id)
    assert site.do("cancel", run_id).returncode == 0
    record = site.record(run_id)
    assert (record["status"], record["exit_status"]) == ("interrupted", 143)
    assert site.do("cancel", run_id).returncode == 0, "twice is harmless"


def test_nothing_is_collected_of_a_task_that_has_not_ended(site: Site) -> None:
    run_id = site.leave()
    site.started(run_id)
    early = site.do("collect", run_id)
    assert early.returncode == 75
    assert f"cube wait {run_id}" in early.stderr


def test_the_task_goes_on_when_cube_is_killed_and_is_taken_up(site: Site) -> None:
    run_id = site.leave()
    site.started(run_id)
    site.kill(run_id)
    assert site.record(run_id)["status"] == "running"
    site.do("runs")  # looks for what was killed, and leaves alone what goes on
    assert site.do("collect", run_id).returncode == 75
    site.go(3)
    assert site.do("wait", run_id).returncode == 3
    assert site.do("logs", run_id).stdout == "started\nended\n"
    assert (site.cube / "begun").read_text() == "x", "the task was run twice"
    assert (site.cube / "workspace" / "out.txt").read_text() == "done"


def test_what_ended_while_nobody_saw_to_it_is_collected(site: Site) -> None:
    run_id = site.leave()
    site.started(run_id)
    site.kill(run_id)
    site.go()
    until((site.run(run_id) / "job" / "status").exists)
    assert site.do("collect", run_id).returncode == 0
    record = site.record(run_id)
    assert record["status"] == "succeeded"
    assert [output["name"] for output in record["outputs"]] == ["out"]
    assert (site.cube / "begun").read_text() == "x", "the task was run twice"


def test_whoever_takes_it_up_may_be_killed_too(site: Site) -> None:
    run_id = site.leave()
    site.started(run_id)
    site.kill(run_id)
    with subprocess.Popen(
        [sys.executable, "-m", "mlcube", "wait", run_id], env=site.environment, stderr=subprocess.DEVNULL
    ) as waiting:
        until(lambda: alive(site.holder(run_id)))
        site.kill(run_id)
        site.go()
        assert waiting.wait(60) == 0
    assert (site.cube / "begun").read_text() == "x", "the task was run twice"


def test_one_that_nobody_sees_to_is_cancelled(site: Site) -> None:
    run_id = site.leave()
    site.started(run_id)
    site.kill(run_id)
    assert site.do("cancel", run_id).returncode == 0
    record = site.record(run_id)
    assert (record["status"], record["message"]) == ("interrupted", "the run was cancelled")


def test_its_outputs_stay_its_own_while_nobody_sees_to_it(site: Site) -> None:
    run_id = site.leave()
    site.started(run_id)
    site.kill(run_id)
    other = site.do("run", "--mlcube", str(site.cube), "--platform", "local")
    assert other.returncode == 75
    assert run_id in other.stderr
    assert site.do("runs", "remove", run_id).returncode == 75


def test_after_a_restart_of_the_machine_it_is_said_that_the_task_is_gone(site: Site) -> None:
    run_id = site.leave()
    site.started(run_id)
    site.kill(run_id)
    job = site.run(run_id) / "job"
    for name in ("runner", "process"):  # in this order: the one would tell how the other ended
        number = int((job / name).read_text().split()[0])
        os.killpg(number, signal.SIGKILL) if name == "process" else os.kill(number, signal.SIGKILL)
    waited = site.do("wait", run_id)
    assert waited.returncode == 137
    assert "was ended from outside, or its machine was started again" in site.do("logs", run_id).stdout


def test_one_whose_task_had_not_begun_is_noted_as_killed(site: Site) -> None:
    (site.cube / "src" / "requirements.txt").write_text("nothing @ http://192.0.2.1/nothing-1-py3-none-any.whl\n")
    (site.cube / "mlcube.yaml").write_text(
        CUBE.replace("source: src", "source: src, requirements: src/requirements.txt")
    )
    run_id = site.leave()
    site.kill(run_id)
    waited = site.do("wait", run_id)
    assert waited.returncode == 137
    assert "the run was killed" in waited.stderr
    assert not (site.cube / "begun").exists()


def test_a_killed_runs_secret_does_not_get_into_the_log(site: Site) -> None:
    text = CUBE.replace("    entrypoint", "    secrets: [TOKEN]\n    entrypoint")
    (site.cube / "mlcube.yaml").write_text(text)
    work = site.cube / "src" / "work.py"
    work.write_text(work.read_text().replace('print("ended")', 'print("ended", os.environ["TOKEN"])'))
    site.environment["TOKEN"] = "not for anybody"
    run_id = site.leave()
    site.started(run_id)
    site.kill(run_id)
    del site.environment["TOKEN"]
    asked = site.do("wait", run_id)
    assert asked.returncode == 2
    assert "--secret TOKEN=FILE" in asked.stderr
    secret = site.place / "token"
    secret.write_text("not for anybody\n")
    site.go()
    assert site.do("wait", run_id, "--secret", f"TOKEN={secret}").returncode == 0
    assert "not for anybody" not in site.do("logs", run_id).stdout
    found = subprocess.run(["grep", "-r", "not for anybody", str(site.run(run_id))], capture_output=True, check=False)
    assert found.returncode == 1, found.stdout


def test_one_task_is_left_at_a_time(site: Site) -> None:
    (site.cube / "mlcube.yaml").write_text(CUBE + "  other: {entrypoint: python work.py}\n")
    both = site.do("run", "--mlcube", str(site.cube), "--platform", "local", "--detach", "--task", "work,other")
    assert both.returncode == 2
    assert "--task work" in both.stderr
