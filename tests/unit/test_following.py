"""A task that runs apart: started once, followed through lost connections, its status its own."""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from mlcube.errors import Interrupted, PreparationFailed
from mlcube.execute import Execution
from mlcube.following import follow
from mlcube.job import JOB
from mlcube.plan import Command, Job, Pipe, Plan, SecretText, WriteFile, command
from mlcube.script import embedded
from mlcube.signals import catching
from mlcube_runners._slurm_job import SCHEDULER

SHELLS = [shell for shell in ("sh", "bash", "busybox") if shutil.which(shell)]
FOLLOW = Job(start=command("true"), follow=command("follow"), status=command("status"), lost=(255,))


def followed(answers: list[tuple[int, int, int]], told: list[str]) -> tuple[int, list[tuple[str, ...]], list[float]]:
    """What following gives, the words it asked with, and how long it waited."""
    asked: list[tuple[str, ...]] = []
    waited: list[float] = []

    def once(step: Command) -> tuple[int, int, int]:
        asked.append(step.argv)
        return answers.pop(0)

    status = follow(FOLLOW, once, lambda _: told.pop(0), waited.append, lambda _: None)
    return status, asked, waited


def test_a_lost_connection_is_followed_again_from_where_it_was() -> None:
    status, asked, waited = followed([(255, 10, 3), (255, 0, 0), (7, 5, 0)], ["", ""])
    assert status == 7
    assert asked == [("follow", "0", "0"), ("follow", "10", "3"), ("follow", "10", "3")]
    assert waited == [1.0, 2.0]


def test_a_tasks_own_255_is_not_taken_for_a_lost_connection() -> None:
    status, asked, waited = followed([(255, 4, 0), (255, 0, 0)], ["255\n", "255\n"])
    assert (status, len(asked), waited) == (255, 2, [])


def test_what_came_after_the_connection_was_lost_is_seen_although_the_task_has_ended() -> None:
    status, asked, _ = followed([(255, 4, 0), (3, 9, 0)], ["3\n"])
    assert (status, asked[-1]) == (3, ("follow", "4", "0"))


class Place:
    """A directory with a job, as placements lay it out."""

    def __init__(self, path: Path, task: str) -> None:
        self.path = path / "a job, it's"
        self.path.mkdir()
        (self.path / "job").write_text(JOB)
        (self.path / "task").write_text(f"trap : TERM INT HUP\n{task}\n")

    def verb(self, name: str) -> Command:
        return command("sh", str(self.path / "job"), name)

    @property
    def plan(self) -> Plan:
        job = Job(start=self.verb("start"), follow=self.verb("follow"), status=self.verb("status"), lost=(255,))
        return Plan(task=job, stop=self.verb("stop"), kill=self.verb("kill"))

    def perform(self, plan: Plan | None = None) -> tuple[int, str, str]:
        with (
            (self.path / "shown").open("wb") as out,
            (self.path / "told").open("wb") as err,
            catching() as signals,
            Execution(signals=signals, stdout=out.fileno(), stderr=err.fileno()) as execution,
        ):
            status = execution.run(plan or self.plan)
        return status, (self.path / "shown").read_text(), (self.path / "told").read_text()

    def interrupt(self, when: Callable[[], bool]) -> None:
        """Perform it, and ask this process to end while it is performed."""

        def ask() -> None:
            while not when():
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGTERM)

        thread = threading.Thread(target=ask)
        thread.start()
        with pytest.raises(Interrupted):
            self.perform()
        thread.join()


def test_the_status_and_both_outputs_are_the_tasks(tmp_path: Path) -> None:
    place = Place(tmp_path, "echo out; sleep 0.3; echo err >&2; printf unended; exit 42")
    assert place.perform() == (42, "out\nunended", "err\n")


def test_starting_twice_runs_it_once(tmp_path: Path) -> None:
    place = Place(tmp_path, 'echo once >>"$PWD/count"')
    for _ in range(2):
        subprocess.run(place.verb("start").argv, check=True)
    assert place.perform()[0] == 0
    assert (place.path / "count").read_text() == "once\n"


