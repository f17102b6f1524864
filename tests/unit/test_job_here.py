"""A job whose directory is on this host, followed without a process as its script would follow it."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from mlcube import locks
from mlcube.child import attend
from mlcube.errors import TimedOut
from mlcube.execute import Execution
from mlcube.job_here import JobHere
from mlcube.plan import Job, Plan
from mlcube.signals import catching
from mlcube.stream import Log
from mlcube_runners._slurm_job import SCHEDULER
from tests.unit.test_following import SHELLS, Place, begun, without


class Here(Place):
    """A job that is followed where its directory is."""

    @property
    def plan(self) -> Plan:
        plan = super().plan
        assert isinstance(plan.task, Job)
        return msgspec.structs.replace(plan, task=msgspec.structs.replace(plan.task, directory=str(self.path)))

    def script(self, text: str) -> None:
        """What is performed instead of the job's script, if something is."""
        (self.path / "job").write_text(text)

    def followed(self, log: Path | None = None, secrets: dict[str, str] | None = None) -> tuple[int | None, JobHere]:
        """Its status without a word of its script; None: the script must tell."""
        here = JobHere(str(self.path), Log(str(log) if log else None), secrets or {}, (None, None))
        try:
            assert attend(here, deadline=time.monotonic() + 60) == "ended"
        finally:
            here.close()
        return (here.reap() if here.known else None), here

    def identify(self, **changes: str) -> None:
        """The process of this test is what performs the task, but for some changes."""
        this = locks.this_process()
        known = {"pid": str(this.pid), "host": this.host, "boot": this.boot, "start": str(this.start), **changes}
        (self.path / "runner").write_text("{pid} {host} {boot} {start}\n".format(**known))

    def end(self, status: int) -> None:
        (self.path / "status.new").write_text(f"{status:<4}\n")
        (self.path / "status.new").rename(self.path / "status")

    def later(self, seconds: float, do: Callable[[], object]) -> threading.Timer:
        timer = threading.Timer(seconds, do)
        timer.start()
        return timer


ONLY_HERE = "echo 'error: the script was asked' >&2; exit 99"


def test_the_status_and_both_outputs_are_the_tasks(tmp_path: Path) -> None:
    place = Here(tmp_path, "echo out; sleep 0.3; echo err >&2; printf unended; exit 42")
    assert place.perform() == (42, "out\nunended", "err\n")


def test_nobody_asks_the_script_about_a_task_that_ends_plainly(tmp_path: Path) -> None:
    place = Here(tmp_path, "sleep 0.5; echo out; exit 3")
    begun(place)
    (place.path / "job").write_text(ONLY_HERE)
    status, here = place.followed()
    assert status == 3
    assert [delivery.carried for delivery in here.deliveries] == [4, 0]
    assert not list(place.path.glob("words.*"))


def test_output_comes_in_pieces_and_at_once(tmp_path: Path) -> None:
    place = Here(tmp_path, "for each in 1 2 3; do sleep 0.7; date +%s.%N; done")
    begun(place)
    log = tmp_path / "log"
    came: list[float] = []

    def look() -> None:
        while len(came) < 3:
            lines = log.read_text().splitlines() if log.exists() else []
            came.extend([time.time()] * (len(lines) - len(came)))
            time.sleep(0.01)

    thread = threading.Thread(target=look)
    thread.start()
    assert place.followed(log)[0] == 0
    thread.join()
    late = [seen - float(printed) for seen, printed in zip(came, log.read_text().split(), strict=True)]
    assert max(late) < 1, late


def test_output_of_another_host_is_seen_within_a_few_seconds(tmp_path: Path) -> None:
    place = Here(tmp_path, ":")
    place.identify(host="elsewhere", pid="1")
    log = tmp_path / "log"
    printed = place.later(1.5, lambda: (place.path / "stdout").write_bytes(b"x" * 300_000))
    ended = place.later(2.5, lambda: place.end(0))
    before = time.monotonic()
    assert place.followed(log)[0] == 0
    assert time.monotonic() - before < 7
    assert log.stat().st_size == 300_000
    printed.join()
    ended.join()


def test_a_large_output_is_whole_and_in_order(tmp_path: Path) -> None:
    place = Here(tmp_path, "seq 400000; seq 1000 >&2")
    status, out, errors = place.perform()
    assert status == 0
    assert out.split() == [str(number) for number in range(1, 400001)]
    assert errors.split() == [str(number) for number in range(1, 1001)]


