"""Bundles on the command line, with real engines: made here, read by skopeo, and run where there is no network."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

REGISTRY = "127.0.0.1:5000"
WITHOUT_NETWORK = ("unshare", "--map-root-user", "--net", "--")

DOCKER_CUBE = """\
name: carried
version: '1.0'
docker: {{image: '{image}', build_file: Dockerfile}}
tasks:
  tell:
    entrypoint: sh -c 'cat /told "$CUBE_INPUT_WHO" >"$CUBE_OUTPUT_OUT"'
    parameters:
      inputs: {{who: {{type: file, default: who.txt}}}}
      outputs: {{out: {{type: file, default: out.txt}}}}
"""

PYTHON_CUBE = """\
name: little
version: '1.0'
python: {version: '>=3.10', source: src, requirements: [idna]}
tasks:
  tell:
    entrypoint: python tell.py
    parameters:
      inputs: {who: {type: file, default: who.txt}}
      outputs: {out: {type: file, default: out.txt}}
"""

TELL = """\
import os, idna
with open(os.environ["CUBE_INPUT_WHO"]) as who, open(os.environ["CUBE_OUTPUT_OUT"], "w") as out:
    out.write(who.read() + idna.encode("bücher.example").decode())
"""


def cube(
    *words: str, cwd: Path | None = None, before: tuple[str, ...] = (), **variables: str
) -> subprocess.CompletedProcess[str]:
    argv = [*before, sys.executable, "-m", "mlcube", *words]
    return subprocess.run(
        argv, cwd=cwd, capture_output=True, text=True, timeout=300, check=False, env={**os.environ, **variables}
    )


def succeeds(*words: str, cwd: Path | None = None, before: tuple[str, ...] = (), **variables: str) -> str:
    done = cube(*words, cwd=cwd, before=before, **variables)
    assert done.returncode == 0, done.stderr
    return done.stdout


def without_network() -> tuple[str, ...]:
    """What takes the network away from a command, where that may be done."""
    tried = subprocess.run([*WITHOUT_NETWORK, "true"], capture_output=True)
    return WITHOUT_NETWORK if tried.returncode == 0 else ()


@pytest.fixture
def python_cube(tmp_path: Path) -> Path:
    folder = tmp_path / "little"
    (folder / "src").mkdir(parents=True)
    (folder / "workspace").mkdir()
    (folder / "mlcube.yaml").write_text(PYTHON_CUBE)
    (folder / "src" / "tell.py").write_text(TELL, encoding="utf-8")
    (folder / "workspace" / "who.txt").write_text("somebody ")
    return folder


@pytest.fixture(scope="module")
def docker_cube(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cube with a small image of its own, which no other test knows."""
    folder = tmp_path_factory.mktemp("carried")
    image = f"cube-test/carried-{uuid.uuid4().hex[:8]}:1"
    (folder / "mlcube.yaml").write_text(DOCKER_CUBE.format(image=image))
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY root /\n")
    (folder / ".cubeignore").write_text("/root\n")
    programs = [str(shutil.which(name)) for name in ("sh", "cat", "true")]
    listed = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=True).stdout
    for path in {*programs, *re.findall(r"(/\S+) \(", listed)}:
        target = folder / "root" / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(os.path.realpath(path), target)
    for name in ("tmp", "proc", "dev", "sys", "etc"):
        (folder / "root" / name).mkdir(exist_ok=True)
    (folder / "root" / "told").write_text(f"{uuid.uuid4()}\n")
    (folder / "workspace").mkdir()
    (folder / "workspace" / "who.txt").write_text("somebody\n")
    yield folder
    subprocess.run(["docker", "rmi", "--force", image], capture_output=True)


