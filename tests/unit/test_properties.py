"""What holds for every document and every name: nothing but our own errors, and exactly the words that were given."""

import os
import string
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlcube.binding import bind
from mlcube.errors import CubeError
from mlcube.invocation import Invocation
from mlcube.reading import read_cube
from mlcube.source import Document

MANY = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
SEED = b"""\
name: model
version: 1.10
docker: {image: "owner/${name}:1", gpu_args: --gpus=all --shm-size=2g, env_args: {A: b}}
platform: {accelerator_count: 1, host_memory_gb: 40, need_internet_access: false}
singularity: {image: model.sif, run_args: --nv}
tasks:
  train: &train
    entrypoint: [python, "train.py"]
    resources: {gpus: 1, cpus: 2, memory: 8GiB, time_limit: 2h30m}
    secrets: {KEY: {mount: /run/secrets/key}}
    parameters:
      inputs: {data: data/, epochs: {type: integer, default: 3, minimum: 1, choices: [3, 4]}}
      outputs: {model: {type: directory, default: model, mount: /model}}
  again:
    <<: *train
    description: |
      Two
      lines
"""
MEDPERF = b"""\
container_type: DockerImage
image: owner/model:1
tasks:
  infer:
    input_volumes: {data: {mount_path: /data, type: directory}}
    run_args: {command: "python x.py", shm_size: 2g, environment: {A: 1}}
"""
WORDS = [b"null", b"~", b"[]", b"{}", b"true", b"-1", b"1e999", b"9" * 400, b".nan", b"-.inf", b"*train", b"&a", b"<<"]
WORDS += [b"${name}", b"${", b"${tasks}", b"${oc.env:HOME}", b"${..}", b"!!set", b"? ", b"- ", b"\t", b"\x00", b"\xff"]
WORDS += [
    "\ud800".encode("utf-8", "surrogatepass"),
    b"\xe2\x80\xa8",
    b"\xc2\x85",
    b"\xef\xbb\xbf",
    b"'",
    b'"',
    b"|",
    b">",
    b"#",
]
WORDS += [
    b"0x1F",
    b"1_000",
    b"image",
    b"tasks",
    b"inputs",
    b"--gpus",
    b"'\\0'",
    b'"\\0"',
    b"--- ",
    b"%YAML 1.2",
    b"(" * 200,
]


@contextmanager
def workspace() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(os.path.realpath(folder), "cube")
        root.mkdir()
        yield root


def read(root: Path, content: bytes, **options: Any) -> None:
    """Read and bind whatever it is; nothing but the error family may come out."""
    (root / "mlcube.yaml").write_bytes(content)
    for strict in (False, True):
        found = ours(partial(read_cube, str(root), strict=strict, **options))
        if found is None:
            continue
        cube, warnings = found
        assert all(str(warning) for warning in warnings)
        for task in cube.tasks:
            ours(partial(bind, cube, task, run_id="run", scratch="/scratch"))


def ours(call: Callable[[], Any]) -> Any:
    """What a call returns, or None when it fails as it may; its message must be printable."""
    try:
        return call()
    except CubeError as error:
        str(error).encode(errors="surrogateescape")
        return None


@pytest.mark.parametrize("content", [SEED, MEDPERF])
def test_the_documents_that_are_mutated_are_valid(content: bytes) -> None:
    with workspace() as root:
        (root / "mlcube.yaml").write_bytes(content)
        assert read_cube(str(root), strict=True)[1] == ()


@MANY
@given(st.data())
def test_a_mutated_document_raises_nothing_but_the_error_family(data: st.DataObject) -> None:
    content = data.draw(st.sampled_from([SEED, MEDPERF]))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        stop = min(len(content), start + data.draw(st.integers(0, 12)))
        content = content[:start] + data.draw(st.sampled_from(WORDS) | st.binary(max_size=3)) + content[stop:]
    with workspace() as root:
        read(root, content)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["${name}", "all", "1h"])
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


@MANY
@given(st.data())
def test_any_value_in_any_place_raises_nothing_but_the_error_family(data: st.DataObject) -> None:
    document = Document.from_yaml(SEED.decode(), "seed")
    key = data.draw(st.sampled_from(sorted(document.values, key=str)))
    value = data.draw(VALUES)
    changed = document.data
    if key:
        inner = changed
        for part in key[:-1]:
            inner = inner[part] if part != "<<" else {}
        if key[-1] in inner if isinstance(inner, dict) else True:
            inner[key[-1]] = value
    else:
        changed = value
    with workspace() as root:
        try:
            content = msgspec.json.encode(changed)
        except UnicodeEncodeError:
            return
        read(root, content)


