"""Faults of MLCube's command line that need a real engine to show, by their numbers in the list of what users met."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.engine("docker")

CUBE = """\
name: faults-of-docker-{id}
docker: {{image: {image}}}
tasks:
  tell:
    entrypoint: {entrypoint}
    parameters:
      inputs: {{text: {{type: file, default: text.txt}}}}
      outputs: {{out: {{type: directory, default: out/}}}}
"""
TELL = """[sh, -c, 'echo "$1 $2" > /mlcube_io1/told; exit $(cat /mlcube_io0/text.txt)', sh]"""
WAIT = """[sh, -c, 'trap "" INT TERM HUP; touch /mlcube_io1/started; sleep 300', sh]"""


@pytest.fixture
def name() -> str:
    return f"faults-of-docker-{os.getpid()}"


def write(folder: Path, entrypoint: str, image: str) -> Path:
    root = folder / "cube"
    (root / "workspace").mkdir(parents=True, exist_ok=True)
    (root / "mlcube.yaml").write_text(CUBE.format(id=os.getpid(), image=image, entrypoint=entrypoint))
    (root / "workspace" / "text.txt").write_text("0")
    return root


def argv(root: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "mlcube", "run", f"--mlcube={root}", "--platform=docker", *words]


def containers(name: str) -> list[str]:
    asked = ["docker", "ps", "--all", "--quiet", f"--filter=label=io.mlcube.cube={name}"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()


def test_f5_an_entrypoint_of_one_word_gets_its_arguments(tmp_path: Path, base_image: str) -> None:
    root = write(tmp_path, "/bin/echo", base_image)
    done = subprocess.run(argv(root), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "--text=/mlcube_io0/text.txt --out=/mlcube_io1\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_f7_an_interrupt_leaves_no_container_that_ignores_it(
    tmp_path: Path, base_image: str, name: str, number: signal.Signals
) -> None:
    root = write(tmp_path, WAIT, base_image)
    running = subprocess.Popen(argv(root), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 60
    while not (root / "workspace" / "out" / "started").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    running.send_signal(number)
    time.sleep(0.5)
    running.send_signal(number)  # the second insists
    assert running.wait(timeout=60) == 128 + number
    assert containers(name) == []


def test_f14_what_a_task_writes_belongs_to_the_caller(tmp_path: Path, base_image: str) -> None:
    root = write(tmp_path, TELL, base_image)
    assert subprocess.run(argv(root), capture_output=True, timeout=120).returncode == 0
    assert {path.stat().st_uid for path in (root / "workspace" / "out").rglob("*")} == {os.getuid()}


def test_an_image_is_configured_without_leaving_anything_beside_it(
    tmp_path: Path, base_image: str, private_home: Path
) -> None:
    root = tmp_path / "cube"
    (root / "src" / "workspace").mkdir(parents=True)
    (root / "src" / "workspace" / "__init__.py").write_text("NAME = 'a package'\n")
    (root / "src" / "main.py").write_text("from workspace import NAME; print(NAME)\n")
    python = f"{{source: src, image: '{base_image}', entrypoint: python main.py}}"
    (root / "mlcube.yaml").write_text(f"name: faults-of-docker\npython: {python}\ntasks: {{t: }}\n")
    configure = [sys.executable, "-m", "mlcube", "configure", f"--mlcube={root}", "--platform=docker"]
    done = subprocess.run(configure, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert list(private_home.rglob("runs")) == []
    assert list(private_home.rglob("scratch/*")) == []
    assert subprocess.run(argv(root), capture_output=True, text=True, timeout=120).stdout == "a package\n"


@pytest.mark.parametrize("status", [0, 7])
def test_f15_no_container_outlives_its_task(tmp_path: Path, base_image: str, name: str, status: int) -> None:
    root = write(tmp_path, TELL, base_image)
    (root / "workspace" / "text.txt").write_text(str(status))
    assert subprocess.run(argv(root), capture_output=True, timeout=120).returncode == status
    assert containers(name) == []


def test_f20_two_runs_never_write_into_one_directory_at_once(tmp_path: Path, base_image: str) -> None:
    root = write(tmp_path, "[sh, -c, 'touch /mlcube_io1/started; sleep 5', sh]", base_image)
    first = subprocess.Popen(argv(root, "--json"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    deadline = time.monotonic() + 60
    while not (root / "workspace" / "out" / "started").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    second = subprocess.run(argv(root), capture_output=True, text=True, timeout=120)
    told, _ = first.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (0, 75)
    assert json.loads(told)["runs"][0]["id"] in second.stderr
