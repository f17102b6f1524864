"""`cube create --from`: what another tool knows of a model becomes a cube, and the cube runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcube.importing.shell_text import filled

COG = """\
build:
  python_version: "{version}"
  gpu: false
image: example.org/someone/Greeter
predict: predict.py:Predictor
concurrency: {{max: 4}}
"""
PREDICTOR = """\
from typing import List, Optional

from cog import BasePredictor, Input, Path


class Predictor(BasePredictor):
    def setup(self) -> None:
        self.word = open("word.txt").read().strip()

    def predict(
        self,
        text: Path = Input(description="who is greeted"),
        times: int = Input(default=2, ge=1, le=5),
        scale: float = 1.5,
        loud: bool = Input(default=False),
        mood: str = Input(choices=["calm", "glad"], default="calm"),
        tag: Optional[str] = Input(default=None),
        numbers: List[int] = Input(default=[1, 2]),
    ) -> Path:
        said = f"{self.word} {open(text).read().strip()} {times} {scale} {loud} {mood} {tag} {sum(numbers)}"
        Path("/dev/null")
        import tempfile
        target = Path(tempfile.mkdtemp()) / "greeting.txt"
        target.write_text(said.upper() if loud else said)
        return target
"""
VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"


def cube(*words: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-m", "mlcube", *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=600, cwd=cwd)


def lay(folder: Path, files: "dict[str, str]") -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def made(folder: Path, name: str) -> "subprocess.CompletedProcess[str]":
    done = cube("create", "--from", name, cwd=folder)
    assert done.returncode == 0, done.stderr
    checked = cube("check", cwd=folder)
    assert checked.returncode == 0, checked.stderr
    return done


@pytest.mark.engine("local")
def test_a_predictor_of_cog_predicts_without_cog(tmp_path: Path) -> None:
    folder = lay(
        tmp_path / "greeter", {"cog.yaml": COG.format(version=VERSION), "predict.py": PREDICTOR, "word.txt": "hello\n"}
    )
    done = made(folder, "cog.yaml")
    assert "note: `concurrency` was left out" in done.stderr
    (folder / "workspace").mkdir()
    (folder / "workspace" / "text").write_text("Zoë\n")
    run = cube("run", "--task=predict", "--platform=local", "times=3", "loud=true", "numbers=[4, 5]", cwd=folder)
    assert run.returncode == 0, run.stderr
    output = folder / "workspace" / "output"
    assert json.loads((output / "output.json").read_text()) == "greeting.txt"
    assert (output / "greeting.txt").read_text() == "HELLO ZOË 3 1.5 TRUE CALM NONE 9"
    refused = cube("run", "--task=predict", "--platform=local", "times=9", cwd=folder)
    assert refused.returncode == 2


@pytest.mark.engine("local")
def test_arguments_that_only_their_place_tells_reach_the_predictor(tmp_path: Path) -> None:
    code = "class P:\n  def predict(self, a: int = 1, b=2, /, c: 'int' = 3, *, d=-4.5): return [a, b, c, d]\n"
    folder = lay(
        tmp_path / "model", {"cog.yaml": f"build: {{python_version: '{VERSION}'}}\npredict: p.py:P\n", "p.py": code}
    )
    made(folder, "cog.yaml")
    run = cube("run", "--task=predict", "--platform=local", "b=7", "d=8.5", cwd=folder)
    assert run.returncode == 0, run.stderr
    assert json.loads((folder / "workspace" / "output" / "output.json").read_text()) == [1, 7, 3, 8.5]


@pytest.mark.engine("docker")
def test_a_cog_with_commands_becomes_an_image(tmp_path: Path, base_image: str) -> None:
    cog = COG.format(version="3.11") + "\n"
    cog = cog.replace("  gpu: false\n", "  run:\n    - echo built > /built\n    - command: test -e /built\n")
    folder = lay(tmp_path / "greeter", {"cog.yaml": cog, "predict.py": PREDICTOR, "word.txt": "hello\n"})
    made(folder, "cog.yaml")
    dockerfile = folder / "Dockerfile.cube"
    assert dockerfile.read_text().startswith("FROM python:3.11-slim\nRUN echo built")
    dockerfile.write_text(dockerfile.read_text().replace("python:3.11-slim", base_image))
    (folder / "workspace").mkdir()
    (folder / "workspace" / "text").write_text("Zoë\n")
    run = cube("run", "--task=predict", "--platform=docker", "tag=a b", cwd=folder)
    assert run.returncode == 0, run.stderr
    said = (folder / "workspace" / "output" / "greeting.txt").read_text()
    assert said == "hello Zoë 2 1.5 False calm a b 3"


MLPROJECT = """\
name: adder
python_env: python_env.yaml
entry_points:
  main:
    parameters:
      a: {type: float, default: 0.5}
      words: {type: string, default: two words}
      table: path
      b: float
    command: "python main.py --a {a} --b={b} '{words}' \\"<{words}>\\" {table} && echo done {a}"
  plain:
    command: python main.py only these
