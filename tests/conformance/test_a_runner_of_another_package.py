"""The runner that the how-to shows, installed as a package of its own: found, used, and held to every promise."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import uv

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "tests" / "external_runner"
HOW_TO = (ROOT / "docs" / "how-to" / "write-a-runner.md").read_text(encoding="utf-8")
SETTINGS = f"""\
platforms:
  here: {{runner: local, python: {sys.executable}}}
  quiet: {{runner: nice, inner: here, niceness: 15}}
  loud: {{runner: nice, inner: docker}}
"""
CUBE = """\
name: tell
python: {version: ">=3.10", source: .}
tasks:
  tell:
    entrypoint: python -c 'import os; open(os.environ["CUBE_OUTPUT_TO"], "w").write(str(os.nice(0)))'
    parameters: {outputs: {to: {type: file, default: niceness.txt}}}
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the package, made without a network, as `pip install` would."""
    place = tmp_path_factory.mktemp("installed")
    source = place / "source"
    shutil.copytree(PACKAGE, source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    target = place / "packages"
    argv = [uv.find_uv_bin(), "pip", "install", "--quiet", "--offline", "--no-deps", "--no-cache"]
    argv += ["--python", sys.executable, "--target", str(target), str(source)]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def environment(installed: Path, tmp_path: Path) -> dict[str, str]:
    settings = tmp_path / "settings.yaml"
    settings.write_text(SETTINGS)
    path = os.pathsep.join([str(installed), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "MLCUBE_SYSTEM_SETTINGS": str(settings)}


def cube(environment: dict[str, str], *words: str) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-m", "mlcube", *words]
    return subprocess.run(argv, env=environment, capture_output=True, text=True)


def test_it_is_found(environment: dict[str, str]) -> None:
    lines = cube(environment, "platforms").stdout.splitlines()
    assert [line.split()[1:] for line in lines if line.startswith("quiet ")] == [["nice", "usable"]]


def test_a_cube_runs_and_is_nice(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "mlcube.yaml").write_text(CUBE)
    done = cube(environment, "run", "--mlcube", str(tmp_path), "--platform", "quiet")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "workspace" / "niceness.txt").read_text() == str(os.nice(0) + 15)


def test_a_wrong_option_is_told_with_its_place(environment: dict[str, str], tmp_path: Path) -> None:
    settings = Path(environment["MLCUBE_SYSTEM_SETTINGS"])
    settings.write_text(SETTINGS.replace("niceness: 15", "niceness: very"))
    (tmp_path / "mlcube.yaml").write_text(CUBE)
    done = cube(environment, "run", "--mlcube", str(tmp_path), "--platform", "quiet", "--dry-run")
    assert done.returncode == 2
    assert "settings.yaml:3:" in done.stderr
    assert "option `niceness` of runner `nice`" in done.stderr


@pytest.mark.engine("docker")
def test_what_it_cannot_make_nice_is_refused(environment: dict[str, str]) -> None:
    words = ("--mlcube", str(ROOT / "examples/hello_world"), "--task", "hello", "--dry-run")
    done = cube(environment, "run", *words, "--platform", "loud")
    assert done.returncode == 77
    assert "alone can be made nice" in done.stderr


def test_it_keeps_every_promise_by_the_lines_that_the_how_to_shows(
    environment: dict[str, str], installed: Path
) -> None:
    source = installed.parent / "source"
    argv = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "-n", "2", "tests"]
    done = subprocess.run(argv, cwd=source, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) > 100


@pytest.mark.parametrize(
    ("kind", "file"), [("python", "mlcube_nice/__init__.py"), ("python", "tests/test_conformance.py")]
)
def test_the_code_of_the_how_to_is_the_code_of_the_package(kind: str, file: str) -> None:
    shown = re.findall(rf"```{kind}\n(.*?)```", HOW_TO, flags=re.DOTALL)
    assert (PACKAGE / file).read_text(encoding="utf-8") in shown


def test_so_is_what_announces_it() -> None:
    (shown,) = re.findall(r"```toml\n(.*?)```", HOW_TO, flags=re.DOTALL)
    assert (PACKAGE / "pyproject.toml").read_text(encoding="utf-8").startswith(shown)


def test_it_is_shorter_than_sixty_lines() -> None:
    assert len((PACKAGE / "mlcube_nice/__init__.py").read_text(encoding="utf-8").splitlines()) < 60