def test_a_start_on_a_busy_machine_waits_until_the_task_has_begun(tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "setsid").write_text(f'#!/bin/sh\nsleep 3\nexec {shutil.which("setsid")} "$@"\n')
    (programs / "setsid").chmod(0o755)
    place = Place(tmp_path, "exit 5")
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    subprocess.run(place.verb("start").argv, env=environment, check=True, timeout=30)
    assert (place.path / "runner").exists()
    assert place.perform()[0] == 5


def test_the_task_has_no_descriptor_of_those_who_wait(tmp_path: Path) -> None:
    status, out, _ = Place(tmp_path, "for each in /proc/self/fd/*; do readlink $each || :; done").perform()
    assert status == 0
    assert "words" not in out


def test_a_follower_that_is_killed_harms_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path, "for n in 1 2 3 4 5 6; do echo $n; sleep 0.3; done; exit 5")
    wrapper = place.path / "lossy"
    # The first follower is cut after a second, as a connection is
    wrapper.write_text('[ -e "$0.cut" ] || { : >"$0.cut"; timeout 1 "$@"; exit 255; }\nexec "$@"\n')
    job = place.plan.task
    assert isinstance(job, Job)
    lossy = command("sh", str(wrapper), *job.follow.argv)
    cut = Plan(task=Job(start=job.start, follow=lossy, status=job.status, lost=(255,)))
    assert place.perform(cut) == (5, "1\n2\n3\n4\n5\n6\n", "")


def test_a_task_of_which_nothing_is_left_is_told(tmp_path: Path) -> None:
    place = Place(tmp_path, "sleep 60")
    subprocess.run(place.verb("start").argv, check=True)
    while not (place.path / "process").exists():
        time.sleep(0.02)
    task = int((place.path / "process").read_text().split()[0])
    while os.getpgid(task) != task:  # it is written down before it has a group of its own
        time.sleep(0.02)
    os.killpg(task, signal.SIGKILL)
    assert place.perform()[0] == 137


def test_what_the_task_left_in_the_background_ends_with_it(tmp_path: Path) -> None:
    place = Place(tmp_path, "sleep 61 & echo $! >left")
    assert place.perform()[0] == 0
    left = Path("/proc", (place.path / "left").read_text().strip(), "stat")
    time.sleep(0.1)
    assert not left.exists() or left.read_text().split()[2] == "Z"


def test_a_signal_stops_it_and_it_can_still_clean_up(tmp_path: Path) -> None:
    place = Place(tmp_path, 'trap "echo cleaned >cleaned" EXIT\n: >begun\nsleep 60')
    place.interrupt((place.path / "begun").exists)
    assert (place.path / "cleaned").exists()
    assert (place.path / "status").read_text().split() == ["143"]


@pytest.mark.parametrize("change", ["boot", "start"])
def test_a_number_that_belongs_to_another_process_is_not_taken_for_the_task(tmp_path: Path, change: str) -> None:
    place = Place(tmp_path, "sleep 60")
    pid, host, boot, start = begun(place)
    other = f"{pid} {host} {'another' if change == 'boot' else boot} {'1' if change == 'start' else start}\n"
    (place.path / "runner").write_text(other)
    kept = (place.path / "process").read_text()
    (place.path / "process").write_text(other)
    assert subprocess.run(place.verb("kill").argv).returncode == 0
    assert Path("/proc", pid).exists(), "it is not ours to end"
    (place.path / "process").write_text(kept)
    os.killpg(int(kept.split()[0]), signal.SIGKILL)


def test_a_task_on_another_host_is_followed_by_its_files_and_cannot_be_told_anything(tmp_path: Path) -> None:
    place = Place(tmp_path, "sleep 3; exit 7")
    pid, _, boot, start = begun(place)
    (place.path / "runner").write_text(f"{pid} elsewhere {boot} {start}\n")
    for verb in ("stop", "kill"):
        told = subprocess.run(place.verb(verb).argv, capture_output=True, text=True)
        assert told.returncode == 1
        assert "the task runs on elsewhere" in told.stderr
    assert not (place.path / "status").exists()
    assert place.perform()[0] == 7


