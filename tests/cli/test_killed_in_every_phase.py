"""A detached run whose cube is killed at a certain step: it comes to its end, or says truly that it did not begin.

Every program that cube starts is reached through a small script, which kills cube when its turn has come.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import BASE_IMAGE, KUBECONFIG, SSH_CONFIG

PROGRAMS = ("docker", "kubectl", "mv", "rsync", "sbatch", "sh", "squeue", "ssh", "tar")
SHIM = """\
#!/bin/sh
# Where an answer is to be lost, what was asked is done nevertheless. Another one may have had its turn meanwhile.
program=${{0##*/}}
echo "$program" "$*" | tr '\\n' ' ' >>{place}/asked
echo >>{place}/asked
if [ -e {place}/kill-at ] && echo "$program" "$*" | tr '\\n' ' ' | grep -Eq -f {place}/kill-at 2>/dev/null &&
  mv {place}/kill-at {place}/killed 2>/dev/null; then
  kill -9 "$(sed -n 's/.*"pid": \\([0-9]*\\).*/\\1/p' {place}/cube_state_dir/runs/*/holder.json)"
fi
exec {program} "$@"
"""
WORK = """\
import sys, time
given = dict(word[2:].split("=", 1) for word in sys.argv if word.startswith("--"))
with open(given["out"] + "/began", "a") as file:
    file.write("x")
print("started", flush=True)
time.sleep(float(given["seconds"]))
open(given["kept"], "w").write(open(given["data"]).read())
print("ended", flush=True)
"""
CUBE = {
    "name": "patient",
    "tasks": {
        "work": {
            "parameters": {
                "inputs": {
                    "data": {"type": "file", "default": "data.txt"},
                    "seconds": {"type": "float", "default": 1.0},
                },
                "outputs": {
                    "out": {"type": "directory", "default": "out/"},
                    "kept": {"type": "file", "default": "kept.txt"},
                },
            }
        }
    },
}
PLATFORMS = {
    "local": "runner: local, python: '{python}'",
    "docker": "runner: docker",
    "ssh": "runner: ssh, host: engine-host, config: '{ssh}', root: '{place}/far', inner: local",
    "slurm": "runner: slurm, inner: local",
    "kubernetes": "runner: kubernetes, kubeconfig: '{kubeconfig}'",
}


class Site:
    """A cube, a user with a state of their own, and programs that come by a script."""

    def __init__(self, place: Path, platform: str) -> None:
        self.place, self.platform = place, platform
        self.cube, self.elsewhere = place / "cube", place / "elsewhere"
        for folder in (self.cube / "src", self.cube / "workspace", place / "programs", self.elsewhere):
            folder.mkdir(parents=True)
        words = ("python3", "-c", WORK) if platform in ("docker", "kubernetes") else ("python", "work.py")
        made = (
            {"docker": {"image": BASE_IMAGE}} if platform in ("docker", "kubernetes") else {"python": {"source": "src"}}
        )
        CUBE["tasks"]["work"]["entrypoint"] = list(words)  # type: ignore[index]
        (self.cube / "mlcube.yaml").write_text(json.dumps({**CUBE, **made}))
        (self.cube / "src/work.py").write_text(WORK)
        (self.cube / "workspace/data.txt").write_text("data")
        values = {"python": sys.executable, "ssh": SSH_CONFIG, "kubeconfig": KUBECONFIG, "place": place}
        lines = (f"  {name}: {{{options.format(**values)}}}\n" for name, options in PLATFORMS.items())
        (place / "settings.yaml").write_text("platforms:\n" + "".join(lines))
        for name in PROGRAMS:
            if program := shutil.which(name):
                (place / "programs" / name).write_text(SHIM.format(place=place, program=program))
                (place / "programs" / name).chmod(0o755)
        names = {name: str(place / name.lower()) for name in ("CUBE_STATE_DIR", "CUBE_CACHE_DIR", "CUBE_CONFIG_DIR")}
        path = f"{place}/programs:{os.environ['PATH']}"
        self.environment = {**os.environ, **names, "PATH": path, "MLCUBE_SYSTEM_SETTINGS": f"{place}/settings.yaml"}

    def do(self, *words: str) -> "subprocess.CompletedProcess[str]":
        argv = [sys.executable, "-m", "mlcube", *words]
        return subprocess.run(argv, env=self.environment, capture_output=True, text=True, timeout=120, check=False)

    def leave(self, *words: str, kill_at: str | None = None) -> str:
        """Begin a run that is killed when a program is asked what this describes; gives its id."""
        if kill_at:
            (self.place / "kill-at").write_text(kill_at)
        asked = (f"--mlcube={self.cube}", f"--platform={self.platform}", "--detach", *words)
        left = self.do("run", *asked, f"kept={self.elsewhere}/kept.txt")
        assert left.returncode == 0, left.stderr
        return left.stdout.strip()

    def run(self, run_id: str) -> Path:
        return self.place / "cube_state_dir/runs" / run_id

    def kill_once(self, run_id: str, name: str, least_bytes: int = 0) -> None:
        """Kill the run's process as soon as a file of the run is there, unless the run was faster."""
        holder, file = self.run(run_id) / "holder.json", self.run(run_id) / name
        process = int(json.loads(holder.read_text())["pid"])
        deadline = time.monotonic() + 60
        while not (file.exists() and file.stat().st_size >= least_bytes) and holder.exists():
            assert time.monotonic() < deadline, f"no {name}"
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)

    def until_killed(self, run_id: str) -> None:
        deadline = time.monotonic() + 60
        while not (self.place / "killed").exists():
            assert time.monotonic() < deadline, (self.place / "asked").read_text()
            time.sleep(0.05)

    def remains(self, run_id: str) -> list[str]:
        """What there is of a run besides its record, here and where it went."""
        found = [str(path) for path in self.place.glob("far/runs/*")]
        found += [str(path) for path in self.elsewhere.iterdir() if path.name != "kept.txt"]
        if self.platform == "docker":
            found += told("docker", "ps", "--all", "--quiet", f"--filter=label=io.mlcube.run={run_id}").split()
        if self.platform == "slurm":
            found += told("squeue", "--noheader", f"--name=cube-{run_id}", "--states=pending,running").split()
        if self.platform == "kubernetes":
            chosen = f"--selector=app.kubernetes.io/instance={run_id}"
            found += told("kubectl", f"--kubeconfig={KUBECONFIG}", "get", "jobs,pods", chosen, "--output=name").split()
        return found

    def pods(self, run_id: str) -> int:
        """How many its job has had."""
        chosen = f"--field-selector=involvedObject.name=cube-{run_id},reason=SuccessfulCreate"
        return len(told("kubectl", f"--kubeconfig={KUBECONFIG}", "get", "events", chosen, "--output=name").split())


def told(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout


def each(phases: Mapping[str, str]) -> list[Any]:
    """Parameters: a platform and what a program is asked there."""
    marks = {"ssh": ("ssh", "local"), "slurm": ("slurm", "local"), "kubernetes": ("kubernetes", "docker")}
    found = []
    for name, asked in phases.items():
        platform = name.partition(" ")[0]
        engines = [pytest.mark.engine(engine) for engine in marks.get(platform, (platform,))]
        found.append(pytest.param(platform, asked, marks=engines, id=name))
    return found


@pytest.mark.parametrize(
    ("platform", "asked"),
    each(
        {
            "docker preparing": "^docker image inspect",
            "ssh sending": "^rsync .*-rlpt",
            "kubernetes submitting": "^kubectl .* create --filename",
            "kubernetes sending": "^kubectl .* far unpack",
        }
    ),
)
def test_a_run_whose_task_had_not_begun_says_so_and_leaves_nothing(tmp_path: Path, platform: str, asked: str) -> None:
    site = Site(tmp_path, platform)
    run_id = site.leave(kill_at=asked)
    site.until_killed(run_id)
    waited = site.do("wait", run_id)
    assert waited.returncode == 137, waited.stderr
    assert "the run was killed" in waited.stderr
    assert not (site.cube / "workspace/out/began").exists()
    assert site.remains(run_id) == []


@pytest.mark.parametrize(
    ("platform", "asked"),
    each(
        {
            "local starting": "^sh .*/job start",
            "local bringing": "^mv -f -- .*kept",
            "docker starting": "^docker run",
            "docker bringing": "^mv -f -- .*kept",
            "ssh running": "^ssh -E ",
            "ssh fetching": "^rsync .*--partial-dir",
            "ssh bringing": "^mv -f -- .*kept",
            "slurm submitting": "^sbatch ",
            "slurm bringing": "^mv -f -- .*kept",
            "kubernetes starting": "^kubectl .* far begin",
            "kubernetes running": "/job follow",
            "kubernetes fetching": "^kubectl .* far give",
            "kubernetes bringing": "^mv -f -- .*kept",
        }
    ),
)
def test_a_run_whose_task_had_begun_comes_to_its_end_and_runs_once(tmp_path: Path, platform: str, asked: str) -> None:
    site = Site(tmp_path, platform)
    run_id = site.leave(kill_at=asked)
    site.until_killed(run_id)
    comes_to_its_end(site, run_id, "collect" if "mv" in asked else "wait")


@pytest.mark.parametrize(("platform", "asked"), each(dict.fromkeys(PLATFORMS, "")))
def test_a_run_that_is_killed_as_its_task_is_about_to_begin_runs_once(
    tmp_path: Path, platform: str, asked: str
) -> None:
    site = Site(tmp_path, platform)
    run_id = site.leave()
    site.kill_once(run_id, "begun")
    comes_to_its_end(site, run_id, "wait")


@pytest.mark.parametrize(("platform", "asked"), each({"local": "", "docker": "", "slurm": ""}))
def test_a_run_that_is_killed_while_its_task_is_followed_without_a_process_runs_once(
    tmp_path: Path, platform: str, asked: str
) -> None:
    site = Site(tmp_path, platform)
    run_id = site.leave()
    site.kill_once(run_id, "log", least_bytes=len("started\n"))
    assert "/job follow" not in (site.place / "asked").read_text()
    comes_to_its_end(site, run_id, "wait")


@pytest.mark.parametrize(("platform", "asked"), each(dict.fromkeys(PLATFORMS, "")))
def test_a_run_that_is_killed_while_it_is_recorded_is_recorded(tmp_path: Path, platform: str, asked: str) -> None:
    site = Site(tmp_path, platform)
    run_id = site.leave()
    site.kill_once(run_id, "brought.json")
    comes_to_its_end(site, run_id, "collect")


def comes_to_its_end(site: Site, run_id: str, verb: str) -> None:
    done = site.do(verb, run_id)
    assert done.returncode == 0, done.stderr
    record = json.loads(site.do("runs", "show", run_id, "--json").stdout)
    assert record["status"] == "succeeded"
    assert {output["name"] for output in record["outputs"]} == {"out", "kept"}
    assert (site.cube / "workspace/out/began").read_text() == "x", "the task was run twice"
    assert (site.elsewhere / "kept.txt").read_text() == "data"
    assert site.do("logs", run_id).stdout == "started\nended\n"
    assert site.remains(run_id) == []
    assert site.platform != "kubernetes" or site.pods(run_id) == 1, "the task was run twice"