def test_a_reader_who_is_slow_gets_all_of_it(tmp_path: Path) -> None:
    place = Here(tmp_path, "seq 100000")
    reading, writing = os.pipe()
    code = "import sys, time; time.sleep(1.5); sys.stdout.write(str(len(sys.stdin.read().split())))"
    with (
        subprocess.Popen([sys.executable, "-c", code], stdin=reading, stdout=subprocess.PIPE, text=True) as reader,
        catching() as signals,
        Execution(signals=signals, stdout=writing) as execution,
    ):
        os.close(reading)
        assert execution.run(place.plan) == 0
        os.close(writing)
        assert reader.communicate(timeout=20)[0] == "100000"


def test_a_secret_that_comes_in_two_pieces_is_in_no_log(tmp_path: Path) -> None:
    place = Here(tmp_path, "printf 'the key is hunt'; sleep 0.6; echo 'er22, so'")
    begun(place)
    log = tmp_path / "log"
    assert place.followed(log, {"KEY": "hunter22"})[0] == 0
    assert log.read_text() == "the key is ***, so\n"


def test_what_comes_after_the_end_is_not_the_tasks(tmp_path: Path) -> None:
    place = Here(tmp_path, ":")
    (place.path / "stdout").write_text("out\n")
    place.end(0)
    with subprocess.Popen(["sh", "-c", 'while :; do echo more; done >>"$1"', "sh", place.path / "stdout"]) as endless:
        time.sleep(0.3)
        assert place.followed()[0] == 0
        endless.kill()


@pytest.mark.parametrize("changes", [{"boot": "another"}, {"start": "1"}, {"start": "-"}])
def test_a_task_whose_machine_was_started_again_is_gone(tmp_path: Path, changes: dict[str, str]) -> None:
    place = Here(tmp_path, ":")
    place.identify(**changes)
    assert place.followed()[0] is None


def test_a_task_whose_runner_was_killed_is_told_once(tmp_path: Path) -> None:
    place = Here(tmp_path, "echo before; sleep 60")
    runner = int(begun(place)[0])
    task = int((place.path / "process").read_text().split()[0])

    def kill() -> None:
        for group in (runner, task):
            os.killpg(group, signal.SIGKILL)

    timer = place.later(1, kill)
    status, out, errors = place.perform()
    timer.join()
    assert (status, out) == (137, "before\n")
    assert errors == "error: the task was ended from outside, or its machine was started again\n"


def test_a_directory_that_is_gone_is_told(tmp_path: Path) -> None:
    place = Here(tmp_path, "sleep 60")
    begun(place)
    task = int((place.path / "process").read_text().split()[0])
    timer = place.later(0.5, lambda: shutil.rmtree(place.path))
    log = tmp_path / "log"
    assert place.followed(log)[0] == 137
    assert log.read_text() == f"error: the directory of the task is gone: {place.path}\n"
    timer.join()
    os.killpg(task, signal.SIGKILL)


def test_a_status_that_cannot_be_kept_is_told_once(tmp_path: Path) -> None:
    place = Here(tmp_path, "rm status.new && mkdir status.new && echo out; exit 0")
    status, out, errors = place.perform()
    assert (status, out, errors.count("ended from outside")) == (137, "out\n", 1)


def test_a_signal_stops_it_and_it_can_still_clean_up(tmp_path: Path) -> None:
    place = Here(tmp_path, 'trap "echo cleaned" EXIT\n: >begun\nsleep 60')
    place.interrupt(lambda: (place.path / "begun").exists() and any(place.path.glob(f"words.*.{os.getpid()}")))
    assert (place.path / "shown").read_text() == "cleaned\n"
    assert (place.path / "status").read_text().split() == ["143"]


def test_what_hears_no_signal_is_ended_after_its_time(tmp_path: Path) -> None:
    place = Here(tmp_path, "trap '' TERM; echo deaf; while :; do sleep 1; done")
    before = time.monotonic()
    with (
        (place.path / "shown").open("wb") as out,
        catching() as signals,
        Execution(signals=signals, stdout=out.fileno()) as execution,
        pytest.raises(TimedOut),
    ):
        execution.run(place.plan, timeout_seconds=1)
    assert time.monotonic() - before < 40
    assert (place.path / "status").read_text().split() == ["137"]


def test_it_is_found_by_whoever_comes_later(tmp_path: Path) -> None:
    place = Here(tmp_path, "echo one; sleep 1; echo two; exit 4")
    begun(place)
    first = JobHere(str(place.path), Log(None), {}, (None, None))
    assert attend(first, deadline=time.monotonic() + 0.5) == "late"
    first.close()
    assert place.perform() == (4, "one\ntwo\n", "")


# Where something schedules it