def test_a_status_that_cannot_be_kept_is_told_once(tmp_path: Path) -> None:
    place = Place(tmp_path, "rm status.new && mkdir status.new && echo out; exit 0")
    status, out, errors = place.perform()
    assert (status, out, errors.count("ended from outside")) == (137, "out\n", 1)


def without(place: Path, shell: str, lacking: tuple[str, ...]) -> dict[str, str]:
    """An environment in which `sh` is this shell, and some programs are not there."""
    programs = place / "programs"
    programs.mkdir()
    for folder in ("/bin", "/usr/bin"):
        for program in Path(folder).iterdir():
            if program.name not in (*lacking, "sh") and not (programs / program.name).is_symlink():
                (programs / program.name).symlink_to(program)
    found = shutil.which(shell)
    assert found
    (programs / "sh").symlink_to(found)
    return {"PATH": str(programs)}


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize("lacking", [("setsid",), ("setsid", "perl")], ids=" ".join)
def test_a_task_without_setsid_ends_with_its_children(tmp_path: Path, shell: str, lacking: tuple[str, ...]) -> None:
    environment = without(tmp_path, shell, lacking)
    programs = tmp_path / "programs"
    place = Place(tmp_path, "sleep 62 & echo $! >left\nwait")
    subprocess.run([str(programs / "sh"), *place.verb("start").argv[1:]], env=environment, check=True)
    left = place.path / "left"
    while not left.exists() or not left.read_text():
        time.sleep(0.02)
    subprocess.run([str(programs / "sh"), *place.verb("kill").argv[1:]], env=environment, check=True)
    deadline = time.monotonic() + 3  # what was killed may take a moment to be dead
    while running(left.read_text().strip()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert (place.path / "status").read_text().split() == ["137"]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("lacking", [(), ("setsid", "perl")], ids=" ".join)
@pytest.mark.parametrize("verb", ["stop", "kill"])
def test_what_ended_a_task_is_not_told_among_its_errors(
    tmp_path: Path, shell: str, lacking: tuple[str, ...], verb: str
) -> None:
    task = embedded(Plan(task=command("sh", "-c", "echo begun >&2; exec sleep 60")), reasons_in=".")
    place = Place(tmp_path, task)
    (place.path / "kill").write_text("echo killed; echo killed >&2")
    environment = without(tmp_path, shell, lacking)

    def do(verb: str, *words: str) -> "subprocess.CompletedProcess[str]":
        argv = [str(tmp_path / "programs" / "sh"), str(place.path / "job"), verb, *words]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=30)

    do("start")
    while not (place.path / "stderr").exists() or not (place.path / "stderr").read_text():
        time.sleep(0.02)
    do(verb)
    followed = do("follow", "0", "0")
    assert (followed.returncode, followed.stdout, followed.stderr) == (143 if verb == "stop" else 137, "", "begun\n")


