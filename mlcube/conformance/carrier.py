"""The probe, carried by a runner for real: what it saw, what became of it, and what is still there afterwards."""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from mlcube.apart import lasting
from mlcube.conformance.remains import remains
from mlcube.conformance.rendering import Rendering
from mlcube.errors import Interrupted
from mlcube.execute import Execution
from mlcube.invocation import Invocation
from mlcube.plan import Plan
from mlcube.running import plans as render
from mlcube.signals import catching

__all__ = ["MARK", "Carrier", "Seen"]

MARK = "CUBE_CONFORMANCE_RUN"
"""A variable of every process that carries a run apart: what preparing has started is found by it."""
_END_SECONDS = 60
_BETWEEN_SIGNALS_SECONDS = 0.7


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What a task saw and what became of it."""

    status: int
    stdout: str
    stderr: str
    told: tuple[str, ...]
    """What the run reported to the user, but for what is being waited for: that depends on how busy the machine is."""
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = msgspec.field(default_factory=dict)
    user: int = -1
    group: int = -1
    directory: str = ""

    @property
    def contained(self) -> bool:
        """Whether the task ran in a container: there, its home has the name that it has in every container."""
        return self.environment.get("HOME") == "/tmp/home"  # noqa: S108 - a place in the container


class Carrier(Rendering):
    """Has a runner carry invocations of the probe, in this process, by a script, or in a process apart."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._started: list[subprocess.Popen[bytes]] = []

    def perform(
        self, invocation: Invocation, *, secrets: Mapping[str, str] | None = None, timeout_seconds: float | None = None
    ) -> Seen:
        """Have the plans performed, as `cube run` does."""
        prepare, run = self.plans(invocation)

        def whole(execution: Execution) -> int:
            execution.prepare(prepare)
            return execution.run(run, timeout_seconds=timeout_seconds)

        return self._carried(whole, secrets)

    def killed(self, invocation: Invocation, word: str = "started") -> None:
        """Have it carried so that the task outlives who carries it, who is killed when the task has printed a word."""
        process = self.start(invocation, lasts=True)
        self.await_word(process, word)
        process.kill()
        process.wait()

    def taken_up(self, invocation: Invocation) -> Seen:
        """Bring one to its end whose process was killed, as `cube wait` does."""
        run = lasting(self.plans(invocation)[1], invocation)
        seen = self._carried(lambda execution: execution.run(msgspec.structs.replace(run, steps=())))
        time.sleep(1)  # what followed it for the process that was killed ends when the task has
        return seen

    def cancelled(self, invocation: Invocation) -> Seen:
        """End one whose process was killed, as `cube cancel` does."""
        run = lasting(self.plans(invocation)[1], invocation)
        return self._carried(lambda execution: _settled(execution, run))

    def performed(self, way: str, invocation: Invocation, *, secrets: Mapping[str, str] | None = None) -> Seen:
        """By `perform` or by `script`."""
        return (self.script if way == "script" else self.perform)(invocation, secrets=secrets)

    def script(
        self, invocation: Invocation, *, secrets: Mapping[str, str] | None = None, timeout_seconds: float | None = None
    ) -> Seen:
        """Have the plans performed by `sh`, as a user of `--dry-run` does."""
        prepare, run = self.plans(invocation)
        status = 0
        for part in (prepare.script(), run.script(timeout_seconds=timeout_seconds)):
            with (self.place / "stdout").open("wb") as stdout, (self.place / "stderr").open("wb") as stderr:
                status = self._start(["sh", "-euc", part], stdout, stderr, secrets).wait()
            if status:
                break
        return self._seen(status, ())

    def start(self, invocation: Invocation, *, lasts: bool = False) -> "subprocess.Popen[bytes]":
        """Have it carried by a process of its own, which can be sent signals; `carried` gets what is printed.

        If it `lasts`, the task outlives that process.
        """
        path = self.place / "invocation.pickle"
        path.write_bytes(pickle.dumps((sys.path, pickle.dumps((invocation, self.runner, self.host, lasts)))))
        argv = [sys.executable, "-c", _CARRY, str(path)]
        with (self.place / "carried").open("wb") as output:
            return self._start(argv, output, output, {MARK: invocation.run_id})

    def start_script(self, invocation: Invocation) -> "subprocess.Popen[bytes]":
        """The same by `sh`, once what it needs is there."""
        prepare, run = self.plans(invocation)
        with (self.place / "carried").open("wb") as output:
            prepared = self._start(["sh", "-euc", prepare.script()], output, output).wait()
            if prepared:
                raise AssertionError((self.place / "carried").read_text())
            return self._start(["sh", "-euc", run.script()], output, output)

    def await_word(self, process: "subprocess.Popen[bytes]", word: str, *, seconds: float = 120) -> None:
        """Return once a process that was started has printed this word."""
        deadline = time.monotonic() + seconds
        while word not in (said := (self.place / "carried").read_text(errors="replace")):
            if process.poll() is not None:
                raise AssertionError(f"ended with status {process.returncode} before it printed `{word}`:\n{said}")
            if time.monotonic() > deadline:
                raise AssertionError(f"nothing printed `{word}` within {seconds:g} seconds:\n{said}")
            time.sleep(0.03)

    def stopped(self, invocation: Invocation, *numbers: signal.Signals, way: str = "perform") -> tuple[int, float]:
        """Start a task that prints `started`, then send the signals; gives the status, and the seconds that it took
        to end after the last one."""
        process = (self.start_script if way == "script" else self.start)(invocation)
        self.await_word(process, "started")
        for number in numbers:
            sent = time.monotonic()
            process.send_signal(number)
            time.sleep(_BETWEEN_SIGNALS_SECONDS)
        return process.wait(_END_SECONDS), time.monotonic() - sent

    def remains(self, invocation: Invocation) -> list[str]:
        """What is still there of a run that has ended."""
        _, run = render(invocation, self.runner, self.host)
        variables = (f"CUBE_RUN_ID={invocation.run_id}", f"{MARK}={invocation.run_id}")
        return remains(invocation, run, self.subject.executables, variables)

    def close(self) -> None:
        """End what a test has left running."""
        for process in self._started:
            if process.poll() is None:
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_END_SECONDS)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _carried(self, perform: Callable[[Execution], int], secrets: Mapping[str, str] | None = None) -> Seen:
        told: list[str] = []
        try:
            with (
                (self.place / "stdout").open("wb") as stdout,
                (self.place / "stderr").open("wb") as stderr,
                catching() as signals,
                Execution(
                    signals=signals, secrets=secrets, stdout=stdout.fileno(), stderr=stderr.fileno(), report=told.append
                ) as execution,
            ):
                status = perform(execution)
            told = [text for text in told if not text.startswith("waiting for ")]
        except Interrupted as error:
            signal.raise_signal(error.status - 128)  # the tests themselves are to end, not this one alone
            raise KeyboardInterrupt from error
        return self._seen(status, told)

    def _start(
        self, argv: list[str], stdout: Any, stderr: Any, environment: Mapping[str, str] | None = None
    ) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def _seen(self, status: int, told: list[str] | tuple[str, ...]) -> Seen:
        stdout, stderr = ((self.place / name).read_text() for name in ("stdout", "stderr"))
        report = self.out / "seen.json"
        found = msgspec.json.decode(report.read_bytes()) if report.exists() else {}
        ended = {"status": status, "stdout": stdout, "stderr": stderr, "told": list(told)}
        return msgspec.convert(ended | found, Seen)


def _settled(execution: Execution, run: Plan) -> int:
    execution.clean_up(run, killed=True)
    return 137


_CARRY = """\
import pickle, sys
with open(sys.argv[1], "rb") as file:
    sys.path, packed = pickle.load(file)
from mlcube.conformance.carry import carry
sys.exit(carry(*pickle.loads(packed)))
"""
"""The path comes first: the runner may be of a package that is not installed."""
