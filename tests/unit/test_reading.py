"""From files and overrides to a Cube."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlcube.binding import bind
from mlcube.cube import Cube
from mlcube.errors import CubeError, InvalidFile, MissingInput, Problem
from mlcube.needs import Needs
from mlcube.reading import locate, read_cube, read_layers

IMAGE = "docker: {image: owner/model:1}\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "cube").mkdir()
    return tmp_path / "cube"


def written(root: Path, text: str, *overrides: str, strict: bool = False) -> tuple[Cube, tuple[Problem, ...]]:
    (root / "mlcube.yaml").write_text(text)
    return read_cube(str(root), overrides=overrides, strict=strict)


def told(root: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(CubeError) as caught:
        written(root, text, *overrides)
    return [problem.message for problem in caught.value.problems]


def test_a_cube_is_a_folder_or_a_file(root: Path) -> None:
    written(root, IMAGE + "tasks: {t: }\n")
    (root / "other.yaml").write_text("name: other\n" + IMAGE + "tasks: {t: }\n")
    assert read_cube(str(root))[0].name == "cube"
    assert read_cube(str(root / "other.yaml"))[0].name == "other"
    assert read_cube(str(root / "other.yaml"))[0].root == str(root)


def test_a_folder_without_a_cube_is_told(root: Path) -> None:
    with pytest.raises(MissingInput, match=r"there is no `mlcube.yaml` in"):
        locate(str(root))
    with pytest.raises(MissingInput, match="there is no cube at"):
        locate(str(root / "nothing"))


def test_mlcube_yaml_is_preferred_to_medperfs_file(root: Path) -> None:
    (root / "container_config.yaml").write_text("container_type: DockerImage\nimage: a/b:1\ntasks: {t: }\n")
    assert locate(str(root)).endswith("container_config.yaml")
    (root / "mlcube.yaml").write_text("")
    assert locate(str(root)).endswith("mlcube.yaml")


def test_unknown_keys_are_forgiven_when_running_and_errors_when_checking(root: Path) -> None:
    text = "nmae: x\n" + IMAGE + "tasks: {t: }\n"
    assert [problem.severity for problem in written(root, text)[1]] == ["warning"]
    with pytest.raises(InvalidFile):
        written(root, text, strict=True)


def test_what_opens_the_host_is_an_error_of_a_check_only(root: Path) -> None:
    text = "docker: {image: owner/model:1, cpu_args: --privileged}\ntasks: {t: }\n"
    assert written(root, text)[0].cpu_needs.refused != ()
    with pytest.raises(InvalidFile, match="the whole host"):
        written(root, text, strict=True)
    assert read_cube(str(root), trust=True)[0].cpu_needs.refused == ()


def test_every_problem_of_a_file_is_told_in_the_order_of_its_lines(root: Path) -> None:
    text = IMAGE.replace("model", "Model") + 'tasks:\n  a: 3\n  b:\n    entrypoint: "\'"\n    resources: {memory: x}\n'
    with pytest.raises(InvalidFile) as caught:
        written(root, text)
    assert [problem.position.line for problem in caught.value.problems if problem.position] == [1, 3, 5, 6]


@pytest.mark.parametrize(
    "override",
    [
        "dockr.image=x",
        "docker.imgae=x",
        "k8s.x=y",
        "nmae=x",
        "tasks.tt=",
        "tasks.t.paramters=",
        "tasks.t.entrypoint[1]=x",
        "tasks.t.parameters.inptus.x=",
        "tasks.t.parameters.inputs.y=",
        "tasks.t.parameters.outputs.x.default=y",
    ],
)
def test_a_misspelt_override_never_runs_with_defaults(root: Path, override: str) -> None:
    text = IMAGE + "tasks: {t: {entrypoint: [x], parameters: {inputs: {x: }}}}\n"
    assert len(told(root, text, override)) == 1


def test_what_an_override_says_is_traced_to_it(root: Path) -> None:
    cube, _ = written(root, IMAGE + "tasks: {t: }\n", "docker.image=a/b:2", "name=given")
    assert (cube.name, cube.image and cube.image.reference) == ("given", "a/b:2")
    assert str(cube.position("docker", "image")) == "-P docker.image=a/b:2"
    assert str(cube.position("tasks", "t")) == f"{root}/mlcube.yaml:2:12"


def test_the_digest_follows_content_and_overrides_but_no_place(root: Path, tmp_path: Path) -> None:
    text = IMAGE + "tasks: {t: {parameters: {inputs: {x: '${workspace}/x'}}}}\n"
    first = written(root, text)[0].digest
    other = tmp_path / "other"
    other.mkdir()
    assert written(other, f"# a comment\n{text}")[0].digest == first
    assert written(root, text, "name=x")[0].digest != first


def test_the_digest_follows_the_order_of_parameters_and_of_nothing_else(root: Path) -> None:
    def digest(text: str) -> str:
        return written(root, text)[0].digest

    inputs = "a: {type: file}, b: {type: file}"
    first = digest(f"docker: {{image: x}}\ntasks: {{t: {{parameters: {{inputs: {{{inputs}}}}}}}}}")
    assert first == digest(f"tasks: {{t: {{parameters: {{inputs: {{{inputs}}}}}}}}}\ndocker: {{image: x}}")
    turned = "b: {type: file}, a: {type: file}"
    assert first != digest(f"docker: {{image: x}}\ntasks: {{t: {{parameters: {{inputs: {{{turned}}}}}}}}}")


class TestPrecedence:
    """Raw arguments, then `platform:`, then the task's `resources`, then `-P`, then flags."""

    TEXT = """\
docker: {image: owner/model:1, cpu_args: -m 1g --shm-size 1g --network none -e A=raw, env_args: {A: args, B: args}}
platform: {accelerator_count: 1, need_internet_access: false}
tasks:
  t: {resources: {gpus: 0, memory: 2GiB}, network: default, environment: {A: task}}
  u: {}
"""

    def test_each_layer_is_stronger_than_the_one_before(self, root: Path) -> None:
        cube, _ = written(root, self.TEXT)
        invocation = bind(cube, "t", run_id="r", scratch="/s")
        assert (invocation.resources.gpus, invocation.resources.memory_bytes) == (None, 2 << 30)
        assert (invocation.resources.shared_memory_bytes, invocation.network) == (1 << 30, "default")
        assert {key: str(value) for key, value in invocation.environment.items() if key in "AB"} == {
            "A": "task",
            "B": "args",
        }

    def test_what_the_platform_section_says_holds_for_tasks_that_say_nothing(self, root: Path) -> None:
        cube, _ = written(root, self.TEXT)
        invocation = bind(cube, "u", run_id="r", scratch="/s")
        assert (invocation.resources.gpus, invocation.network) == (1, "none")

    def test_overrides_are_stronger_than_the_file_and_flags_than_both(self, root: Path) -> None:
        cube, _ = written(root, self.TEXT, "tasks.t.resources.memory=3GiB")
        assert bind(cube, "t", run_id="r", scratch="/s").resources.memory_bytes == 3 << 30
        needs = Needs(memory="4g", network="none")
        invocation = bind(cube, "t", needs=needs, run_id="r", scratch="/s")
        assert (invocation.resources.memory_bytes, invocation.network) == (4 << 30, "none")