"""
MAIN = "import sys; print(sys.argv[1:])\n"


@pytest.mark.engine("local")
def test_an_mlproject_runs_with_values_that_a_shell_would_read(tmp_path: Path) -> None:
    folder = lay(
        tmp_path / "adder",
        {
            "MLproject": MLPROJECT, "main.py": MAIN, "requirements.txt": "# nothing\n",
            "python_env.yaml": f"python: '{VERSION}'\nbuild_dependencies: [pip]\ndependencies: [-r requirements.txt]\n",
        },
    )  # fmt: skip
    made(folder, "MLproject")
    (folder / "workspace").mkdir()
    (folder / "workspace" / "table").write_text("1,2\n")
    hostile = "$(touch broken); 'x' \"y\" `z`"
    run = cube("run", "--task=main", "--platform=local", "b=2", f"words={hostile}", cwd=folder)
    assert run.returncode == 0, run.stderr
    words, last = run.stdout.splitlines()
    assert eval(words)[:4] == ["--a", "0.5", "--b=2.0", hostile]
    assert eval(words)[4] == f"<{hostile}>"
    assert eval(words)[5].endswith("/table")
    assert last == "done 0.5"
    assert not list(tmp_path.rglob("broken"))
    run = cube("run", "--task=plain", "--platform=local", cwd=folder)
    assert run.stdout == "['only', 'these']\n"


@pytest.mark.engine("local")
def test_an_mlproject_of_conda_gets_its_packages_of_pip(tmp_path: Path) -> None:
    conda = f"name: x\nchannels: [defaults]\ndependencies:\n  - python={VERSION}\n  - pip\n  - six=1.16.0\n"
    project = "conda_env: conda.yaml\nentry_points: {main: {command: python -c 'import six; print(six.__version__)'}}\n"
    folder = lay(tmp_path / "six", {"MLproject": project, "conda.yaml": conda + "  - pip: [idna>=3]\n"})
    done = made(folder, "MLproject")
    assert "conda's packages are asked of pip" in done.stderr
    run = cube("run", "--platform=local", cwd=folder)
    assert (run.returncode, run.stdout) == (0, "1.16.0\n"), run.stderr


@pytest.mark.engine("docker")
@pytest.mark.parametrize(
    "runs",
    [
        'ENTRYPOINT ["python3", "/main.py"]\nCMD ["one", "two words"]',
        'CMD python3 /main.py one "two words"',
        'ENTRYPOINT exec python3 /main.py one \\\n  "two words"',
    ],
)
def test_a_dockerfile_runs_what_its_image_runs(tmp_path: Path, base_image: str, runs: str) -> None:
    dockerfile = f"# what\nFROM {base_image} AS first\nFROM first\nCOPY main.py /main.py\nEXPOSE 80\n{runs}\n"
    folder = lay(tmp_path / "Some Model", {"Dockerfile": dockerfile, "main.py": MAIN})
    done = made(folder, "Dockerfile")
    assert "`EXPOSE` has no effect" in done.stderr
    run = cube("run", "--platform=docker", cwd=folder)
    assert (run.returncode, run.stdout) == (0, "['one', 'two words']\n"), run.stderr


BOUTIQUES = {
    "name": "Count lines",
    "tool-version": "1.2",
    "description": "Counts lines of a file.",
    "schema-version": "0.5",
    "command-line": "python3 -c 'import sys; print(sys.argv[1:])' [INPUT] [LOUD] [TIMES] [LABEL] > [NAME].txt",
    "inputs": [
        {"id": "input_file", "name": "in", "type": "File", "value-key": "[INPUT]"},
        {"id": "loud", "name": "l", "type": "Flag", "value-key": "[LOUD]", "optional": True,
         "command-line-flag": "--loud"},
        {"id": "times", "name": "t", "type": "Number", "integer": True, "value-key": "[TIMES]", "optional": True,
         "command-line-flag": "-n", "command-line-flag-separator": "=", "minimum": 1},
        {"id": "label", "name": "b", "type": "String", "value-key": "[LABEL]", "command-line-flag": "--label",
         "default-value": "a 'b'"},
        {"id": "name", "name": "n", "type": "String", "value-key": "[NAME]", "default-value": "result one"},
    ],
    "output-files": [{"id": "counted", "name": "c", "path-template": "[NAME].txt"}],
    "tests": [{"name": "t"}],
}  # fmt: skip


@pytest.mark.engine("docker")
def test_a_descriptor_of_boutiques_runs(tmp_path: Path, base_image: str) -> None:
    image = {"type": "docker", "image": base_image, "index": "index.docker.io"}
    folder = lay(tmp_path / "counter", {"tool.json": json.dumps({**BOUTIQUES, "container-image": image})})
    done = made(folder, "tool.json")
    assert "note: `tests` was left out" in done.stderr
    (folder / "workspace").mkdir()
    (folder / "workspace" / "input_file").write_text("1\n")
    run = cube("run", "--platform=docker", "times=3", "loud=true", cwd=folder)
    assert run.returncode == 0, run.stderr
    words = eval((folder / "workspace" / "counted").read_text())
    assert words == ["/mlcube_io0/input_file", "--loud", "-n=3", "--label", "a 'b'"]
    run = cube("run", "--platform=docker", "label=x", cwd=folder)
    assert run.returncode == 0, run.stderr
    words = eval((folder / "workspace" / "counted").read_text())
    assert words == ["/mlcube_io0/input_file", "--label", "x"]


@pytest.mark.engine("docker")
def test_a_container_file_of_medperf_runs_as_a_cube(tmp_path: Path, base_image: str) -> None:
    config = f"""\