@pytest.fixture(scope="module")
def carried(docker_cube: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The bundle of it, with a SIF file where Apptainer is."""
    folder = tmp_path_factory.mktemp("bundle")
    sif = ("--sif",) if shutil.which("apptainer") else ()
    words = ("bundle", "create", str(docker_cube), "-o", "m.cube", "--with-data", "--without-tool", *sif)
    succeeds(*words, cwd=folder, HOME=str(folder), CUBE_CACHE_DIR=str(folder / "cache"))
    (image,) = [
        line.split("'")[1] for line in (docker_cube / "mlcube.yaml").read_text().splitlines() if "image:" in line
    ]
    asked = ["docker", "image", "inspect", "--format={{.Id}}", image]
    identity = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    subprocess.run(["docker", "rmi", "--force", image], capture_output=True, check=True)
    yield folder / "m.cube"
    for engine in ("docker", "podman"):
        if shutil.which(engine):
            subprocess.run([engine, "rmi", "--force", identity], capture_output=True)


@pytest.mark.engine("docker")
@pytest.mark.engine("skopeo")
def test_skopeo_finds_the_image_and_the_cube(carried: Path) -> None:
    listed = json.loads(succeeds("bundle", "list", str(carried), "--json"))
    names = {entry["role"]: entry["name"] for entry in listed["entries"]}
    shown = skopeo("inspect", f"oci-archive:{carried}:{names['image']}")
    assert (shown["Os"], shown["Architecture"] != "") == ("linux", True)
    manifest = skopeo("inspect", "--raw", f"oci-archive:{carried}:carried:1.0")
    assert manifest["artifactType"] == "application/vnd.mlcube.cube.v1"


def skopeo(*words: str) -> dict[str, object]:
    done = subprocess.run(["skopeo", *words], capture_output=True, text=True, check=True)
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.engine("docker")
@pytest.mark.parametrize(
    "platform", [pytest.param(name, marks=pytest.mark.engine(name)) for name in ("docker", "podman", "singularity")]
)
def test_a_cube_with_an_image_runs_from_its_bundle(platform: str, carried: Path, tmp_path: Path) -> None:
    words = ("run", str(carried), "--platform", platform, "--workspace", str(tmp_path / "workspace"))
    first = cube(*words, "--offline")
    assert first.returncode == 0, first.stderr
    assert "somebody" in (tmp_path / "workspace" / "out.txt").read_text()
    assert not any(word in first.stderr for word in ("pulling", "building", "converting")), first.stderr
    second = cube(*words)
    assert second.returncode == 0, second.stderr
    assert "loading" not in second.stderr, "it is there already"


@pytest.mark.engine("docker")
def test_a_dry_run_loads_nothing(carried: Path, tmp_path: Path) -> None:
    script = succeeds("run", str(carried), "--platform", "docker", "--dry-run", cwd=tmp_path)
    assert "sha256:" in script, "it runs by digest"
    assert not (tmp_path / "home" / ".cache" / "mlcube" / "bundles").exists()


@pytest.mark.engine("local")
def test_an_empty_machine_installs_and_runs_without_a_network(python_cube: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    succeeds("bundle", "create", str(python_cube), "-o", str(site / "m.cube"), "--with-data", cwd=tmp_path)
    before = without_network()
    home = {"PATH": os.environ["PATH"], "HOME": str(tmp_path / "elsewhere")}
    python = sys._base_executable  # type: ignore[attr-defined]

    def run(*argv: str) -> str:
        done = subprocess.run([*before, *argv], cwd=site, env=home, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("tar", "-xf", "m.cube", "install.py")
    run(python, "install.py", "m.cube", "tool")
    assert run("tool/bin/cube", "--version").startswith("cube ")
    assert "is whole" in run("tool/bin/cube", "bundle", "verify", "m.cube")
    run("tool/bin/cube", "run", "m.cube", "--task", "tell")
    assert (site / "workspace" / "out.txt").read_text() == "somebody xn--bcher-kva.example"
    # The same wheels, for whoever has an installer.
    run(python, "install.py", "m.cube", "--wheels", "wheels")
    run(python, "-m", "venv", "--without-pip", "empty")
    pip = (sys.executable, "-m", "pip", "--python", "empty/bin/python")
    run(*pip, "install", "--quiet", "--no-index", "--find-links", "wheels", "mlcube")
    assert run("empty/bin/cube", "--version").startswith("cube ")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A cube that needs nothing, with a file that is no small one."""
    folder = tmp_path / "small"
    (folder / "src").mkdir(parents=True)
    (folder / "mlcube.yaml").write_text("name: small\npython: {source: src}\ntasks: {nothing: {entrypoint: 'true'}}\n")
    (folder / "src" / "weights.bin").write_bytes(random.Random(1).randbytes(3 << 20))
    return folder


def create(cube_folder: Path, output: str, *words: str) -> None:
    succeeds("bundle", "create", str(cube_folder), "-o", output, "--without-tool", *words, cwd=cube_folder.parent)


@pytest.mark.engine("local")
def test_parts_are_verified_run_and_joined(small: Path, tmp_path: Path) -> None:
    create(small, "m.cube", "--split", "1MiB")
    create(small, "whole.cube")
    parts = sorted(tmp_path.glob("m.cube.*"))
    assert len(parts) == 4
    assert "in 4 parts" in succeeds("bundle", "verify", str(parts[0]))
    later = cube("bundle", "verify", "m.cube.003", cwd=tmp_path)
    assert (later.returncode, "name the first of its parts" in later.stderr) == (65, True)
    succeeds("run", str(parts[0]), cwd=tmp_path)
    succeeds("bundle", "join", str(parts[0]), "-o", "joined.cube", cwd=tmp_path)
    whole = (tmp_path / "whole.cube").read_bytes()
    assert (tmp_path / "joined.cube").read_bytes() == whole == b"".join(part.read_bytes() for part in parts)


@pytest.mark.engine("local")
def test_a_later_bundle_carries_what_is_new(small: Path, tmp_path: Path) -> None:
    create(small, "old.cube")
    (small / "src" / "more.py").write_text("print('more')\n")
    create(small, "new.cube", "--since", "old.cube")
    assert (tmp_path / "new.cube").stat().st_size < 100_000
    assert "it builds on the bundle sha256:" in succeeds("bundle", "verify", "new.cube", cwd=tmp_path)
    succeeds("bundle", "join", "old.cube", "new.cube", "-o", "joined.cube", cwd=tmp_path)
    succeeds("run", "joined.cube", cwd=tmp_path, CUBE_CACHE_DIR=str(tmp_path / "first"))
    succeeds("run", "new.cube", cwd=tmp_path, CUBE_CACHE_DIR=str(tmp_path / "second"))  # the other lies beside it
    (tmp_path / "alone").mkdir()
    shutil.move(tmp_path / "new.cube", tmp_path / "alone")
    alone = cube("run", "alone/new.cube", cwd=tmp_path)
    assert alone.returncode == 66
    assert "lies in the earlier bundle" in alone.stderr


@pytest.mark.engine("local")
def test_a_bundle_is_loaded_in_python(small: Path, tmp_path: Path) -> None:
    create(small, "m.cube")
    program = "import mlcube; print(mlcube.load('m.cube').run('nothing').status)"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr


@pytest.mark.engine("local")
def test_the_digest_is_the_one_that_publishing_gives(small: Path, tmp_path: Path) -> None:
    create(small, "m.cube")
    listed = json.loads(succeeds("bundle", "list", "m.cube", "--json", cwd=tmp_path))
    dry = json.loads(succeeds("publish", str(small), "oci://127.0.0.1:5000/nothing:1", "--dry-run", "--json"))
    assert listed["entries"][0]["digest"] == dry["digest"]


def test_a_changed_bundle_does_not_run(small: Path, tmp_path: Path) -> None:
    create(small, "m.cube")
    path = tmp_path / "m.cube"
    whole = bytearray(path.read_bytes())
    choice = random.Random(2)
    for _ in range(6):
        place = choice.randrange(len(whole))
        changed = bytearray(whole)
        changed[place] ^= 1 << choice.randrange(8)
        path.write_bytes(changed)
        verified = cube("bundle", "verify", "m.cube", cwd=tmp_path)
        assert (verified.returncode, "Traceback" in verified.stderr) == (65, False), verified.stderr
        run = cube("run", "m.cube", cwd=tmp_path, CUBE_CACHE_DIR=str(tmp_path / "cache"))
        assert run.returncode == 65, (place, run.stderr)
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)


