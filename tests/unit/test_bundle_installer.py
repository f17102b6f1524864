"""The script in a bundle that installs `cube`: what it says where it cannot, and what it leaves there."""

import io
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

import mlcube
from mlcube.bundling import artifacts
from mlcube.bundling.creating import Files, Gathered, create_bundle
from tests.unit.bundles import YAML, cube_artifact, make

SCRIPT = Path(mlcube.__file__).parent / "templates" / "bundle" / "install.py"
WHEEL = "mlcube-1-py3-none-any.whl"


def wheel() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("mlcube/__init__.py", "")
        file.writestr("mlcube-1.dist-info/entry_points.txt", "[console_scripts]\ncube = mlcube:main\n")
    return content.getvalue()


def carrying(folder: Path, content: bytes) -> Path:
    """A bundle whose only wheel has this content."""
    (folder / WHEEL).write_bytes(content)
    tool = Files(role=artifacts.TOOL, name="tool", paths=(str(folder / WHEEL),))
    path = folder / "m.cube"
    create_bundle(str(path), Gathered(cube=cube_artifact({"mlcube.yaml": YAML}), files=(tool,)))
    (folder / WHEEL).unlink()
    return path


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return carrying(tmp_path, wheel())


def installer(*words: str | Path) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, str(SCRIPT), *map(str, words)]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)


def refused(done: "subprocess.CompletedProcess[str]", told: str) -> None:
    assert (done.returncode, done.stdout) == (1, "")
    assert told in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


def test_it_installs_into_a_new_folder_or_one_that_is_there(bundle: Path, tmp_path: Path) -> None:
    for target in (tmp_path / "new" / "cube", tmp_path / "there"):
        (tmp_path / "there").mkdir(exist_ok=True)
        done = installer(bundle, target)
        assert (done.returncode, done.stderr) == (0, "")
        assert (target / "bin" / "cube").is_file()
    assert installer(bundle, "--wheels", tmp_path / "wheels").returncode == 0
    assert os.listdir(tmp_path / "wheels") == [WHEEL]


@pytest.mark.parametrize("words", [(), ("--wheels",)])
@pytest.mark.parametrize("target", ["/proc/nope", "/proc/nope/w", "/proc"])
def test_a_place_that_cannot_be_written_is_one_sentence(words: tuple[str, ...], target: str, bundle: Path) -> None:
    refused(installer(bundle, *words, target), target)


@pytest.mark.parametrize("words", [(), ("--wheels",)])
def test_a_file_where_the_folder_belongs_is_one_sentence(words: tuple[str, ...], bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    refused(installer(bundle, *words, tmp_path / "taken"), "is a file where a folder belongs")
    refused(installer(bundle, *words, tmp_path / "taken" / "in"), "not a directory")
    assert (tmp_path / "taken").read_text() == "mine"


def damaged(tmp_path: Path, kind: str) -> Path:
    if kind == "no wheel":
        return carrying(tmp_path, b"no wheel")
    content = wheel()
    bundle = carrying(tmp_path, content)
    bundle.write_bytes(bundle.read_bytes().replace(content, content[:-1] + b"x"))
    return bundle


@pytest.mark.parametrize("kind", ["no wheel", "changed"])
@pytest.mark.parametrize("there", [None, "empty", "used"])
def test_damaged_wheels_leave_nothing_half_made(kind: str, there: str | None, tmp_path: Path) -> None:
    bundle, target = damaged(tmp_path, kind), tmp_path / "deep" / "cube"
    if there:
        target.mkdir(parents=True)
    if there == "used":
        (target / "lib").mkdir()
        (target / "lib" / "mine").write_text("mine")
    refused(installer(bundle, target), "the bundle is damaged")
    if there is None:
        assert not (tmp_path / "deep").exists()
    elif there == "empty":
        assert os.listdir(target) == []
    else:
        assert os.listdir(target) == ["lib"]
        assert (target / "lib" / "mine").read_text() == "mine"


def test_wheels_that_were_there_stay(tmp_path: Path) -> None:
    bundle, target = damaged(tmp_path, "changed"), tmp_path / "wheels"
    refused(installer(bundle, "--wheels", target), "the bundle is damaged")
    assert not target.exists()
    target.mkdir()
    (target / WHEEL).write_text("mine")
    refused(installer(bundle, "--wheels", target), "the bundle is damaged")
    assert os.listdir(target) == [WHEEL]
    assert (target / WHEEL).read_text() == "mine"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_stops_it_finds_nothing_half_made(number: signal.Signals, bundle: Path, tmp_path: Path) -> None:
    slow, target, begun = tmp_path / "slow", tmp_path / "target", tmp_path / "target" / "bin"
    slow.mkdir()
    (slow / "venv.py").write_text(f"import os, time\nos.mkdir({str(begun)!r})\ntime.sleep(60)\n")
    environment = {**os.environ, "PYTHONPATH": str(slow)}
    argv = [sys.executable, str(SCRIPT), str(bundle), str(target)]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, env=environment) as process:
        while not begun.exists() and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(number)
        _, told = process.communicate(timeout=30)
    assert (process.returncode, told) == (128 + number, f"stopped by {number.name}: what was begun is removed\n")
    assert not target.exists()


@pytest.mark.parametrize("words", [(), ("--wheels",)])
def test_a_bundle_without_the_tool_says_so(words: tuple[str, ...], tmp_path: Path) -> None:
    make(tmp_path / "m.cube")
    refused(
        installer(tmp_path / "m.cube", *words, tmp_path / "cube"),
        "carries no `cube` for any Python: make it once more without `--without-tool`",
    )
    assert not (tmp_path / "cube").exists()


def test_what_is_no_bundle_is_one_sentence(bundle: Path, tmp_path: Path) -> None:
    refused(installer(tmp_path, tmp_path / "cube"), "cannot be read: is a directory")
    bundle.write_bytes(bundle.read_bytes()[:1024])
    refused(installer(bundle, tmp_path / "cube"), "the bundle is damaged: copy it once more")