@MANY
@given(
    st.text(max_size=30),
    st.sampled_from(["", "tasks.train.", "docker.", "docker.gpu_args", "tasks.train.entrypoint", "name="]),
)
def test_any_override_raises_nothing_but_the_error_family(text: str, start: str) -> None:
    with workspace() as root:
        read(root, SEED, overrides=(start + text,))


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "{a: " * 100_000, "- " * 100_000, "? [" * 100_000, "[" * 60 + "]" * 60],
    ids=["lists", "mappings", "items", "keys", "closed"],
)
def test_deep_nesting_never_ends_the_interpreter(text: str) -> None:
    """In a process of its own, because what it guards against is a crash of the parser."""
    program = "import sys; from mlcube.source import Document; Document.from_yaml(sys.stdin.read(), 'x')"
    ended = subprocess.run([sys.executable, "-c", program], input=text, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, "InvalidFile" in ended.stderr) in ((1, True), (0, False))


NAMES = st.text(
    st.sampled_from(string.ascii_letters + string.digits + " '\"\\$`;&|<>(){}[]*?!#~%^=+,:@-_.\n\t\r\x01\x7fñ入\u2028"),
    min_size=1,
    max_size=20,
).filter(lambda name: name not in (".", "..") and not name.startswith("~") and "\x00" not in name)
CUBE = b"""\
docker: {image: owner/model:1}
tasks:
  t:
    parameters:
      inputs: {file: {type: file}, folder: {type: directory, optional: true}, text: {type: string, default: ""}}
      outputs: {out: {type: directory, default: out}, report: {type: file, default: report.txt}}
"""


def bound(root: Path, **arguments: str) -> Invocation:
    (root / "mlcube.yaml").write_bytes(CUBE)
    cube, _ = read_cube(str(root))
    return bind(cube, "t", arguments=arguments, run_id="run", scratch="/scratch")


@MANY
@given(NAMES, NAMES, st.text(max_size=30).filter(str.isprintable))
def test_hostile_names_reach_arguments_and_mounts_exactly(folder: str, name: str, text: str) -> None:
    with workspace() as root:
        place = root / "workspace" / folder
        place.mkdir(parents=True)
        (place / name).write_text("x")
        invocation = bound(root, file=f"{folder}/{name}", folder=folder, text=text)
        assert [str(word) for word in invocation.arguments][:4] == [
            "t",
            f"--file=/mlcube_io0/{name}",
            "--folder=/mlcube_io0",
            f"--text={text}",
        ]
        assert (invocation.mounts[0].source, invocation.mounts[0].access) == (str(place), "ro")


@MANY
@given(NAMES, NAMES)
def test_a_file_outside_the_workspace_is_mounted_alone_and_read_only(folder: str, name: str) -> None:
    with workspace() as root:
        place = root.parent / "elsewhere" / folder
        place.mkdir(parents=True)
        (place / name).write_text("x")
        invocation = bound(root, file=str(place / name), report=str(place / "report.txt"))
        home = str(root / "workspace")
        outside = [
            mount for mount in invocation.mounts if mount.source != home and not mount.source.startswith(f"{home}/")
        ]
        assert [(mount.source, mount.access) for mount in outside] == [
            (str(place / name), "ro"),
            (str(place / ".report.txt.cube"), "rw"),
        ]


@MANY
@given(NAMES, NAMES)
def test_the_digest_tells_arguments_apart_and_not_workspaces(first: str, second: str) -> None:
    with workspace() as root:
        (root / "mlcube.yaml").write_bytes(CUBE)
        cube, _ = read_cube(str(root))
        for folder in ("one", "two"):
            (root / folder).mkdir()
            (root / folder / "file").write_text(folder)

        def digest(folder: str, text: str) -> str:
            arguments = {"file": "file", "text": text}
            return bind(
                cube, "t", arguments=arguments, workspace=str(root / folder), run_id=folder, scratch="/x"
            ).digest

        assert digest("one", first) == digest("two", first)
        assert (digest("one", first) == digest("one", second)) == (first == second)
