"""What Apptainer is told, character for character; see the files in `singularity/`."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from mlcube.cube import PythonEnvironment, Recipe, Resources, Secret
from mlcube.errors import Refused
from mlcube.invocation import Invocation, Mount, Word
from mlcube.plan import Command, Plan
from mlcube_runners.singularity import SingularityRunner

Golden = Callable[..., None]
ENGINE: dict[str, Any] = {
    "user": 1000,
    "group": 1000,
    "cache": "/home/ada/.cache/mlcube",
    "memory_kib": 32 << 20,
    "environment": {"PATH": "/usr/bin:/bin", "HOME": "/home/ada"},
    "executable": "apptainer",
    "version": "apptainer version 1.4.5",
    "flag": {"mount": "yes", "no-eval": "yes"},
    "works": ["overlay", "network", "sif"],
    "problem": {"memory": "cannot use cgroups"},
}
HOST: dict[str, Any] = {
    "singularity": ENGINE,
    "image_sources": {"builders": [], "spython": None},
    "devices": {"nvidia": [], "rocm": 0},
}
GPUS = {"nvidia": [{"index": "0", "uuid": "GPU-a"}, {"index": "1", "uuid": "GPU-b"}], "rocm": 0}


def host(**changes: Any) -> dict[str, Any]:
    sections: dict[str, Any] = {key: changes.pop(key) for key in ("image_sources", "devices") if key in changes}
    return {**HOST, **sections, "singularity": {**ENGINE, **changes}}


def hello(**changes: Any) -> Invocation:
    invocation = Invocation(
        cube="hello_world",
        task="hello",
        run_id="20250102-030405-abcd",
        workspace="/home/ada/hello/workspace",
        root="/home/ada/hello",
        scratch="/home/ada/.local/state/mlcube/runs/20250102-030405-abcd/scratch",
        image="mlcommons/hello_world:0.0.1",
        arguments=(Word("hello"), Word("--name=", "/mlcube_io0/alice.txt")),
        mounts=(Mount("/home/ada/hello/workspace/names", "/mlcube_io0"),),
        environment={"CUBE_NAME": Word("hello_world")},
    )
    return msgspec.structs.replace(invocation, **changes)


RECIPE = Recipe(context="/home/ada/hello", file="/home/ada/hello/Dockerfile")
PYTHON = PythonEnvironment(version=">=3.10,<3.13", requirements="numpy>=2\n", source="/home/ada/digits/src")


def test_a_simple_task(golden: Golden) -> None:
    runner = SingularityRunner()
    golden("singularity/simple.txt", prepare=runner.prepare(hello(), HOST), run=runner.run(hello(), HOST))


def test_a_task_with_every_need_and_hostile_words(golden: Golden) -> None:
    needy = hello(
        entrypoint=("/bin/sh", "-c", 'echo "$@"', "--"),
        arguments=(Word("--a=$(id) 'b'"), Word(""), Word("ü\n%s")),
        mounts=(Mount('/data/a,b "c":d', "/mlcube_io0"), Mount("/data/new\nline", "/out put", "rw")),
        environment={"EMPTY": Word(""), "LINES": Word("a\nb"), "QUOTE": Word("it's")},
        directory="/work dir",
        resources=Resources(gpus=("1",), cpus=2.5, cpu_set="0-3,7", memory_bytes=4 << 30, shared_memory_bytes=2 << 30),
        network="none",
        secrets=(Secret(name="TOKEN"), Secret(name="KEY", mount="/run/key")),
        raw_arguments={"singularity": ("--fakeroot",), "docker": ("--init",)},
    )
    runner = SingularityRunner(executable="/opt/apptainer", arguments=("--userns",), cache="/project/images")
    where = host(
        executable="/opt/apptainer", works=["cpu_set", "cpus", "memory", "network", "overlay", "sif"], devices=GPUS
    )
    golden("singularity/needs.txt", run=runner.run(needy, where))


def test_where_images_come_from(golden: Golden) -> None:
    runner = SingularityRunner()
    docker = host(image_sources={"builders": ["docker"], "spython": None})
    spython = host(image_sources={"builders": [], "spython": "/usr/bin/python3"})
    golden(
        "singularity/images.txt",
        **{
            "Docker here": runner.prepare(hello(), docker),
            "Docker here, and a Dockerfile": runner.prepare(hello(recipe=RECIPE), docker),
            "a Dockerfile, and only spython": runner.prepare(hello(recipe=RECIPE), spython),
            "a Dockerfile, and nothing": runner.prepare(hello(recipe=RECIPE, strategy="always"), HOST),
            "a SIF file": runner.prepare(hello(image=None, singularity={"image": "m.sif", "image_dir": "/sif"}), HOST),
            "a definition file": runner.prepare(hello(image=None, singularity={"build_file": "m.def"}), HOST),
            "an archive": runner.prepare(hello(image="model.tar.gz"), HOST),
        },
    )


def test_a_python_cube_needs_no_image_of_its_own(golden: Golden) -> None:
    invocation = hello(image="cube/digits:0123", python=PYTHON, source_digest="4567", directory="/mlcube/source")
    runner = SingularityRunner()
    golden("singularity/python.txt", prepare=runner.prepare(invocation, HOST), run=runner.run(invocation, HOST))


def test_what_cannot_be_mounted_is_unpacked(golden: Golden) -> None:
    runner, where = SingularityRunner(), host(works=["unpacked"])
    golden("singularity/unpacked.txt", prepare=runner.prepare(hello(), where), run=runner.run(hello(), where))


@pytest.mark.parametrize(
    ("changes", "where", "message"),
    [
        ({"image": None}, HOST, "the cube names no image"),
        ({"image": "a\nb"}, HOST, "`a\nb` is no image reference"),
        (
            {"user": "image"},
            HOST,
            "`user: image` cannot be honoured: the task runs as you, as all containers here do",
        ),
        (
            {"resources": Resources(memory_bytes=1 << 30)},
            HOST,
            "task `hello` has a memory limit, which cannot be enforced here: cannot use cgroups",
        ),
        (
            {"resources": Resources(cpus=2)},
            HOST,
            "task `hello` has a limit of processors, which cannot be enforced here",
        ),
        (
            {"resources": Resources(shared_memory_bytes=20 << 30)},
            HOST,
            "task `hello` asks for 20480 MiB of shared memory, and has 16384 here",
        ),
        ({"resources": Resources(gpus="all")}, HOST, "`resources.gpus` asks for all, and this machine shows none"),
        (
            {"resources": Resources(gpus=3)},
            host(devices=GPUS),
            "`resources.gpus` asks for 3, and this machine shows 0, 1",
        ),
        ({"network": "none"}, host(works=["sif"]), "`network: none` cannot be enforced here"),
        ({"network": "mine"}, HOST, "network `mine` needs an engine that knows it"),
        (
            {"singularity": {"run_args": "--fakeroot"}},
            HOST,
            "`singularity.run_args` of the cube: `--fakeroot` has no meaning that every platform shares",
        ),
    ],
)
def test_what_cannot_be_honoured_is_refused(changes: dict[str, Any], where: dict[str, Any], message: str) -> None:
    refusal = SingularityRunner().refuses(hello(**changes), where)
    assert refusal is not None
    assert refusal[0] == message
    assert refusal[1]
    with pytest.raises(Refused):
        SingularityRunner().run(hello(**changes), where)


def test_run_args_of_a_cube_that_also_has_a_docker_section_are_understood() -> None:
    section = {"run_args": "-C --net --network=none --nv --env A=b"}
    words = task_words(SingularityRunner().run(hello(singularity=section), HOST))
    assert "--network=none" in words
    assert "--nv" not in words, "there is no GPU here, and `--nv` alone asks for none"
    plan = SingularityRunner().run(hello(singularity=section), host(devices=GPUS))
    assert "--nv" in task_words(plan)
    assert task_of(plan).environment["APPTAINERENV_A"] == "b"
    assert task_of(plan).environment["APPTAINERENV_CUDA_VISIBLE_DEVICES"] == "GPU-a,GPU-b"


def test_a_secret_s_value_stands_in_no_argument() -> None:
    plan = SingularityRunner().run(hello(secrets=(Secret(name="TOKEN"),), directory="/"), HOST)
    assert (
        task_of(plan).argv[2].startswith('[ -z "${TOKEN+set}" ] || export APPTAINERENV_TOKEN="$TOKEN"; unset TOKEN\n')
    )
    assert task_of(plan).secrets == ("TOKEN",)


def test_singularity_ce_has_variables_of_its_own_name() -> None:
    plan = SingularityRunner().run(hello(), host(executable="singularity", version="singularity-ce version 4.1.0"))
    assert task_of(plan).environment["SINGULARITYENV_CUBE_NAME"] == "hello_world"


def test_nothing_of_the_caller_s_environment_changes_the_run() -> None:
    plan = SingularityRunner().run(hello(), HOST)
    assert task_of(plan).clean, "APPTAINER_BIND and its like would"


def task_of(plan: Plan) -> Command:
    assert isinstance(plan.task, Command)
    return plan.task


def task_words(plan: Plan) -> tuple[str, ...]:
    return task_of(plan).argv
