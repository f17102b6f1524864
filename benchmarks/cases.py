"""What is measured: cubes, an image, and the commands that someone would otherwise type by hand."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from cluster import KUBECONFIG, Cluster, no_cluster
from processes import Call

__all__ = ["Cases", "NoEngine"]

ROOT = Path(__file__).resolve().parent.parent
HELLO = ROOT / "examples" / "hello_world"
IMAGE = "cube-benchmark/true:1"
SSH_CONFIG = f"{os.environ.get('ENGINES_STATE', '/var/tmp/mlcube-engines')}/ssh/config"
"""Leads to `engine-host`, the server of `tests/engines/sshd.sh`."""
BASE = "python:3.11-slim"

TRIVIAL = """\
name: trivial
{carrier}
tasks:
  nothing:
{entrypoint}    parameters:
      inputs: {{text: {{type: file, default: text.txt}}}}
      outputs: {{out: {{type: directory, default: out/}}}}
"""


SETTINGS = """\
platforms:
  far: {{runner: ssh, host: engine-host, config: '{config}', root: '{root}', inner: docker}}
  far-local: {{runner: ssh, host: engine-host, config: '{config}', root: '{root}', inner: local}}
  batch: {{runner: slurm, inner: docker}}
  batch-local: {{runner: slurm, inner: local}}
  cluster: {{runner: kubernetes, kubeconfig: '{kubeconfig}'}}