def test_killed_at_any_moment_the_same_command_completes(small: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "mlcube", "bundle", "create", str(small), "-o", "m.cube", "--without-tool"]
    choice = random.Random(3)
    for _ in range(6):
        with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            time.sleep(choice.random() * 0.8)
            process.send_signal(signal.SIGKILL)
        if (tmp_path / "m.cube").exists():
            succeeds("bundle", "verify", "m.cube", cwd=tmp_path)
            (tmp_path / "m.cube").unlink()
    create(small, "m.cube")
    succeeds("bundle", "verify", "m.cube", cwd=tmp_path)
    assert [name for name in os.listdir(tmp_path) if "m.cube" in name] == ["m.cube"]


@pytest.mark.engine("registry")
@pytest.mark.engine("docker")
def test_signatures_travel_and_the_policy_is_kept(docker_cube: Path, carried: Path, tmp_path: Path) -> None:
    reference = f"oci://{REGISTRY}/cube-test/bundled-{uuid.uuid4().hex[:8]}:1.0"
    succeeds("key", "create", "lab", cwd=tmp_path, CUBE_KEY_PASSWORD="secret")
    publish = ("publish", str(docker_cube), reference, "--with-inputs", "--sign", "--key", "lab.key")
    succeeds(*publish, cwd=tmp_path, CUBE_KEY_PASSWORD="secret")
    config = tmp_path / "home" / ".config" / "mlcube"
    config.mkdir(parents=True, exist_ok=True)
    (config / "trust.yaml").write_text(f"keys: {{lab: '{tmp_path / 'lab.pub'}'}}\ndefault: signed\n")
    succeeds("bundle", "create", reference, "--without-tool", "-o", "signed.cube", cwd=tmp_path)
    listed = json.loads(succeeds("bundle", "list", "signed.cube", "--json", cwd=tmp_path))
    roles = [entry["role"] for entry in listed["entries"]]
    assert roles[0] == "cube"
    assert roles.count("referrer") >= 3, "signature, bill of materials, record"
    succeeds("verify", "signed.cube", cwd=tmp_path)
    shutil.rmtree(tmp_path / "home" / ".cache")
    succeeds("run", "signed.cube", "--offline", "--platform", "docker", "--workspace", "w", cwd=tmp_path)
    unsigned = cube("run", str(carried), cwd=tmp_path)
    assert unsigned.returncode == 78, unsigned.stderr
    assert "is not signed" in unsigned.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("create", "."), "`create` needs the name of the bundle to write"),
        (("create", "-o", "m.cube"), "`create` takes one cube"),
        (("create", ".", "-o", "m.cube", "--platform", "local,dokcer"), "no platform is named `dokcer`"),
        (("verify",), "`verify` takes one bundle"),
        (("verify", "m.cube", "--sif"), "`verify` takes only bundles"),
        (("verify", "m.cube"), "there is no bundle `m.cube`"),
        (("join", "-o", "m.cube"), "`join` needs bundles"),
        (("create", ".", "-o", "m.cube", "--split", "1"), "`--split 1` is too small"),
        (("create", ".", "-o", "m.cube", "--split", "much"), "`--split` takes"),
    ],
)
def test_what_was_meant_is_said(words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    done = cube("bundle", *words, cwd=tmp_path)
    assert done.returncode in (2, 66)
    assert message in done.stderr
