"""Standard streams that are closed, full or without a reader: the task runs, the status is right, nothing is a bug."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

CUBE = f"{shlex.quote(sys.executable)} -m mlcube"
BAD = (">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full", ">/dev/full 2>&1", "| true")

pytestmark = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")


@pytest.fixture
def cube(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cube whose task prints much, writes its output, and ends with the status it is given."""
    root = tmp_path / "cube"
    (root / "src").mkdir(parents=True)
    (root / "mlcube.yaml").write_text(
        "python: {version: '>=3.10', source: src, entrypoint: python main.py}\n"
        "tasks: {go: {parameters: {inputs: {status: {type: integer, default: 0}}, outputs: {out: {type: file}}}}}\n"
    )
    (root / "src" / "main.py").write_text(
        "import sys\n"
        "words = dict(word[2:].split('=', 1) for word in sys.argv[2:])\n"
        "open(words['out'], 'w').write('done')\n"
        "print('out ' * 50000, flush=True); print('err ' * 50000, file=sys.stderr, flush=True)\n"
        "sys.exit(int(words['status']))\n"
    )
    monkeypatch.chdir(root)
    return root


def sh(command: str) -> "subprocess.CompletedProcess[str]":
    """A command of bash's, which can tell the status of the first one in a pipe."""
    script = f"{command}\nexit ${{PIPESTATUS[0]}}"
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120)


def assert_no_trace(done: "subprocess.CompletedProcess[str]") -> None:
    for word in ("Traceback", "bug in cube", "Exception ignored"):
        assert word not in done.stdout + done.stderr


@pytest.mark.engine("local")
@pytest.mark.parametrize("streams", BAD)
@pytest.mark.parametrize("status", [0, 7])
def test_a_task_runs_to_its_end_and_gives_its_status_whatever_the_streams_are(
    cube: Path, streams: str, status: int
) -> None:
    done = sh(f"{CUBE} run --platform=local status={status} {streams}")
    assert done.returncode == status, done.stderr
    assert (cube / "workspace" / "out").read_text() == "done"
    assert_no_trace(done)


RESULTS = ("--version", "--help", "check", "check --json", "describe", "run --help", "runs", "platforms", "show-config")


@pytest.mark.parametrize("words", RESULTS)
def test_a_result_that_cannot_be_written_is_said_and_has_a_status(cube: Path, words: str) -> None:
    for streams, reason in ((">/dev/full", "no space left on device"), (">&-", "it is closed")):
        if words == "runs":
            streams = f"--json {streams}"  # noqa: PLW2901 - there are none yet to be printed as a table
        done = sh(f"{CUBE} {words} {streams}")
        assert (done.returncode, done.stdout) == (74, "")
        assert done.stderr == f"error: the result could not be written to stdout: {reason}\n"


@pytest.mark.parametrize("words", RESULTS)
def test_a_reader_that_has_gone_ends_a_command_as_sigpipe_would_without_a_word(cube: Path, words: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    argv = [sys.executable, "-m", "mlcube", *words.split(), *(["--json"] if words == "runs" else [])]
    done = subprocess.run(argv, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("streams", [">&-", "2>&-", ">/dev/full 2>&1", "2>&1 | true", "<&-"])
def test_an_error_keeps_its_status_when_it_cannot_be_told(cube: Path, streams: str) -> None:
    done = sh(f"{CUBE} run --task=nosuch {streams}")
    assert done.returncode == 2
    assert_no_trace(done)


@pytest.mark.engine("local")
def test_no_file_of_cubes_takes_the_number_of_a_closed_stream(cube: Path, private_home: Path) -> None:
    done = sh(f"{CUBE} run --platform=local <&- >&- 2>&-")
    assert done.returncode == 0
    for record in private_home.rglob("record.json"):
        assert record.read_text().startswith("{")
    (log,) = private_home.rglob("runs/*/log")
    assert set(log.read_text().split()) == {"out", "err"}


def test_ctrl_c_while_cube_starts_leaves_no_trace_of_python(cube: Path) -> None:
    """From the first line of ours on; what Python does before is its own."""
    program = (
        "import os, signal, sys; sys.argv = ['cube', 'check']\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == os.environ['STOP_AT']: os.kill(os.getpid(), signal.SIGINT)\n"
        "from mlcube.cli import main\n"
        "sys.meta_path.insert(0, Finder())\n"
        "main()"
    )
    for module in ("gc", "mlcube.cli.direct", "msgspec", "mlcube.cli.outcome", "mlcube.cli.check", "yaml"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "STOP_AT": module}, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (130, ""), module


@pytest.mark.parametrize("words", [["check"], ["--help"], ["platforms"]])
def test_ctrl_c_at_any_moment_gives_no_traceback(cube: Path, words: list[str]) -> None:
    waits = [0.0, 0.0, 0.001, 0.003, 0.01, 0.03, 0.06, 0.09]
    while waits:
        process = subprocess.Popen(
            [sys.executable, "-c", "from mlcube.cli import main; print(1, flush=True); main()", *words],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(waits[0] + 0.002)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        if process.returncode == -signal.SIGINT and '"<string>"' in errors and "mlcube" not in errors:
            continue  # on a busy machine it came before `main` had begun
        del waits[0]
        assert process.returncode in (0, 2, 130), errors
        assert "Traceback" not in errors
