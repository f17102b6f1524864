"""What becomes of a batch job on a real Slurm: granted, cancelled, preempted, out of memory or time, badly begun.

One test at a time, because they take all of the node and make each other's jobs wait.
"""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.engine("slurm"), pytest.mark.engine("local")]

CUBE = """\
name: job
python: {source: src}
tasks:
  act:
    entrypoint: python act.py
    parameters:
      inputs: {do: {type: string, default: ''}}
      outputs: {out: {type: directory, default: out/}}
"""

ENGINE = Path(__file__).parents[1] / "engines/slurm.sh"
SECOND = f"{os.environ.get('ENGINES_STATE', '/var/tmp/mlcube-engines')}/slurm-second/slurm.conf"
"""Leads to a further Slurm, whose controller may be restarted while other tests use the first."""

ACT = """\
import os, sys, time
words = dict(word[2:].split("=", 1) for word in sys.argv if word.startswith("--"))
open(words["out"] + "/begun", "w").close()
exec(words["do"])
open(words["out"] + "/ended", "w").close()
"""


class Cluster:
    """A cube, and platforms that submit it."""

    def __init__(self, place: Path) -> None:
        self.place, self.cube = place, place / "job"
        self.settings: dict[str, str] = {}
        (self.cube / "src").mkdir(parents=True)
        (self.cube / "workspace").mkdir()
        (self.cube / "mlcube.yaml").write_text(CUBE)
        (self.cube / "src" / "act.py").write_text(ACT)
        self.environment = {**os.environ, "MLCUBE_SYSTEM_SETTINGS": str(place / "settings.yaml")}

    def start(self, do: str, *words: str, options: str = "", out: str = "out") -> "subprocess.Popen[str]":
        lab = f"lab: {{runner: local, python: '{sys.executable}'}}"
        batch = f"batch: {{runner: slurm, inner: lab{options and ', '}{options}}}"
        (self.place / "settings.yaml").write_text(f"platforms:\n  {lab}\n  {batch}\n")
        where = (f"--mlcube={self.cube}", "--platform=batch", "--task=act")
        return subprocess.Popen(
            [sys.executable, "-m", "mlcube", "run", *where, *words, f"do={do}", f"out={out}"],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, do: str, *words: str, options: str = "") -> tuple[int, str, str]:
        return ended(self.start(do, *words, options=options))

    def cube_command(self, *words: str) -> "subprocess.CompletedProcess[str]":
        argv = [sys.executable, "-m", "mlcube", *words]
        return subprocess.run(argv, env=self.environment, capture_output=True, text=True, timeout=120, check=False)

    def until(self, name: str) -> None:
        for _ in range(1200):
            if (self.cube / "workspace" / "out" / name).exists():
                return
            time.sleep(0.05)
        raise AssertionError(f"no {name}")

    def job(self) -> str:
        """The number of the only job of this cube."""
        for _ in range(200):
            for run in self.place.glob("home/.local/state/mlcube/runs/*"):
                argv = ["squeue", "--noheader", "--format=%A", f"--name=cube-{run.name}"]
                if found := subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split():
                    return found[0]
            time.sleep(0.05)
        raise AssertionError("no job was submitted")


def ended(run: "subprocess.Popen[str]", seconds: float = 180) -> tuple[int, str, str]:
    out, errors = run.communicate(timeout=seconds)
    return run.returncode, out, errors


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with open(os.path.join(tempfile.gettempdir(), f"cube-tests-{os.getuid()}-slurm"), "w") as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)
        yield Cluster(tmp_path)


def test_the_task_sees_the_gpus_that_slurm_grants(cluster: Cluster) -> None:
    status, out, errors = cluster.run("print(os.environ['CUDA_VISIBLE_DEVICES'])", "--gpus=1")
    assert status == 0, errors
    assert out.splitlines()[0] in ("0", "1")


def test_more_gpus_than_a_node_has_are_refused(cluster: Cluster) -> None:
    status, _, errors = cluster.run("", "--gpus=9")
    assert status == 77
    assert "asks for 9 GPUs, and no node here has more than 2" in errors


def test_a_task_without_gpus_sees_none(cluster: Cluster) -> None:
    status, out, errors = cluster.run("print([os.environ.get('CUDA_VISIBLE_DEVICES')])")
    assert (status, out.splitlines()[0]) == (0, "['']"), errors


def test_out_of_memory_is_told(cluster: Cluster) -> None:
    status, _, errors = cluster.run("bytearray(400 << 20)", "--memory=64m")
    assert status == 137, errors
    assert "the task needed more memory than its limit, 64 MiB" in errors


def test_a_cancelled_job_is_told(cluster: Cluster) -> None:
    run = cluster.start("time.sleep(60)")
    cluster.until("begun")
    subprocess.run(["scancel", cluster.job()], check=True)
    status, _, errors = ended(run)
    assert status == 143, errors
    assert "somebody cancelled the job" in errors