"""


class NoEngine(Exception):
    """An engine cannot be used here, with the reason."""


class Cases:
    """Everything that is run, made in a directory of its own."""

    def __init__(self, directory: str) -> None:
        self.directory = Path(directory)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CUBE_", "PYTHON"))}
        places = {f"CUBE_{name}_DIR": str(self.directory / name.lower()) for name in ("CACHE", "CONFIG", "STATE")}
        settings = self.directory / "settings.yaml"
        settings.write_text(SETTINGS.format(config=SSH_CONFIG, root=self.directory / "far", kubeconfig=KUBECONFIG))
        places["MLCUBE_SYSTEM_SETTINGS"] = str(settings)
        self.environment: Mapping[str, str] = {**inherited, **places}
        self.python = Call(argv=(sys.executable, "-c", "pass"), environment=self.environment)

    def cube(self, *words: str) -> Call:
        """`cube`, started by its console script as users start it."""
        script = os.path.join(os.path.dirname(sys.executable), "cube")
        return Call(argv=(script, *words), environment=self.environment)

    @cached_property
    def check_hello(self) -> Call:
        """A file as most are."""
        return self.cube("check", str(HELLO))

    @cached_property
    def check_large(self) -> Call:
        """A file with 300 tasks of 10 parameters each."""
        lines = ["name: large", "docker: {image: 'example/large:1'}", "tasks:"]
        for task in range(300):
            lines += [f"  task_{task:03d}:", "    parameters:", "      inputs:"]
            lines += [f"        input_{n}: {{type: file, default: inputs/{task:03d}/{n}.txt}}" for n in range(5)]
            lines += ["      outputs:"]
            lines += [f"        output_{n}: {{type: directory, default: outputs/{task:03d}/{n}/}}" for n in range(5)]
        return self.cube("check", self._write("large", "\n".join(lines) + "\n"))

    @cached_property
    def docker_run(self) -> Call:
        """A task that does nothing, in an image that is there. Raises NoEngine."""
        _provide_image(self.environment)
        text = TRIVIAL.format(carrier=f"docker: {{image: '{IMAGE}', build_strategy: pull}}", entrypoint="")
        return self._run(self._write("docker", text), "docker")

    @cached_property
    def docker_by_hand(self) -> Call:
        """The identical `docker run`: taken from the plan, so that no flag is missing."""
        return self._by_hand(self.docker_run)

    @cached_property
    def singularity_run(self) -> Call:
        """The same task in a SIF file that is there, made of the same image."""
        _provide_image(self.environment)
        image = self.directory / "true.sif"
        archive = str(self.directory / "true.tar")
        save = ["docker", "save", "--output", archive, IMAGE]
        convert = ["apptainer", "build", str(image), f"docker-archive:{archive}"]
        for argv in (save, convert):
            subprocess.run(argv, env=dict(self.environment), check=True, capture_output=True)
        text = TRIVIAL.format(carrier=f"singularity: {{image: '{image}'}}", entrypoint="")
        return self._run(self._write("singularity", text), "singularity")

    @cached_property
    def singularity_by_hand(self) -> Call:
        """The identical `apptainer run`."""
        return self._by_hand(self.singularity_run)

    @cached_property
    def podman_run(self) -> Call:
        """A task that does nothing, in an image that Podman has. Raises NoEngine."""
        _provide_image(self.environment, "podman")
        text = TRIVIAL.format(carrier=f"docker: {{image: '{IMAGE}', build_strategy: pull}}", entrypoint="")
        return self._run(self._write("podman", text), "podman")

    @cached_property
    def podman_by_hand(self) -> Call:
        """The identical `podman run`."""
        return self._by_hand(self.podman_run)

    @cached_property
    def sandbox_run(self) -> Call:
        """The task of `docker_run`, in the same image, unpacked by the first run. Raises NoEngine."""
        if shutil.which("bwrap") is None:
            raise NoEngine("there is no `bwrap` command")
        _provide_image(self.environment)
        text = TRIVIAL.format(carrier=f"docker: {{image: '{IMAGE}', build_strategy: pull}}", entrypoint="")
        return self._run(self._write("sandbox", text), "sandbox")

    @cached_property
    def local_run(self) -> Call:
        """A task that does nothing, in a virtual environment that is there."""
        text = TRIVIAL.format(carrier="python: {source: src}", entrypoint="    entrypoint: python nothing.py\n")
        folder = self._write("local", text)
        (Path(folder) / "src").mkdir()
        (Path(folder) / "src" / "nothing.py").write_text("pass\n")
        return self._run(folder, "local")

    @cached_property
    def local_by_hand(self) -> Call:
        """The same argument vector in the same environment."""
        return self._by_hand(self.local_run)

    @cached_property
    def ssh_run(self) -> Call:
        """The task of `docker_run` on another host, which is this one. Raises NoEngine."""
        _reach_host(self.environment)
        return self._run(self.docker_run.argv[3], "far")

    @cached_property
    def ssh_by_hand(self) -> Call:
        """The identical `docker run` there, where the plan's directories are made already."""
        return self._ssh(shlex.join(self.docker_by_hand.argv))

    @cached_property
    def slurm_run(self) -> Call:
        """The task of `docker_run` as a batch job. Raises NoEngine."""
        self._need_slurm()
        return self._run(self.docker_run.argv[3], "batch")

    @cached_property
    def slurm_by_hand(self) -> Call:
        """The identical `docker run` in a script that `sbatch` waits for."""
        script = self.directory / "batch"
        script.write_text(f"#!/bin/sh\nexec {shlex.join(self.docker_by_hand.argv)}\n")
        argv = ("sbatch", "--wait", "--output=/dev/null", "--chdir=/", str(script))
        return Call(argv=argv, environment=self.environment)

    @cached_property
    def doctor(self) -> Call:
        """Every platform of this machine is looked at."""
        return self.cube("doctor")

    @cached_property
    def leave_many(self) -> Call:
        """A hundred batch jobs that are left, and followed by processes in the background. Raises NoEngine."""
        self._need_slurm()
        script = str(ROOT / "benchmarks" / "leave_many.py")
        folder = self.local_run.argv[3]
        return Call(
            argv=(sys.executable, script, "100", folder, "nothing", "batch-local"), environment=self.environment
        )

    @cached_property
    def cluster(self) -> Cluster:
        """What is run by Kubernetes. Raises NoEngine."""
        if reason := no_cluster():
            raise NoEngine(reason)
        return Cluster(self.directory, self.environment, self.cube())

    def close(self) -> None:
        """Remove what lies in no directory."""
        if "cluster" in vars(self):
            self.cluster.close()

    @cached_property
    def send_nothing(self) -> Call:
        """A task that does nothing with an empty directory, on another host. Raises NoEngine."""
        return self._sending("nothing", {})

    @cached_property
    def send_large(self) -> Call:
        """A task that does nothing with a file of 1 GiB, on another host. Raises NoEngine."""
        return self._sending("large", {"large.bin": 1 << 30})

    @cached_property
    def send_large_by_hand(self) -> Call:
        """The same file by rsync."""
        return self._rsync(self.send_large)

    @cached_property
    def send_many(self) -> Call:
        """The same with 10,000 files of 10 kB."""
        return self._sending("many", {f"{number % 100}/{number}": 10_000 for number in range(10_000)})

    @cached_property
    def send_many_by_hand(self) -> Call:
        """The same files by rsync."""
        return self._rsync(self.send_many)

    def _sending(self, name: str, files: Mapping[str, int]) -> Call:
        _reach_host(self.environment)
        text = TRIVIAL.format(carrier="python: {source: src}", entrypoint="    entrypoint: python nothing.py\n")
        folder = Path(self._write(f"sending {name}", text.replace("{type: file, default: text.txt}", "data/")))
        (folder / "src").mkdir()
        (folder / "src" / "nothing.py").write_text("pass\n")
        (folder / "workspace" / "data").mkdir()
        for file, size in files.items():
            place = folder / "workspace" / "data" / file
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("wb") as opened:
                while (left := size - opened.tell()) > 0:
                    opened.write(os.urandom(min(left, 1 << 24)))
        return self._run(str(folder), "far-local")

    def _need_slurm(self) -> None:
        if shutil.which("sbatch") is None or _engine(self.environment, "sinfo").returncode:
            raise NoEngine("no Slurm answers")

    def _rsync(self, run: Call) -> Call:
        source = f"{run.argv[3]}/workspace/data/"
        target = f"{self.directory}/by-hand"
        argv = ("rsync", "-a", "-e", f"ssh -F {SSH_CONFIG}", source, f"engine-host:{target}/")
        return Call(argv=argv, environment=self.environment, leaves=target)

    def _ssh(self, text: str) -> Call:
        return Call(argv=("ssh", "-F", SSH_CONFIG, "engine-host", text), environment=self.environment)

    def _run(self, folder: str, platform: str) -> Call:
        return self.cube("run", "--mlcube", folder, "--platform", platform)

    def _write(self, name: str, text: str) -> str:
        folder = self.directory / "cubes" / name
        (folder / "workspace").mkdir(parents=True)
        (folder / "mlcube.yaml").write_text(text)
        (folder / "workspace" / "text.txt").write_text("text\n")
        return str(folder)

    def _by_hand(self, run: Call) -> Call:
        """The plan's task, once the directories that it needs are made."""
        printed = subprocess.run(
            [*run.argv, "--dry-run", "--json"], env=dict(run.environment), stdout=subprocess.PIPE, check=True
        ).stdout
        steps: list[dict[str, Any]] = json.loads(printed)["runs"][0]["plan"]["run"]
        for step in steps:
            if step["type"] == "command" and step["argv"][0] == "mkdir":
                subprocess.run(step["argv"], check=True)
            elif step["type"] == "command":
                inherited = {} if step.get("clean") else self.environment
                environment = {**inherited, **step.get("environment", {})}
                return Call(argv=tuple(step["argv"]), environment=environment, directory=step.get("directory"))
        raise AssertionError("the plan has no task")


