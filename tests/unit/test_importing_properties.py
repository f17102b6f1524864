"""Whatever the files of other tools say: a cube that passes every check, or one of our own errors and nothing left."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcube.cli import create
from mlcube.errors import CubeError
from mlcube.reading import read_cube
from mlcube.source import Document
from tests.unit.test_properties import MEDPERF

COG = b"""\
build:
  python_version: "3.11"
  gpu: true
  python_requirements: r.txt
  system_packages: [ffmpeg]
  run: [{command: echo a}]
image: example.org/someone/Greeter
predict: p.py:P
train: p.py:train
concurrency: {max: 4}
"""
PREDICTOR = b"""\
class P:
  def predict(self, a: Path = Input(description="d"), /, b: int = Input(default=2, ge=1, le=5), *,
              c: float = 1.5, d: Optional[str] = None, e: List[int] = Input(default=[1, 2]),
              f: str = Input(choices=["x", "y"], default="x", regex="[xy]"), g: bool = False) -> Path: pass
def train(data: Path, rate: "float" = -1e-3): pass
"""
REQUIREMENTS = b"numpy==2.1.0 # why\n-r r.txt\n-r s.txt\n--index-url x\n"
PLAIN = b'build: {python_version: "3.10.2", python_packages: [numpy, "-r r.txt", -x]}\npredict: p.py:P\n'
MLPROJECT = b"""\
name: adder
conda_env: conda.yaml
entry_points:
  main:
    parameters: {a: {type: float, default: 0.5}, b: path, c-d: string, e: {type: uri, default: x}}
    command: "python main.py --a {a} '{b}' \\"{c-d}\\" {e} && echo"
  plain:
    command: python main.py words
"""
CONDA = b"dependencies: [python=3.11, 'pip::numpy>=2', torch=2.1=cuda, {pip: [pillow, -r r.txt]}]\n"
DOCKERFILE = b"""\
# escape=\\
FROM a AS b
FROM c
LABEL version="1.0" org.opencontainers.image.description='a b' \\
  license=MIT
VOLUME ["/data", "/a/b"]
VOLUME /c /d
ENTRYPOINT ["python", "${x}"]
CMD run --all
USER me
"""
BOUTIQUES = rb"""{
"name": "tool", "tool-version": "1.0", "description": "\ud83d\ude00", "url": "https://a", "shell": "/bin/sh",
"command-line": "tool [X] '[F]' \"[N]\" [L] > [O]",
"container-image": {"type": "docker", "image": "a/b:1", "index": "docker://quay.io"},
"inputs": [{"id": "x", "type": "String", "value-key": "[X]", "value-choices": ["a", "b"], "default-value": "a"},
 {"id": "f", "type": "Flag", "value-key": "[F]", "command-line-flag": "-f"},
 {"id": "n", "type": "Number", "value-key": "[N]", "minimum": 0, "maximum": 2, "default-value": 1.5, "optional": true},
 {"id": "l", "type": "File", "value-key": "[L]", "list": true}],
"output-files": [{"id": "o", "value-key": "[O]", "path-template": "[X]*.txt",
  "path-template-stripped-extensions": [".a"]}],
"environment-variables": [{"name": "A", "value": "b"}],
"suggested-resources": {"cpu-cores": 2, "ram": 4}
}
"""
BESIDE = {"p.py": PREDICTOR, "r.txt": REQUIREMENTS, "s.txt": b"-r r.txt\npillow\n", "conda.yaml": CONDA}
SEEDS = {
    "cog.yaml": COG,
    "plain/cog.yaml": PLAIN,
    "MLproject": MLPROJECT,
    "Dockerfile": DOCKERFILE,
    "boutiques.json": BOUTIQUES,
    "container_config.yaml": MEDPERF,
}
WORDS = rb"""null [] {} {a:1} true -1 1e999 .nan ... 1j b'x' '\ud800' "\ud800" \ud83d \u0000 ' " ` \ $ ${x} # : ,
[ ] ( ) { } ../ / -r * /, lambda:0 *a, **k, = == [X] {a} <<: &a *a @ ! % > |""".split()
WORDS += [b"\x00", b"\xff", b"\x7f", b"\xc2\x85", b"\xe2\x80\xa8", b"\n", b"\t", b"- ", b"9" * 70, b"0x" + b"f" * 4000]


def mutated(data: st.DataObject, content: bytes) -> bytes:
    """The content with one to three places overwritten, or swapped with what stands elsewhere in it."""
    words = st.sampled_from([*WORDS, *content.split()]) | st.binary(max_size=2)
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(content)))
        stop = min(len(content), start + data.draw(st.integers(0, 12)))
        content = content[:start] + data.draw(words) + content[stop:]
    return content


def converted(name: str, files: "dict[str, bytes]") -> bool:
    """Whether a cube was made; where none was, it was told why, and nothing was left."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "model")
        root.mkdir()
        for file, content in files.items():
            (root / file).write_bytes(content)
        try:
            create.command(source=str(root / name))
        except CubeError as error:
            str(error).encode(errors="surrogateescape")
            assert {path.name for path in root.iterdir()} == files.keys()
            return False
        assert read_cube(str(root), strict=True)[1] == ()
        return True


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_mutated_can_be_converted(seed: str) -> None:
    name = seed.rpartition("/")[2]
    assert converted(name, {**BESIDE, name: SEEDS[seed]})


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_mutated_files_become_a_cube_or_one_of_our_errors(data: st.DataObject) -> None:
    seed = data.draw(st.sampled_from(sorted(SEEDS)))
    name = seed.rpartition("/")[2]
    files = {**BESIDE, name: SEEDS[seed]}
    other = {"cog.yaml": ["cog.yaml", "p.py", "p.py", "r.txt"], "MLproject": ["MLproject", "conda.yaml"]}
    changed = data.draw(st.sampled_from(other.get(name, [name])))
    converted(name, {**files, changed: mutated(data, files[changed])})


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["[X]", ""])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)
LITERALS = VALUES | st.binary(max_size=3) | st.complex_numbers() | st.tuples(SCALARS) | st.just(...)
TYPES = [
    "str",
    "int",
    "float",
    "bool",
    "Path",
    "list[int]",
    "Optional[float]",
    "Any",
    "'float'",
    "int | None",
    "Secret",
]


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(TYPES), st.sampled_from(["", "default=", "choices=", "ge=", "description=", "regex="]), LITERALS)
def test_any_value_in_a_predictor_becomes_a_cube_or_one_of_our_errors(kind: str, key: str, value: object) -> None:
    code = f"class P:\n  def predict(self, a: {kind} = Input({key}{value!a}), b={value!a}): pass\n"
    converted("cog.yaml", {**BESIDE, "cog.yaml": PLAIN, "p.py": code.encode()})


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_value_in_any_place_becomes_a_cube_or_one_of_our_errors(data: st.DataObject) -> None:
    seed = data.draw(st.sampled_from([each for each in SEEDS if each != "Dockerfile"]))
    name = seed.rpartition("/")[2]
    text = SEEDS[seed].decode().replace(r"\ud83d\ude00", "")
    document = Document.from_yaml(text, name)
    *above, last = data.draw(st.sampled_from([key for key in document.values if key]))
    inner = document.data
    for part in above:
        inner = inner[part]
    inner[last] = data.draw(VALUES)
    converted(name, {**BESIDE, name: json.dumps(document.data).encode()})