def test_where_there_is_no_group_none_ends_before_those_who_wait_for_it(tmp_path: Path) -> None:
    """Else a task whose child was ended first could end by itself, and well."""
    chain = [700, 31, 9000, 12, 544, 8, 77, 6001, 3, 250]
    lines = [f"{child} {parent}" for parent, child in pairwise(chain)] + ["700 2", "2 1", "1 0", "99 2"]
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "ps").write_text("#!/bin/sh\n" + "".join(f"echo {line}\n" for line in sorted(lines)))
    (programs / "ps").chmod(0o755)
    functions = JOB[JOB.index("signal_group() {") : JOB.index("# What follows is otherwise")]
    kill = 'kill() { [ "$3" != -- ] || return 1; shift 2; echo "$@" >ended; }'
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    subprocess.run(["sh", "-c", f"{functions}\n{kill}\nsignal_group KILL 700"], cwd=tmp_path, env=environment)
    assert (tmp_path / "ended").read_text().split() == [str(one) for one in chain]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_what_is_printed_after_a_long_silence_is_seen_at_once(tmp_path: Path, shell: str, stream: str) -> None:
    place = Place(tmp_path, f'trap "" HUP; sleep 1.5; date +%s.%N >&{1 if stream == "stdout" else 2}; sleep 20')
    (place.path / "late").write_text(JOB.replace("rounds=0", "rounds=100", 1))
    environment = without(tmp_path, shell, ())
    subprocess.run(place.verb("start").argv, check=True)
    argv = [str(tmp_path / "programs" / "sh"), str(place.path / "late"), "follow", "0", "0"]
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as follower:
        carried = follower.stdout if stream == "stdout" else follower.stderr
        assert carried
        printed = float(carried.readline())
        assert time.time() - printed < 3
        subprocess.run(place.verb("kill").argv, check=True)
        assert follower.wait(10) == 137


@pytest.mark.parametrize("fractions", [True, False])
def test_a_limit_is_kept_also_where_sleep_knows_whole_seconds_only(tmp_path: Path, fractions: bool) -> None:
    place = Place(tmp_path, "sleep 60")
    (place.path / "limit").write_text("0.7\n")
    programs = tmp_path / "programs"
    programs.mkdir()
    if not fractions:
        (programs / "sleep").write_text(f"#!/bin/sh\ncase $1 in *.*) exit 1 ;; esac\nexec {shutil.which('sleep')} $1\n")
        (programs / "sleep").chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    before = time.monotonic()
    subprocess.run(place.verb("start").argv, env=environment, check=True)
    assert place.perform()[0] == 143
    assert (place.path / "state").read_text() == "TIMEOUT\n"
    assert time.monotonic() - before < 5


def test_the_clock_of_a_task_that_was_in_time_is_gone(tmp_path: Path) -> None:
    limit = f"{100000 + os.getpid()}.25"
    place = Place(tmp_path, "sleep 0.3")
    (place.path / "limit").write_text(f"{limit}\n")
    assert place.perform()[0] == 0
    time.sleep(0.2)
    left = [path for path in Path("/proc").glob("[0-9]*/cmdline") if limit.encode() in content(path)]
    assert left == []


def content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def begun(place: Place) -> list[str]:
    """What identifies the process of a task that has just been started."""
    subprocess.run(place.verb("start").argv, check=True)
    while not (place.path / "process").exists():
        time.sleep(0.02)
    return (place.path / "runner").read_text().split()


def running(pid: str) -> bool:
    stat = Path("/proc", pid, "stat")
    return stat.exists() and stat.read_text().split()[2] != "Z"


# As a job of Slurm, whose commands are these


SLURM = {
    "squeue": 'if [ "$2" = -n ]; then cat "$0.named" 2>/dev/null; else cat "$0.all" 2>/dev/null; fi; :',
    "sbatch": 'echo x >>"$0.asked"; sleep "$(cat "$0.slow" 2>/dev/null || echo 0)"; echo 17',
    "scontrol": 'echo "JobId=17 JobState=$(cat "$0.state") ExitCode=0:0 "',
    "scancel": ":",
}


