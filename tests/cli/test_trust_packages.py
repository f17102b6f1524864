"""The packages of a signed `python:` cube: those whose hashes were signed are installed, or nothing runs."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.cli.own_registry import own_registry
from tests.cli.signed import cube, refused

pytestmark = pytest.mark.engine("registry")

CUBE = """\
name: packed
python: {version: ">=3.10", requirements: [tiny]}
tasks:
  hi: {entrypoint: python hi.py}
"""


def wheel(folder: Path, version: str, answer: int) -> str:
    """A package of one module; gives the line that asks for exactly it."""
    path = folder / f"tiny-{version}-py3-none-any.whl"
    with ZipFile(path, "w") as archive:
        archive.writestr("tiny.py", f"ANSWER = {answer}\n")
        archive.writestr(
            f"tiny-{version}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n"
        )
        told = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr(f"tiny-{version}.dist-info/WHEEL", told)
        archive.writestr(f"tiny-{version}.dist-info/RECORD", "tiny.py,,\n")
    return f"tiny=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


Started = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A machine with a policy, an index of one package, and a key."""
    (tmp_path / "index").mkdir()
    wheel(tmp_path / "index", "1.0", 42)
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed/mlcube.yaml").write_text(CUBE)
    (tmp_path / "packed/hi.py").write_text("import tiny; print('the answer is', tiny.ANSWER)\n")
    assert cube("key", "create", "lab", home=tmp_path).returncode == 0
    (tmp_path / "config").mkdir()
    rule = f"{{kinds: [path], names: ['{tmp_path}/packed'], allow: always}}"
    (tmp_path / "config/trust.yaml").write_text(f"keys: {{lab: ../lab.pub}}\nrules: [{rule}]\ndefault: signed\n")
    return tmp_path


@pytest.fixture
def address(home: Path) -> Iterator[str]:
    with own_registry(home / "registry") as found:
        yield f"oci://{found}/packed:1"


@pytest.fixture
def started(home: Path) -> Started:
    index = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(home / "index")}
    index |= {"UV_NO_INDEX": "1", "UV_FIND_LINKS": str(home / "index"), "UV_CACHE_DIR": str(home / "uv")}

    def start(*words: str) -> "subprocess.CompletedProcess[str]":
        return cube(*words, home=home, **index)

    return start


def published(started: Started, address: str) -> None:
    done = started("publish", "packed", address, "--sign", "--key", "lab.key")
    assert done.returncode == 0, done.stderr


RUN = ("--task=hi", "--platform=local")


def test_a_package_without_a_hash_may_be_any(home: Path, address: str, started: Started) -> None:
    published(started, address)
    told = f"{home}/config/trust.yaml asks for does not cover the requirement `tiny`, which may be any"
    for words in (
        ("run", address, *RUN),
        ("run", address, *RUN, "--dry-run"),
        ("configure", address, "--platform=local"),
        ("lock", address, "--platform=local"),
        ("bundle", "create", address, "--platform=local", "--without-tool", "-o", "x.cube"),
    ):
        refused(started(*words), 78, told)
    assert not (home / "cache/environments").exists()


def test_what_the_published_lock_says_is_installed_and_nothing_else(home: Path, address: str, started: Started) -> None:
    done = started("lock", "--mlcube=packed")
    assert done.returncode == 0, done.stderr
    shutil.move(home / "mlcube.lock", home / "packed")
    published(started, address)
    wheel(home / "index", "2.0", 666)
    done = started("run", address, *RUN)
    assert done.returncode == 0, done.stderr
    assert "the answer is 42" in done.stdout

    # A lock that lies here is nobody's signature, so it does not say what is installed.
    done = started("lock", address, "--platform=local")
    assert done.returncode == 0, done.stderr
    lock = json.loads((home / "mlcube.lock").read_text())
    lock["requirements"]["exact"] = [wheel(home / "index", "2.0", 666)]
    (home / "mlcube.lock").write_text(json.dumps(lock))
    done = started("run", address, *RUN, "--locked")
    assert "the answer is 42" in done.stdout, done.stdout + done.stderr

    # The index has something else under the same name and version.
    shutil.rmtree(home / "cache/environments")
    shutil.rmtree(home / "uv", ignore_errors=True)
    wheel(home / "index", "1.0", 666)
    done = started("run", address, *RUN)
    assert done.returncode, done.stdout
    assert "666" not in done.stdout
    assert "hash" in done.stderr.lower()


def test_an_image_for_it_is_built_on_a_digest(home: Path, address: str, started: Started) -> None:
    (home / "packed/mlcube.yaml").write_text(CUBE.replace("[tiny]", "[]"))
    published(started, address)
    done = started("run", address, "--task=hi", "--platform=docker", "--dry-run")
    refused(done, 78, "does not cover the base image, the official one of Python, which may be any")
    done = started("run", address, *RUN, "--dry-run")
    assert done.returncode == 0, done.stderr
    digest = f"sha256:{'0' * 64}"
    (home / "packed/mlcube.yaml").write_text(CUBE.replace("[tiny]", f"[], image: 'python@{digest}'"))
    published(started, address)
    done = started("run", address, "--task=hi", "--platform=docker", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert f"FROM python@{digest}" in done.stdout


def test_a_lock_makes_nothing_that_is_forbidden(home: Path, started: Started) -> None:
    """It builds what it is asked to lock."""
    (home / "config/trust.yaml").write_text("default: never\n")
    refused(started("lock", "--mlcube=packed", "--platform=local"), 78, "is forbidden by")
    assert not (home / "mlcube.lock").exists()
    assert not (home / "cache/environments").exists()


def test_the_library_asks_the_same(home: Path, address: str, started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlcube
    from mlcube.errors import Untrusted

    published(started, address)
    for name in ("config", "cache", "state"):
        monkeypatch.setenv(f"CUBE_{name.upper()}_DIR", str(home / name))
    monkeypatch.chdir(home)
    with pytest.raises(Untrusted, match="does not cover the requirement `tiny`"):
        mlcube.load(address).run("hi", platform="local")
    with pytest.raises(Untrusted, match="does not cover the requirement `tiny`"):
        mlcube.load(address).leave("hi", platform="local")


def test_the_library_asks_on_every_run_and_of_every_cube(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of one that somebody read before there was a policy, or without `load`."""
    import mlcube
    from mlcube.errors import Untrusted
    from mlcube.reading import read_cube

    monkeypatch.setenv("CUBE_CONFIG_DIR", str(home / "config"))
    before, itself = mlcube.load(home / "packed"), mlcube.Cube(read_cube(str(home / "packed"))[0])
    (home / "config/trust.yaml").write_text("default: never\n")
    for each in (before, itself):
        with pytest.raises(Untrusted, match="is forbidden by"):
            each.run("hi", platform="local")
        with pytest.raises(Untrusted, match="is forbidden by"):
            each.leave("hi", platform="local")