container_type: DockerImage
image: {base_image}
tasks:
  infer:
    input_volumes:
      data: {{mount_path: /mlcommons/volumes/data, type: directory}}
    output_volumes:
      predictions: {{mount_path: /mlcommons/volumes/predictions, type: directory}}
    run_args:
      command: [sh, -c, "cat /mlcommons/volumes/data/d > /mlcommons/volumes/predictions/p"]
"""
    folder = lay(tmp_path / "medperf", {"container_config.yaml": config})
    made(folder, "container_config.yaml")
    (folder / "workspace" / "data").mkdir(parents=True)
    (folder / "workspace" / "data" / "d").write_text("it's here")
    run = cube("run", "--mlcube=mlcube.yaml", "--platform=docker", cwd=folder)
    assert run.returncode == 0, run.stderr
    assert (folder / "workspace" / "predictions" / "p").read_text() == "it's here"


@pytest.mark.parametrize(
    ("files", "words", "said"),
    [
        ({}, ["--from", "cog.yaml"], "there is no file `cog.yaml`"),
        ({"notes.txt": "x"}, ["--from", "notes.txt"], "`notes.txt` is of no kind that is known here"),
        ({"cog.yaml": "build: {}\n"}, ["--from", "cog.yaml"], "names no predictor"),
        ({"cog.yaml": "predict: gone.py:P\n"}, ["--from", "cog.yaml"], "cog.yaml:1:10: error: `predict` names no code"),
        ({"cog.yaml": "predict: ../up.py:P\n"}, ["--from", "cog.yaml"], "`../up.py` lies outside"),
        ({"MLproject": "entry_points: {main: {command: 'x {y}'}}\n"}, ["--from", "MLproject"], "names `{y}`, which"),
        ({"MLproject": "entry_points: []\n"}, ["--from", "MLproject"], "MLproject:1:15: error: `entry_points` must be"),
        ({"tool.json": '{"command-line": "x"}'}, ["--from", "tool.json"], "names no container image"),
        ({"Dockerfile": "RUN x\n"}, ["--from", "Dockerfile"], "this is no Dockerfile"),
        ({"Dockerfile": "FROM x\n", "mlcube.yaml": "mine"}, ["--from", "Dockerfile"], "mlcube.yaml` is there already"),
        ({"Dockerfile": "FROM x\n", "cog.yaml": "a: 1"}, ["--from", "."], "`.` holds several files of other tools"),
        ({"Dockerfile": "FROM x\n"}, ["name", "--from", "Dockerfile"], "takes no name"),
        ({}, [], "the new cube needs a name"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_told_and_nothing_is_written(
    tmp_path: Path, files: "dict[str, str]", words: "list[str]", said: str
) -> None:
    folder = lay(tmp_path / "model", files)
    done = cube("create", *words, cwd=folder)
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name: path.read_text() for path in folder.iterdir()} == files


@pytest.mark.parametrize("words", [("--from", "model/cog.yaml"), ("new",), ("deep/new", "--template", "dockerfile")])
def test_what_cannot_be_written_whole_leaves_neither_files_nor_folders(
    words: "tuple[str, ...]", tmp_path: Path
) -> None:
    files = {"cog.yaml": COG.format(version=VERSION), "predict.py": PREDICTOR}
    lay(tmp_path / "model", files)
    limit = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (400, 400))\n"
        "from mlcube.cli import main\n"
        "main()\n"
    )
    argv = [sys.executable, "-B", "-c", limit, "create", *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=600, cwd=tmp_path)
    assert done.returncode != 0
    assert "cannot be written: file too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if "home" not in path.parts} == {
        "model", *(f"model/{name}" for name in files)
    }  # fmt: skip


@pytest.mark.parametrize("there", [True, False])
def test_nothing_is_written_where_a_link_leads(there: bool, tmp_path: Path) -> None:
    folder = lay(tmp_path / "model", {"cog.yaml": COG.format(version=VERSION), "predict.py": PREDICTOR})
    outside = tmp_path / "outside"
    if there:
        outside.mkdir()
    (folder / "cube_cog").symlink_to(outside)
    done = cube("create", "--from", "cog.yaml", cwd=folder)
    assert done.returncode == 2
    assert f"error: `{folder / 'cube_cog'}` is a link, and new files belong there" in done.stderr
    assert "hint: move it away" in done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["cog.yaml", "cube_cog", "predict.py"]
    assert not there or not list(outside.iterdir())


def test_a_folder_is_told_as_the_place_of_the_cube(tmp_path: Path) -> None:
    lay(tmp_path / "model", {"Dockerfile": "FROM x\nCMD true\n"})
    done = cube("create", "--from", "model", cwd=tmp_path)
    assert done.stdout == "created model/mlcube.yaml\n"
    assert "cube run --mlcube model --task run" in done.stderr


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40))
def test_a_value_is_one_word_wherever_its_place_stands(value: str) -> None:
    places = {"{v}": lambda quoted: "${V}" if quoted else '"${V}"'}
    script = filled("""printf '%s\\0' {v} x{v}y "a {v} b" '{v}' """, places)
    done = subprocess.run(["sh", "-c", script], env={"V": value}, capture_output=True, check=True)
    parts = done.stdout.decode(errors="surrogateescape").split("\0")[:-1]
    assert parts == [value, f"x{value}y", f"a {value} b", value]