def test_a_job_that_must_make_way_is_told(cluster: Cluster) -> None:
    run = cluster.start("time.sleep(60)", options="partition: low")
    cluster.until("begun")
    argv = ["sbatch", "--partition=debug", "--exclusive", "--output=/dev/null", "--wrap=true"]
    subprocess.run(argv, check=True, capture_output=True)
    status, _, errors = ended(run)
    assert status == 75, errors
    assert "the job had to make way for another one" in errors


def test_the_task_s_time_limit_is_exact(cluster: Cluster) -> None:
    status, _, errors = cluster.run("time.sleep(60)", "--timeout=3s")
    assert status == 124, errors
    assert "the task was stopped after its time limit of 3 seconds" in errors


def test_the_platform_s_time_limit_is_told(cluster: Cluster) -> None:
    status, _, errors = cluster.run("time.sleep(600)", options="time: '0:01'")
    assert status == 124, errors
    assert "the task was stopped after its time limit" in errors
    assert "`time` of the platform" in errors


def test_what_is_done_before_the_task_and_what_goes_wrong_with_it(cluster: Cluster) -> None:
    mark = cluster.place / "before"
    status, _, errors = cluster.run("", options=f"before: ['touch {mark}']")
    assert status == 0, errors
    assert mark.exists()
    status, _, errors = cluster.run("", options="before: ['exit 7']")
    assert status == 7, errors
    assert "the batch script failed before the task, with status 7: see `modules` and `before`" in errors


def test_a_partition_that_is_not_there_is_told_with_what_to_do(cluster: Cluster) -> None:
    status, _, errors = cluster.run("", options="partition: nosuch")
    assert status == 74, errors
    assert "invalid partition" in errors.lower()
    assert "`sinfo`" in errors


def test_a_job_that_waits_in_the_queue_leaves_it_when_it_is_interrupted(cluster: Cluster) -> None:
    argv = ["sbatch", "--parsable", "--gres=gpu:2", "--output=/dev/null", "--wrap=sleep 60"]
    holder = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
    try:
        run = cluster.start("", "--gpus=1")
        number = cluster.job()
        os.kill(run.pid, signal.SIGINT)
        status, _, errors = ended(run)
    finally:
        subprocess.run(["scancel", holder], check=True)
    assert status == 130, errors
    state = subprocess.run(["scontrol", "show", "job", number], capture_output=True, text=True, check=True).stdout
    assert "JobState=CANCELLED" in state
    assert not (cluster.cube / "workspace/out/begun").exists()


@pytest.fixture
def restart(cluster: Cluster) -> Iterator[Callable[[], None]]:
    """Restarts the controller, which nobody reaches for three seconds."""

    def second(verb: str) -> None:
        subprocess.run(["bash", str(ENGINE), "second", verb], check=True, capture_output=True, timeout=120)

    second("up")
    cluster.environment["SLURM_CONF"] = SECOND
    yield lambda: second("restart")
    second("down")


@pytest.mark.parametrize("killed", [False, True], ids=["", "and its cube is killed"])
def test_a_detached_run_comes_to_its_end_although_the_controller_is_restarted(
    cluster: Cluster, restart: Callable[[], None], killed: bool
) -> None:
    do = "print('started', flush=True); open(words['out'] + '/lines', 'a').write('x'); time.sleep(6); print('ended')"
    status, run_id, errors = ended(cluster.start(do, "--detach"))
    assert status == 0, errors
    cluster.until("lines")
    if killed:
        (holder,) = cluster.place.glob(f"home/.local/state/mlcube/runs/{run_id.strip()}/holder.json")
        os.kill(json.loads(holder.read_text())["pid"], signal.SIGKILL)
    restart()
    waited = cluster.cube_command("wait", run_id.strip())
    assert waited.returncode == 0, waited.stderr
    assert cluster.cube_command("logs", run_id.strip()).stdout == "started\nended\n"
    assert (cluster.cube / "workspace/out/lines").read_text() == "x"


def test_the_controller_is_asked_once_for_all_jobs(cluster: Cluster) -> None:
    """Four runs whose jobs wait in the queue for eight seconds ask no more than one would."""
    programs, asked, submitted = (cluster.place / name for name in ("programs", "asked", "submitted"))
    programs.mkdir()
    for name, script in {
        "squeue": f'case $* in *"%A %T"*) date +%s >>{asked} ;; esac\nexec {shutil.which("squeue")} "$@"\n',
        "sbatch": f'number=$({shutil.which("sbatch")} --hold "$@") || exit\necho "$number" | tee -a {submitted}\n',
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}")
        (programs / name).chmod(0o755)
    cluster.environment["PATH"] = f"{programs}:{os.environ['PATH']}"
    runs = [cluster.start("pass", out=f"out{number}") for number in range(4)]
    while not submitted.exists() or len(submitted.read_text().split()) < len(runs):
        time.sleep(0.1)
    time.sleep(8)
    numbers = [line.partition(";")[0] for line in submitted.read_text().split()]
    subprocess.run(["scontrol", "release", *numbers], check=True)
    for run in runs:
        status, _, errors = ended(run)
        assert status == 0, errors
    seconds = [int(line) for line in asked.read_text().split()]
    assert len(seconds) <= 2 + (seconds[-1] - seconds[0] + 1), "no more than one question in a second"