class Scheduled(Here):
    """A job that a scheduler starts, whose script says whether it lives."""

    def __init__(self, path: Path, lives: int) -> None:
        super().__init__(path, ":")
        (self.path / "scheduler").write_text(":")
        self.answers(lives)
        self.answer = path / "queue"
        (self.path / "alive").write_text(f"{self.answer}\n17 \n")

    def answers(self, lives: int) -> None:
        self.script(f'echo "$@" >>"{self.path}/asked"; exit {lives}')

    def asked(self) -> list[str]:
        try:
            return (self.path / "asked").read_text().splitlines()
        except FileNotFoundError:
            return []


def test_a_job_that_waits_is_asked_about_ever_more_rarely(tmp_path: Path) -> None:
    place = Scheduled(tmp_path, 0)
    ended = place.later(15, lambda: place.end(0))
    assert place.followed()[0] == 0
    ended.join()
    assert place.asked() == ["alive 4", "alive 5"]


def test_a_job_that_has_left_the_queue_is_its_scripts(tmp_path: Path) -> None:
    place = Scheduled(tmp_path, 1)
    before = time.monotonic()
    assert place.followed()[0] is None
    assert time.monotonic() - before < 10
    assert place.asked() == ["alive 4"]


@pytest.mark.parametrize(
    ("answer", "asking", "asked"),
    [
        ("{now}\n16 RUNNING\n17 PENDING\n", False, 0),
        ("{now}\n117 RUNNING\n170 PENDING\n", False, 1),
        ("{old}\n17 PENDING\n", False, 1),
        ("{future}\n17 PENDING\n", False, 1),
        ("{old}\n17 PENDING\n", True, 0),
        ("", False, 1),
        ("words\n17 \n", False, 1),
    ],
)
def test_the_answer_that_jobs_share_is_read_and_not_asked_for(
    tmp_path: Path, answer: str, asking: bool, asked: int
) -> None:
    place = Scheduled(tmp_path, 0)
    times = {"now": int(time.time()) + 3, "old": int(time.time()) - 60, "future": int(time.time()) + 600}
    place.answer.write_text(answer.format(**times))
    if asking:
        Path(f"{place.answer}.asking").mkdir()
    ended = place.later(6, lambda: place.end(0))
    assert place.followed()[0] == 0
    ended.join()
    assert len(place.asked()) == asked


def test_nobody_asks_about_a_job_that_runs_on_this_host(tmp_path: Path) -> None:
    place = Scheduled(tmp_path, 1)
    place.identify()
    ended = place.later(6, lambda: place.end(0))
    assert place.followed()[0] == 0
    ended.join()
    assert place.asked() == []


@pytest.mark.parametrize(
    ("status", "noted", "known"),
    [(0, "", True), (7, "", True), (137, "", False), (143, "terminated", False), (0, "state", False)],
)
def test_an_end_that_a_scheduler_may_explain_is_its_scripts(
    tmp_path: Path, status: int, noted: str, known: bool
) -> None:
    place = Scheduled(tmp_path, 0)
    if noted:
        (place.path / noted).touch()
    place.end(status)
    assert place.followed()[0] == (status if known else None)


@pytest.mark.parametrize("shell", SHELLS)
def test_slurms_script_says_in_which_file_the_answer_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    place = Here(tmp_path, ":")
    environment = without(tmp_path, shell, ())
    programs = tmp_path / "programs"
    for name, answer in (("squeue", "echo 17 PENDING"), ("sbatch", "echo '17;two'"), ("scancel", ":")):
        (programs / name).unlink(missing_ok=True)
        (programs / name).write_text(f"#!/bin/sh\necho x >>'{tmp_path}/{name}.asked'\n{answer}\n")
        (programs / name).chmod(0o755)
    environment["CUBE_CACHE_DIR"] = str(tmp_path / "cache")
    for name, text in (("scheduler", SCHEDULER), ("name", "cube-x\n"), ("cluster", "o'ne"), ("submit", "exec sbatch")):
        (place.path / name).write_text(text)
    script = [str(programs / "sh"), str(place.path / "job")]
    subprocess.run([*script, "start"], env=environment, check=True)
    path, beginning = (place.path / "alive").read_text().splitlines()
    assert beginning == "17 "
    number, submitted = (place.path / "job.number").read_text().split()
    (place.path / "job.number").write_text(f"{number}\n{int(submitted) - 10}\n")
    for _ in range(2):
        assert subprocess.run([*script, "alive", "30"], env=environment).returncode == 0
    assert (tmp_path / "squeue.asked").read_text() == "x\n"
    asked, *lines = Path(path).read_text().splitlines()
    assert abs(int(asked) - time.time()) < 30
    assert lines == ["17 PENDING"]
    (programs / "squeue").write_text("#!/bin/sh\necho 18 RUNNING\n")
    Path(path).write_text(f"{int(asked) - 60}\n17 PENDING\n")
    assert subprocess.run([*script, "alive", "30"], env=environment).returncode == 1