def test_layers_are_read_before_anything_is_understood(root: Path) -> None:
    (root / "mlcube.yaml").write_text("anything: {a: '${workspace}'}\n")
    assert read_layers(str(root), workspace="/w", overrides=("anything.b=1",)).merged() == {
        "anything": {"a": "/w", "b": 1}
    }


def test_reading_imports_nothing_heavy(root: Path) -> None:
    written(root, IMAGE + "tasks: {t: {parameters: {inputs: {x: x}, outputs: {y: y/}}}}\n")
    heavy = {
        "difflib",
        "omegaconf",
        "pathlib",
        "tempfile",
        "logging",
        "asyncio",
        "subprocess",
        "importlib.metadata",
        "urllib",
    }
    program = f"import sys; from mlcube.reading import read_cube; read_cube({str(root)!r}); print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    bare = subprocess.run(
        [sys.executable, "-c", "import sys, msgspec; print(*sys.modules)"], capture_output=True, text=True
    )
    found = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert heavy & (set(found.stdout.split()) - set(bare.stdout.split())) == set()


def test_a_cube_of_300_tasks_is_read(root: Path) -> None:
    parameters = "".join(f"        p{number}: {{type: file, default: data/{number}.csv}}\n" for number in range(10))
    tasks = "".join(f"  task{number}:\n    parameters:\n      inputs:\n{parameters}" for number in range(300))
    cube, _ = written(root, f"{IMAGE}tasks:\n{tasks}", strict=True)
    assert (len(cube.tasks), len(cube.tasks["task299"].inputs)) == (300, 10)


@pytest.mark.parametrize("limit", ["minimum", "maximum"])
def test_a_limit_of_a_text_that_has_a_default_is_told(limit: str, root: Path) -> None:
    inputs = f"{{x: {{type: string, default: a, {limit}: 1}}}}"
    text = f"{IMAGE}tasks: {{t: {{parameters: {{inputs: {inputs}}}}}}}\n"
    assert told(root, text) == [f"`{limit}` is for numbers; `x` is a string"]
