"""One probe, carried by every runner."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from mlcube.binding import generated_image
from mlcube.cube import PythonEnvironment
from mlcube.execute import Execution
from mlcube.invocation import Invocation, Mount, Parameter, Word
from mlcube.plan import Plan
from mlcube.runner import Runner
from mlcube.running import plans
from mlcube.signals import catching
from mlcube.workspace import source_digest

PROBE = Path(__file__).parent / "probe"
CARRY = Path(__file__).parent / "carry.py"


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What a task saw and what became of it."""

    status: int
    stdout: str
    stderr: str
    told: tuple[str, ...]
    """What the run reported to the user."""
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = msgspec.field(default_factory=dict)
    user: int = -1
    group: int = -1
    directory: str = ""


class Carrier:
    """Makes invocations of the probe in a directory of one test, and has a runner carry them."""

    def __init__(self, name: str, runner: Runner, host: Mapping[str, Any], place: Path, base_image: str) -> None:
        self.name = name
        self.runner = runner
        self.host = dict(host)
        self.place = place
        self.out = place / "out"
        self.image = base_image

    @property
    def contained(self) -> bool:
        """Whether the task runs in a container."""
        return self.engine != "local"

    @property
    def engine(self) -> str:
        """The innermost runner: the one that starts the task."""
        return self.name.rstrip(")").rpartition("(")[2]

    def there(self, invocation: Invocation) -> Invocation:
        """The invocation as the engine gets it, on another host perhaps."""
        if not self.name.startswith("ssh("):
            return invocation
        from mlcube_runners._staging import stage

        return stage(invocation, f"{self.host['far']['root']}/runs/{invocation.run_id}").invocation

    def invocation(self, *arguments: str | Word, do: str = "", **changes: Any) -> Invocation:
        python = PythonEnvironment(version=">=3.8", source=str(PROBE), image=self.image)
        mounts = (Mount(str(self.out), "/mlcube_io0", "rw"), *changes.pop("mounts", ()))
        environment = {
            "CUBE_OUTPUT_OUT": Word("", "/mlcube_io0"),
            "PROBE_DO": Word(do),
            **changes.pop("environment", {}),
        }
        out = Parameter(name="out", direction="output", type="directory", path=str(self.out), target="/mlcube_io0")
        digest = source_digest(str(PROBE))
        invocation = Invocation(
            cube="probe",
            task="tell",
            run_id=f"test-{os.urandom(4).hex()}",
            workspace=str(self.place),
            scratch=str(self.place / "scratch"),
            image=generated_image("probe", python, digest),
            python=python,
            source_digest=digest,
            entrypoint=("python", "probe.py"),
            arguments=tuple(word if isinstance(word, Word) else Word(word) for word in arguments),
            mounts=mounts,
            parameters=(out, *changes.pop("parameters", ())),
            environment=environment,
            directory="/mlcube/source",
        )
        return msgspec.structs.replace(invocation, **changes)

    def plans(self, invocation: Invocation) -> tuple[Plan, Plan]:
        return plans(invocation, self.runner, self.host)

    def perform(
        self, invocation: Invocation, *, secrets: Mapping[str, str] | None = None, timeout_seconds: float | None = None
    ) -> Seen:
        """Have the plans performed, as `cube run` does."""
        prepare, run = self.plans(invocation)
        told: list[str] = []
        with (
            (self.place / "stdout").open("wb") as stdout,
            (self.place / "stderr").open("wb") as stderr,
            catching() as signals,
            Execution(
                signals=signals, secrets=secrets, stdout=stdout.fileno(), stderr=stderr.fileno(), report=told.append
            ) as execution,
        ):
            execution.prepare(prepare)
            status = execution.run(run, timeout_seconds=timeout_seconds)
        return self.seen(status, told)

    def performed(self, way: str, invocation: Invocation, *, secrets: Mapping[str, str] | None = None) -> Seen:
        """By `perform` or by `script`."""
        return (self.script if way == "script" else self.perform)(invocation, secrets=secrets)

    def script(
        self, invocation: Invocation, *, secrets: Mapping[str, str] | None = None, timeout_seconds: float | None = None
    ) -> Seen:
        """Have the plans performed by `sh`, as a user of `--dry-run` does."""
        prepare, run = self.plans(invocation)
        for part in (prepare.script(), run.script(timeout_seconds=timeout_seconds)):
            with (self.place / "stdout").open("wb") as stdout, (self.place / "stderr").open("wb") as stderr:
                argv = ["sh", "-euc", part]
                ended = subprocess.run(argv, stdout=stdout, stderr=stderr, env={**os.environ, **(secrets or {})})
            if ended.returncode:
                break
        return self.seen(ended.returncode, ())

    def start(self, invocation: Invocation) -> "subprocess.Popen[bytes]":
        """Have it carried by a process of its own; returns once the task has made the file `started`."""
        files = {"invocation": invocation, self.name: self.runner, "host": self.host}
        for name, content in files.items():
            (self.place / f"{name}.json").write_bytes(msgspec.json.encode(content))
        argv = [sys.executable, str(CARRY), *(str(self.place / f"{name}.json") for name in files)]
        with (self.place / "carried").open("wb") as output:
            return subprocess.Popen(argv, stdout=output, stderr=output, start_new_session=True)

    def start_script(self, invocation: Invocation) -> "subprocess.Popen[bytes]":
        """The same by `sh`, once what it needs is there."""
        prepare, run = self.plans(invocation)
        subprocess.run(["sh", "-euc", prepare.script()], check=True)
        with (self.place / "carried").open("wb") as output:
            return subprocess.Popen(["sh", "-euc", run.script()], stdout=output, stderr=output, start_new_session=True)

    def seen(self, status: int, told: list[str] | tuple[str, ...]) -> Seen:
        stdout, stderr = ((self.place / name).read_text() for name in ("stdout", "stderr"))
        report = self.out / "seen.json"
        found = msgspec.json.decode(report.read_bytes()) if report.exists() else {}
        ended = {"status": status, "stdout": stdout, "stderr": stderr, "told": list(told)}
        return msgspec.convert(ended | found, Seen)

    def remains(self, invocation: Invocation) -> list[str]:
        """What is still there of a run that has ended."""
        left = [path for path in (invocation.scratch, f"{invocation.scratch}.secrets") if os.path.exists(path)]
        left += [
            path
            for path in (f"{invocation.scratch}{end}" for end in (".context", ".podman", ".sandbox"))
            if os.path.exists(path)
        ]
        if self.name.startswith("ssh("):
            left += [path for path in (os.path.dirname(self.there(invocation).scratch),) if os.path.exists(path)]
        if "slurm" in self.name:
            argv = ["squeue", "--noheader", f"--name=cube-{invocation.run_id}"]
            for _ in range(20):  # Slurm takes a moment to note that a job has ended
                if not (jobs := subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()):
                    break
                time.sleep(0.25)
            left += jobs
        if self.engine in ("docker", "podman"):
            argv = [self.engine, "ps", "--all", "--quiet", f"--filter=label=io.mlcube.run={invocation.run_id}"]
            left += subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
        if self.engine == "singularity":
            left += _orphaned_mounts()
        return left + _processes(f"CUBE_RUN_ID={invocation.run_id}".encode())


def _processes(variable: bytes) -> list[str]:
    """Processes that have this in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # gone by now, or somebody else's
            if variable in (process / "environ").read_bytes().split(b"\0"):
                found.append(f"process {process.name}")
    return found


def _orphaned_mounts() -> list[str]:
    """Processes of the caller that serve the files of a container whose engine has gone."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            _, name, rest = (process / "stat").read_text().replace("(", ")").split(")", 2)
            leader = rest.split()[3]
            ours = name in ("squashfuse", "squashfuse_ll", "fuse-overlayfs") and process.stat().st_uid == os.getuid()
            if ours and not Path("/proc", leader).exists():
                found.append(f"process {process.name} ({name})")
    return found