class Queue(Place):
    """A job that programs called like Slurm's answer for."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(path, ":")
        self.programs = path / "programs"
        self.programs.mkdir()
        for name, script in SLURM.items():
            (self.programs / name).write_text(f"#!/bin/sh\n{script}\n")
            (self.programs / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{self.programs}:{os.environ['PATH']}")
        monkeypatch.setenv("CUBE_CACHE_DIR", str(path / "cache"))
        for name, text in (
            ("scheduler", SCHEDULER),
            ("name", "cube-x\n"),
            ("cluster", "one"),
            ("submit", "exec sbatch"),
        ):
            (self.path / name).write_text(text)

    def submissions(self) -> int:
        return len((self.programs / "sbatch.asked").read_text().split())


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "COMPLETING", "REQUEUED", "SUSPENDED"])
def test_a_job_that_lives_is_not_gone_whatever_the_queue_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    queue = Queue(tmp_path, monkeypatch)
    subprocess.run(queue.verb("start").argv, check=True)
    (queue.programs / "scontrol.state").write_text(state)
    with subprocess.Popen([*queue.verb("follow").argv, "0", "0"]) as follower:
        deadline = time.monotonic() + 20
        while not (tmp_path / "cache").is_dir() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(1)  # what it was told has had its effect
        assert follower.poll() is None
        (queue.path / "status").write_text("5\n")
        assert follower.wait(10) == 5
    (answer,) = (tmp_path / "cache").iterdir()
    assert answer.name.startswith("squeue.one.")


def test_a_controller_that_answers_now_and_then_ends_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Queue(tmp_path, monkeypatch)
    subprocess.run(queue.verb("start").argv, check=True)
    (queue.programs / "scontrol").write_text(
        '#!/bin/sh\necho x >>"$0.asked"; [ $(($(wc -l <"$0.asked") % 2)) = 1 ] || exit 1\n'
        'echo "JobId=17 JobState=RUNNING ExitCode=0:0 "\n'
    )
    with subprocess.Popen([*queue.verb("follow").argv, "0", "0"]) as follower:
        while not (queue.programs / "scontrol.asked").exists():
            time.sleep(0.02)
        time.sleep(1.2)
        assert follower.poll() is None
        (queue.path / "status").write_text("5\n")
        assert follower.wait(10) == 5


def test_slurm_may_take_its_time_to_say_why_a_job_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Queue(tmp_path, monkeypatch)
    subprocess.run(queue.verb("start").argv, check=True)
    (queue.programs / "scontrol").write_text(
        '#!/bin/sh\necho x >>"$0.asked"; case $(($(wc -l <"$0.asked"))) in\n'
        '1) exit 1 ;; 2) echo "JobId=17 JobState=COMPLETING " ;; *) echo "JobId=17 JobState=PREEMPTED " ;; esac\n'
    )
    (queue.path / "terminated").touch()
    (queue.path / "status").write_text("143\n")
    assert subprocess.run([*queue.verb("follow").argv, "0", "0"], check=False, timeout=20).returncode == 75


def test_a_clock_that_was_set_back_hides_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Queue(tmp_path, monkeypatch)
    subprocess.run(queue.verb("start").argv, check=True)
    (queue.programs / "scontrol.state").write_text("FAILED")
    (queue.path / "job.number").write_text(f"17\n{int(time.time()) + 7200}\n")
    assert subprocess.run([*queue.verb("follow").argv, "0", "0"], check=False, timeout=30).returncode == 69


def test_a_start_while_another_one_submits_waits_for_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = Queue(tmp_path, monkeypatch)
    (queue.programs / "sbatch.slow").write_text("1.5")
    starts = [subprocess.Popen(queue.verb("start").argv) for _ in range(3)]
    assert [start.wait(20) for start in starts] == [0, 0, 0]
    assert queue.submissions() == 1
    assert (queue.path / "job.number").read_text().split()[0] == "17"


def test_what_a_submitter_that_was_killed_has_submitted_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = Queue(tmp_path, monkeypatch)
    (queue.programs / "sbatch.slow").write_text("1")
    first = subprocess.Popen(queue.verb("start").argv)
    while not (queue.programs / "sbatch.asked").exists():
        time.sleep(0.02)
    first.kill()
    first.wait()
    subprocess.run(queue.verb("start").argv, check=True, timeout=20)
    assert queue.submissions() == 1
    assert (queue.path / "job.number").read_text().split()[0] == "17"


# The steps that go with it


def test_a_command_reads_its_input_and_secrets_stand_nowhere_else(tmp_path: Path) -> None:
    steps = (
        Command(argv=("tee", str(tmp_path / "text")), input="a\n'b'", quiet=True),
        Command(argv=("sh", "-c", 'cat >"$1"', "sh", str(tmp_path / "secret")), input=SecretText("TOKEN")),
    )
    with catching() as signals, Execution(signals=signals, secrets={"TOKEN": "s3cret\n"}) as execution:
        execution.prepare(Plan(steps=steps))
    assert (tmp_path / "text").read_text() == "a\n'b'"
    assert (tmp_path / "secret").read_text() == "s3cret\n"
    script = Plan(steps=steps).script()
    assert "s3cret" not in script
    (tmp_path / "text").unlink()
    subprocess.run(["sh", "-euc", script], env={**os.environ, "TOKEN": "x"}, check=True, capture_output=True)
    assert (tmp_path / "text").read_text() == "a\n'b'"
    assert (tmp_path / "secret").read_text() == "x"


def test_a_pipe_carries_what_the_first_prints_to_the_second(tmp_path: Path) -> None:
    plan = Plan(steps=(Pipe(source=command("printf", "a b"), target=command("tee", str(tmp_path / "x"))),))
    performed(plan)
    assert (tmp_path / "x").read_text() == "a b"
    subprocess.run(["sh", "-euc", plan.script()], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("source", "target"), [("exit 3", "cat >/dev/null"), ("echo x", "cat >/dev/null; exit 3"), ("yes", "exit 3")]
)
def test_a_pipe_fails_when_either_end_does(source: str, target: str) -> None:
    plan = Plan(steps=(Pipe(source=command("sh", "-c", source), target=command("sh", "-c", target)),))
    with pytest.raises(PreparationFailed, match="status 3"):
        performed(plan)
    assert subprocess.run(["sh", "-euc", plan.script()], capture_output=True, timeout=20).returncode != 0


@pytest.mark.parametrize("way", ["perform", "script"])
def test_a_command_whose_connection_failed_is_tried_again(tmp_path: Path, way: str) -> None:
    attempt = 'echo x >>"$1"; [ $(wc -l <"$1") -ge 2 ] || exit 255'
    step = Command(argv=("sh", "-c", attempt, "sh", str(tmp_path / "n")), transient=(255,))
    if way == "perform":
        performed(Plan(steps=(step,)))
    else:
        subprocess.run(["sh", "-euc", Plan(steps=(step,)).script()], check=True)
    assert (tmp_path / "n").read_text() == "x\nx\n"


def test_another_failure_is_not_tried_again(tmp_path: Path) -> None:
    step = Command(argv=("sh", "-c", 'echo x >>"$1"; exit 4', "sh", str(tmp_path / "n")), transient=(255,))
    with pytest.raises(PreparationFailed, match="status 4"):
        performed(Plan(steps=(step,)))
    assert (tmp_path / "n").read_text() == "x\n"


def test_what_a_failed_preparation_must_undo_is_undone(tmp_path: Path) -> None:
    undone = WriteFile(path=str(tmp_path / "undone"), text="")
    with pytest.raises(PreparationFailed):
        performed(Plan(steps=(command("false"),), otherwise=(undone,)))
    assert (tmp_path / "undone").exists()


def performed(plan: Plan) -> None:
    with catching() as signals, Execution(signals=signals) as execution:
        execution.prepare(plan)


def test_a_pipe_whose_source_complains_a_lot_does_not_wait_for_ever(tmp_path: Path) -> None:
    noisy = "head -c 4000000 /dev/zero | tr '\\0' x >&2; echo content"
    plan = Plan(steps=(Pipe(source=command("sh", "-c", noisy), target=command("tee", str(tmp_path / "x"))),))
    performed(plan)
    assert (tmp_path / "x").read_text() == "content\n"
    failing = Plan(steps=(Pipe(source=command("sh", "-c", f"{noisy}; echo why >&2; exit 3"), target=command("cat")),))
    with pytest.raises(PreparationFailed, match="why"):
        performed(failing)
