"""One task bound to arguments, a workspace and needs."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlcube.binding import bind, check_arguments, generated_image
from mlcube.cube import PythonEnvironment
from mlcube.errors import InvalidFile, MissingInput, Refused, UsageError
from mlcube.invocation import Invocation
from mlcube.needs import Needs
from mlcube.reading import read_cube

TEXT = """\
docker: {image: owner/model:1}
tasks:
  prepare:
    parameters:
      inputs: {raw: {type: file, default: raw.csv}}
      outputs: {data: data/, table: {type: file, default: made/t.csv}}
  train:
    parameters:
      inputs: {data: data/, table: made/t.csv, one: {default: data/one.csv, optional: true}}
      outputs: {model: model/}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "cube"
    (root / "workspace").mkdir(parents=True)
    (root / "mlcube.yaml").write_text(TEXT)
    (root / "workspace" / "raw.csv").write_text("x")
    return root


def bound(root: Path, task: str, *overrides: str, **options: Any) -> Invocation:
    cube, _ = read_cube(str(root), overrides=overrides)
    return bind(cube, task, run_id="run", scratch="/scratch", **options)


def mounts(invocation: Invocation) -> list[tuple[str, str, str]]:
    return [(mount.source, mount.target, mount.access) for mount in invocation.mounts]


def test_arguments_must_be_parameters_of_one_of_the_tasks(root: Path) -> None:
    cube, _ = read_cube(str(root))
    check_arguments(cube, ["prepare", "train"], {"raw": "x", "model": "y"})
    with pytest.raises(UsageError, match=r"task `prepare` has no parameter `rwa`") as caught:
        check_arguments(cube, ["prepare"], {"rwa": "x"})
    assert caught.value.hint == "did you mean `raw`?"
    with pytest.raises(UsageError, match="tasks `prepare`, `train` have"):
        check_arguments(cube, ["prepare", "train"], {"nothing": "x"})
    with pytest.raises(UsageError, match="the cube has no task `trian`"):
        check_arguments(cube, ["trian"], {})


def test_what_tasks_before_will_have_made_counts_as_there(root: Path) -> None:
    before = bound(root, "prepare")
    made = {output.path: output.type for output in before.outputs}
    home = str(root / "workspace")
    with pytest.raises(MissingInput, match="input `data` of task `train` is not there"):
        bound(root, "train")
    assert mounts(bound(root, "train", produced=made)) == [
        (f"{home}/data", "/mlcube_io0", "ro"),
        (f"{home}/made", "/mlcube_io1", "ro"),
        (f"{home}/model", "/mlcube_io2", "rw"),
    ]


def test_a_file_in_a_folder_that_a_task_before_makes_counts_as_there(root: Path) -> None:
    home = str(root / "workspace")
    invocation = bound(root, "train", produced={f"{home}/data": "directory", f"{home}/made": "directory"})
    assert [str(word) for word in invocation.arguments] == [
        "train",
        "--data=/mlcube_io0",
        "--table=/mlcube_io1/t.csv",
        "--one=/mlcube_io0/one.csv",
        "--model=/mlcube_io2",
    ]


def test_an_output_that_a_task_before_makes_as_something_else_is_refused(root: Path) -> None:
    with pytest.raises(UsageError, match=r"output `data` is to be a directory, but .* is a file"):
        bound(root, "prepare", produced={str(root / "workspace" / "data"): "file"})


def test_an_output_may_be_made_again(root: Path) -> None:
    assert bound(root, "prepare", produced={str(root / "workspace" / "data"): "directory"}).outputs[0].name == "data"


def test_a_link_that_leads_nowhere_is_no_input(root: Path) -> None:
    (root / "workspace" / "raw.csv").unlink()
    (root / "workspace" / "raw.csv").symlink_to("nothing")
    with pytest.raises(MissingInput):
        bound(root, "prepare")


def test_a_folder_that_a_link_leads_to_is_never_mounted_for_a_file_in_it(root: Path, tmp_path: Path) -> None:
    """A cube's own workspace may hold links to anywhere."""
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "x").write_text("x")
    (root / "workspace" / "link").symlink_to(tmp_path / "private")
    home = str(root / "workspace")
    invocation = bound(root, "prepare", arguments={"raw": "link/x", "table": "link/t.csv"})
    assert mounts(invocation) == [
        (f"{home}/link/x", "/mlcube_io0/x", "ro"),
        (f"{home}/data", "/mlcube_io1", "rw"),
        (f"{home}/link/.t.csv.cube", "/mlcube_io2", "rw"),
    ]


