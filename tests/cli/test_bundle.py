"""Bundles on the command line, with real engines: made here, read by skopeo, and run where there is no network."""

import json
import os
import random
import re
import shlex
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
@pytest.mark.parametrize("detached", [(), ("--detach",)])
def test_a_prune_takes_nothing_from_a_run_that_begins_or_goes_on(
    detached: tuple[str, ...], python_cube: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process removes all that is unused: when the run looks for a Python, and when its task runs."""
    prune, python = tmp_path / "prune", tmp_path / "python"
    environment = {
        "CUBE_CACHE_DIR": str(tmp_path / "cache"),
        "CUBE_STATE_DIR": str(tmp_path / "state"),
        "MLCUBE_SYSTEM_SETTINGS": str(tmp_path / "settings.yaml"),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    words = ["env", *(f"{name}={value}" for name, value in environment.items()), sys.executable, "-m", "mlcube"]
    prune.write_text(f"#!/bin/sh\n{shlex.join([*words, 'cache', 'prune', '--all'])} >>{tmp_path}/pruned 2>&1\n")
    python.write_text(f'#!/bin/sh\n{prune}\nexec {sys._base_executable} "$@"\n')  # type: ignore[attr-defined]
    for script in (prune, python):
        script.chmod(0o755)
    (tmp_path / "settings.yaml").write_text(f"platforms: {{local: {{runner: local, python: '{python}'}}}}\n")
    with (python_cube / "src" / "tell.py").open("a") as file:
        file.write(f"import subprocess\nsubprocess.run({str(prune)!r}, check=True)\n")
    create(python_cube, "m.cube", "--with-data")
    succeeds("run", "m.cube", "--platform", "local", *detached, cwd=tmp_path)
    if detached:
        succeeds("wait", cwd=tmp_path)
    assert (tmp_path / "workspace" / "out.txt").read_text() == "somebody xn--bcher-kva.example"
    assert (tmp_path / "pruned").read_text() == "freed 0 bytes\n" * 2
    assert succeeds("cache", "prune", "--all") != "freed 0 bytes\n"
    assert os.listdir(tmp_path / "cache" / "store" / "using") == []
    assert succeeds("cache") == ""


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


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("--since", "old.cube"), 66, "there is no bundle `old.cube`"),
        (("--since", "small/mlcube.yaml"), 65, "`small/mlcube.yaml` is no bundle: it begins with `name: small`"),
        (("-o", "small"), 2, "`small` is a folder, and a bundle is a file\nhint: -o small/NAME.cube"),
        (("-o", "/dev/null"), 2, "`/dev/null` is no regular file"),
        (("-o", "small/mlcube.yaml/m.cube"), 1, "`small/mlcube.yaml/m.cube` cannot be written"),
        (("-o", "/proc/m.cube"), 1, "`/proc/m.cube` cannot be written: `/proc`: "),
        (("--sif",), 2, "a `python:` cube has no image of its own"),
        (("--python-version", "2.7", "--platform", "docker,local"), 74, "and 2.7 is none"),
        (("--python-version", "3.11,4.7"), 2, "there is no Python 4.7\nhint: --python-version 3.11"),
        (("--python-version", "newest"), 2, "`newest` is no Python version, as `3.11` is"),
    ],
)
def test_what_cannot_be_written_or_built_upon_is_told_before_anything_is_collected(
    words: tuple[str, ...], status: int, message: str, small: Path, tmp_path: Path
) -> None:
    output = () if "-o" in words else ("-o", "m.cube")
    done = cube("bundle", "create", str(small), *output, *words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith("error: "), "nothing was done before"
    assert message in done.stderr


@pytest.mark.parametrize("words", [("run",), ("bundle", "verify"), ("bundle", "list"), ("verify",), ("pull",)])
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "it is empty"),
        (b"just a text, in one line that is rather long\n", "it begins with `just a text, in one line that is`"),
        (b"\x1f\x8b\x08\x00" * 200, "it begins with the bytes 1f 8b 08 00"),
        (bytes(2048), "it begins with the bytes 00 00 00 00"),
    ],
)
def test_what_only_has_the_name_of_a_bundle_is_told_by_its_beginning(
    words: tuple[str, ...], content: bytes, told: str, tmp_path: Path
) -> None:
    (tmp_path / "x.cube").write_bytes(content)
    (tmp_path / "home" / ".config" / "mlcube").mkdir(parents=True)
    (tmp_path / "home" / ".config" / "mlcube" / "trust.yaml").write_text("default: always\n")
    done = cube(*words, "x.cube", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (65, "")
    assert done.stderr == f"error: `x.cube` is no bundle: {told}\nhint: `cube bundle create` makes bundles\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("there", [False, True])
def test_who_stops_it_is_told_what_remains(number: signal.Signals, there: bool, tmp_path: Path) -> None:
    programs, begun = tmp_path / "programs", tmp_path / "begun"
    programs.mkdir()
    (programs / "docker").write_text(f"#!/bin/sh\n: >'{begun}'\nexec sleep 60\n")  # an engine that is slow to answer
    (programs / "docker").chmod(0o755)
    folder = tmp_path / "slow"
    folder.mkdir()
    (folder / "mlcube.yaml").write_text("docker: {image: 'registry.invalid/a:1'}\ntasks: {train: {}}\n")
    if there:
        (tmp_path / "m.cube").write_text("earlier")
    words = ("bundle", "create", "slow", "-o", "m.cube", "--platform", "docker", "--without-tool")
    with subprocess.Popen(
        [sys.executable, "-m", "mlcube", *words],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"},
    ) as process:
        while not begun.exists() and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(number)
        _, told = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    left = "is what it was before" if there else "was not written"
    assert told == (
        f"error: stopped by {number.name}: `m.cube` {left}\n"
        "hint: what was fetched and built for it is kept, for the next time\n"
    )
    assert [name for name in os.listdir(tmp_path) if name.startswith("m.cube")] == (["m.cube"] if there else [])
    scratch = Path(os.environ["HOME"], ".cache", "mlcube", "scratch")
    assert not list(scratch.iterdir())


@pytest.mark.parametrize("there", [False, True])
def test_who_stops_a_join_is_told_what_remains(there: bool, tmp_path: Path) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "mlcube.yaml").write_text("name: large\npython: {source: .}\ntasks: {nothing: {entrypoint: 'true'}}\n")
    with (folder / "weights.bin").open("wb") as file:
        file.truncate(400 << 20)
    create(folder, "large.cube")
    if there:
        (tmp_path / "m.cube").write_text("earlier")
    argv = [sys.executable, "-m", "mlcube", "bundle", "join", "large.cube", "-o", "m.cube"]
    with subprocess.Popen(argv, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / ".m.cube.001.part").exists() and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=30)
    left = "is what it was before" if there else "was not written"
    assert (process.returncode, told) == (130, f"error: stopped by SIGINT: `m.cube` {left}\n")
    assert [path.name for path in tmp_path.glob("*m.cube*")] == (["m.cube"] if there else [])