def _reach_host(environment: Mapping[str, str]) -> None:
    """Raises NoEngine where no server answers."""
    if shutil.which("ssh") is None or _engine(environment, "ssh", "-F", SSH_CONFIG, "engine-host", "true").returncode:
        raise NoEngine("no SSH server of tests/engines/sshd.sh answers")


def _provide_image(environment: Mapping[str, str], engine: str = "docker") -> None:
    """Build the image unless it is there: the base with /bin/true as its entrypoint."""
    recipe = f'FROM {BASE}\nENTRYPOINT ["/bin/true"]\n'
    try:
        if _engine(environment, engine, "info").returncode:
            raise NoEngine(f"`{engine} info` fails")
        if _engine(environment, engine, "image", "inspect", IMAGE).returncode == 0:
            return
        built = _engine(environment, engine, "build", "--quiet", "--tag", IMAGE, "-", given=recipe)
    except FileNotFoundError:
        raise NoEngine(f"there is no `{engine}` command") from None
    if built.returncode:
        raise NoEngine(f"an image could not be built from {BASE}: {built.stderr.strip().splitlines()[-1]}")


def _engine(
    environment: Mapping[str, str], engine: str, *words: str, given: str | None = None
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [engine, *words], env=dict(environment), input=given, capture_output=True, text=True, check=False
    )
