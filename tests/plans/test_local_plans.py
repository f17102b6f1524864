"""What the local runner would run, character for character."""

from collections.abc import Callable
from typing import Any

from mlcube.cube import PythonEnvironment, Resources, Secret
from mlcube.invocation import Invocation, Mount, Word
from mlcube.runner import Host
from mlcube_runners.local import LocalRunner

PYTHON = {
    "path": "/home/ada/.venv/bin/python",
    "base": "/usr/bin/python3.11",
    "version": "3.11.2",
    "implementation": "cpython",
    "platform": "linux-x86_64",
    "pip": "23.0.1",
    "ensurepip": True,
}
WITH_UV: Host = {
    "environments": "/home/ada/.cache/mlcube/environments",
    "pythons": [PYTHON],
    "uv": "/home/ada/.venv/bin/uv",
    "isolated_network": "/usr/bin/unshare",
    "visible_gpus": [{"index": "0", "uuid": "GPU-5f1c"}, {"index": "1", "uuid": "GPU-77aa"}],
}
WITHOUT_UV: Host = {**WITH_UV, "uv": None}
WITHOUT_PIP: Host = {**WITHOUT_UV, "pythons": [{**PYTHON, "pip": ""}]}


def invocation(**changes: Any) -> Invocation:
    usual: dict[str, Any] = {
        "cube": "digits",
        "task": "train",
        "run_id": "20250101-120000-train-1a2b",
        "workspace": "/home/ada/digits/workspace",
        "scratch": "/home/ada/.cache/mlcube/scratch/1a2b",
        "python": PythonEnvironment(
            version=">=3.10", requirements="numpy>=1.26,<3\nscikit-learn>=1.4,<2\n", source="/home/ada/digits/src"
        ),
        "entrypoint": ("python", "train.py"),
        "arguments": (
            Word("--data=", "/mlcube_io0"),
            Word("--epochs=25"),
            Word("--model=", "/mlcube_io1"),
        ),
        "mounts": (
            Mount("/home/ada/digits/workspace/data", "/mlcube_io0"),
            Mount("/home/ada/digits/workspace/model", "/mlcube_io1", "rw"),
        ),
        "environment": {
            "CUBE_NAME": Word("digits"),
            "CUBE_TASK": Word("train"),
            "CUBE_INPUT_DATA": Word("", "/mlcube_io0"),
            "CUBE_OUTPUT_MODEL": Word("", "/mlcube_io1"),
        },
        "directory": "/mlcube/source",
    }
    return Invocation(**(usual | changes))


HOSTILE = invocation(
    workspace="/w/a'; echo foo",
    python=PythonEnvironment(version="3.11", source="/c/it's $(here)"),
    arguments=(
        Word("--text=/mlcube_io0 $(id) 'quoted' \"twice\"\nsecond line"),
        Word("--file=", "/mlcube_io0/-a b,c:d é.txt"),
        Word("--empty="),
    ),
    mounts=(Mount("/w/a'; echo foo", "/mlcube_io0"),),
    environment={"PATTERN": Word("/tmp/*"), "PLACE": Word("", "/mlcube_io0/x y")},
)

NEEDS = invocation(
    resources=Resources(gpus=1, timeout_seconds=60),
    network="none",
    secrets=(Secret(name="TOKEN"), Secret(name="KEY", mount="/run/secrets/key")),
    environment={"CUBE_SECRET_KEY": Word("", "/run/secrets/key")},
)


def test_an_environment_is_made_with_uv(golden: Callable[..., None]) -> None:
    golden("local/prepare_with_uv.txt", prepare=LocalRunner().prepare(invocation(), WITH_UV))


def test_an_environment_is_made_with_pip(golden: Callable[..., None]) -> None:
    golden("local/prepare_with_pip.txt", prepare=LocalRunner().prepare(invocation(), WITHOUT_UV))


def test_an_environment_is_made_where_pip_is_old_or_missing(golden: Callable[..., None]) -> None:
    golden("local/prepare_with_ensurepip.txt", prepare=LocalRunner().prepare(invocation(), WITHOUT_PIP))


def test_a_cube_without_requirements_has_an_environment_of_its_own(golden: Callable[..., None]) -> None:
    golden("local/prepare_without_requirements.txt", prepare=LocalRunner().prepare(HOSTILE, WITH_UV))


def test_a_task_runs_with_paths_of_this_machine(golden: Callable[..., None]) -> None:
    golden("local/run.txt", run=LocalRunner().run(invocation(), WITH_UV))


def test_hostile_names_stay_what_they_are(golden: Callable[..., None]) -> None:
    golden("local/run_with_hostile_names.txt", run=LocalRunner().run(HOSTILE, WITH_UV))


def test_a_task_gets_a_gpu_and_secrets_and_no_network(golden: Callable[..., None]) -> None:
    golden("local/run_with_needs.txt", run=LocalRunner().run(NEEDS, WITH_UV))