def test_an_argument_stands_for_the_default_in_every_task(root: Path) -> None:
    (root / "workspace" / "elsewhere").mkdir()
    with pytest.raises(MissingInput) as caught:
        bound(root, "train", arguments={"data": "other/"})
    assert caught.value.hint == "run task `prepare` first, which makes it"


def test_the_digest_is_the_same_in_another_workspace_and_for_another_run(root: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "raw.csv").write_text("another content")
    first = bound(root, "prepare")
    cube, _ = read_cube(str(root))
    second = bind(cube, "prepare", workspace=str(tmp_path / "other"), run_id="another", scratch="/elsewhere")
    assert first.digest == second.digest


@pytest.mark.parametrize(
    "options",
    [
        {"arguments": {"table": "t2.csv"}},
        {"needs": Needs(memory="1g")},
        {"needs": Needs(network="none")},
        {"needs": Needs(user="image")},
        {"needs": Needs(mount="rw")},
        {"needs": Needs(gpus="all")},
    ],
)
def test_the_digest_tells_apart_what_changes_the_task(root: Path, options: dict[str, Any]) -> None:
    assert bound(root, "prepare", **options).digest != bound(root, "prepare").digest


def test_the_digest_tells_how_many_nodes_and_one_is_what_nothing_means(root: Path) -> None:
    nodes = "tasks.prepare.resources.nodes"
    plain, one, two, three = (bound(root, "prepare", *said) for said in ((), *((f"{nodes}={n}",) for n in (1, 2, 3))))
    assert one.digest == plain.digest
    assert len({plain.digest, two.digest, three.digest}) == 3


def test_the_digest_follows_image_environment_and_entrypoint(root: Path) -> None:
    digests = {
        bound(root, "prepare", override).digest
        for override in ("name=cube", "docker.image=a/b:2", "docker.env_args={A: 1}", "tasks.prepare.entrypoint=x")
    }
    assert len(digests) == 4


def test_what_opens_the_host_is_refused_with_every_reason(root: Path) -> None:
    with pytest.raises(Refused) as caught:
        bound(root, "prepare", "docker.cpu_args=--privileged --pid=host", "tasks.prepare.network=host")
    assert len(caught.value.problems) == 3


def test_an_output_without_a_type_is_told_where_it_stands(root: Path) -> None:
    with pytest.raises(InvalidFile, match="nothing says whether output `model`") as caught:
        bound(root, "train", "tasks.train.parameters.outputs.model=model", arguments={"data": ".", "table": "raw.csv"})
    assert str(caught.value.problems[0].position).startswith("-P tasks.train")


def test_a_variable_of_the_environment_is_no_way_into_a_cube(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "raw.csv")
    override = "tasks.prepare.parameters.inputs.raw.default=$SECRET_TOKEN"
    with pytest.raises(InvalidFile, match=r"`\$SECRET_TOKEN` in the path of `raw` cannot be read"):
        bound(root, "prepare", override)
    assert bound(root, "prepare", arguments={"raw": "$SECRET_TOKEN"}).parameters[0].path.endswith("/raw.csv")


def test_generated_images_are_named_by_their_content() -> None:
    def name(**changes: str) -> str:
        python = PythonEnvironment(version=">=3.10", source="/s", requirements="numpy\n")
        python = msgspec.structs.replace(python, **changes)
        return generated_image("My Cube!", python, "code")

    assert name().startswith("cube/my-cube:")
    assert name(source="/elsewhere") == name()
    assert len({name(), name(requirements="pandas\n"), name(version=">=3.11"), name(image="python:3.12")}) == 4


def test_environment_of_a_task(root: Path) -> None:
    environment = bound(root, "prepare", "tasks.prepare.environment={CUBE_NAME: mine, A: 'x y'}").environment
    assert {name: str(word) for name, word in environment.items()} == {
        "A": "x y",
        "CUBE_NAME": "cube",
        "CUBE_TASK": "prepare",
        "CUBE_INPUT_RAW": "/mlcube_io0/raw.csv",
        "CUBE_OUTPUT_DATA": "/mlcube_io1",
        "CUBE_OUTPUT_TABLE": "/mlcube_io2/t.csv",
    }


def test_binding_writes_nothing(root: Path) -> None:
    before = sorted(path.name for path in root.rglob("*"))
    bound(root, "prepare", workspace=str(root / "new"))
    assert sorted(path.name for path in root.rglob("*")) == before
