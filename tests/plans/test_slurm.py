"""What Slurm is told, character for character; see the files in `slurm/`."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from mlcube.cube import Resources, Secret
from mlcube.plan import Command, Plan, WriteFile
from mlcube.runner import Answer
from mlcube_runners.docker import DockerRunner
from mlcube_runners.local import LocalRunner
from mlcube_runners.singularity import SingularityRunner
from mlcube_runners.slurm import SlurmRunner
from mlcube_runners.ssh import SshRunner
from tests.plans.test_docker import HOST as DOCKER_HOST
from tests.plans.test_docker import hello
from tests.plans.test_local_plans import WITH_UV, invocation
from tests.plans.test_singularity_plans import HOST as SINGULARITY_HOST
from tests.plans.test_ssh import NEAR

ENFORCING = {"version": "22.05.8", "cluster": "test", "memory": True, "cpus": True}
CLUSTER = SlurmRunner(
    inner=LocalRunner(),
    partition="gpu",
    account="proj42",
    qos="long",
    nodes=1,
    gres="gpu:a100",
    modules=("python/3.11",),
    before=("export OMP_NUM_THREADS=4",),
)


def host(**slurm: Any) -> dict[str, Any]:
    return {**WITH_UV, "slurm": {**ENFORCING, **slurm}}


def file(plan: Plan, name: str) -> str:
    (text,) = (step.text for step in plan.steps if isinstance(step, WriteFile) and step.path.endswith(f"/{name}"))
    assert isinstance(text, str)
    return text


def test_a_task_is_a_batch_job(golden: Callable[..., None]) -> None:
    golden("slurm/run.txt", run=CLUSTER.run(invocation(), host()))


def test_a_login_node_submits_it(golden: Callable[..., None]) -> None:
    login = SshRunner(host="hpc", inner=SlurmRunner(inner=DockerRunner(), root="/lab/me"))
    there = {"root": "/lab/me/cubes", "rsync": True, "facts": {**DOCKER_HOST, "slurm": ENFORCING}}
    golden("slurm/login.txt", run=login.run(hello(), {"near": NEAR, "far": there}))


def test_a_task_on_several_nodes_starts_on_each_by_srun(golden: Callable[..., None]) -> None:
    runner = SlurmRunner(inner=SingularityRunner(), root="/lab/it's me")
    several = hello(resources=Resources(nodes=2, cpus=3, gpus=1), secrets=(Secret(name="KEY", mount="/run/key"),))
    plan = runner.run(several, {**SINGULARITY_HOST, "slurm": ENFORCING})
    golden("slurm/nodes.txt", run=msgspec.structs.replace(plan, steps=tuple(map(_without_job, plan.steps))))


def test_the_nodes_of_a_platform_and_of_a_task_must_agree() -> None:
    several = invocation(resources=Resources(nodes=2))
    assert msgspec.structs.replace(CLUSTER, nodes=None).refuses(several, host()) is None
    assert msgspec.structs.replace(CLUSTER, nodes=2).refuses(several, host()) is None
    assert CLUSTER.refuses(several, host()) == (
        "task `train` asks for 2 nodes, and the platform's `nodes` says 1",
        "leave `nodes` out of the platform, or say `nodes: 2`",
    )
    assert "--nodes=3 " in file(msgspec.structs.replace(CLUSTER, nodes=3).run(invocation(), host()), "submit")


def _without_job(step: Any) -> Any:
    """What is the same for every job is in another file."""
    same = isinstance(step, WriteFile) and step.path.endswith(("/job", "/scheduler"))
    return msgspec.structs.replace(step, text="...") if same else step


@pytest.mark.parametrize(("printed", "most"), [("(null)\n", 0), ("gpu:2\n", 2), ("gpu:a100:4(S:0-1),x:9\ngpu\n", 4)])
def test_no_more_gpus_than_a_node_has(printed: str, most: int) -> None:
    (fact,) = (fact for fact in CLUSTER.facts() if fact.name == "gpus_per_node")
    known = {**host(), "gpus_per_node": fact.parse(Answer(0, printed, ""))}
    assert CLUSTER.refuses(msgspec.structs.replace(invocation(), resources=Resources(gpus=most)), known) is None
    refusal = CLUSTER.refuses(msgspec.structs.replace(invocation(), resources=Resources(gpus=most + 1)), known)
    assert refusal is not None
    assert (str(most) if most else "no node here has any") in refusal[0]


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        (Resources(cpus=4), ["--cpus-per-task=4"]),
        (Resources(memory_bytes=3 << 30), ["--mem=3145728K"]),
        (Resources(timeout_seconds=90), ["--time=3"]),
        (Resources(gpus=2), ["--gres=gpu:a100:2"]),
    ],
)
def test_needs_are_asked_of_slurm(resources: Resources, words: list[str]) -> None:
    plan = CLUSTER.run(invocation(resources=resources), host())
    assert set(words) <= set(file(plan, "submit").split())


def test_what_slurm_enforces_the_inner_runner_need_not() -> None:
    asked = invocation(resources=Resources(memory_bytes=1 << 30))
    assert CLUSTER.refuses(asked, host()) is None
    assert CLUSTER.refuses(asked, host(memory=False)) is not None
    docker = SlurmRunner(inner=DockerRunner()).run(
        hello(resources=Resources(memory_bytes=1 << 30)), {**DOCKER_HOST, "slurm": ENFORCING}
    )
    assert "--memory=1073741824" in file(docker, "task")


def test_certain_gpus_are_refused_because_slurm_chooses() -> None:
    reason = CLUSTER.refuses(invocation(resources=Resources(gpus=("0",))), host())
    assert reason == (
        "task `train` asks for certain GPUs (0), and Slurm chooses them",
        "ask for a number of them, as in `--gpus 1`",
    )


def test_a_secret_in_the_callers_environment_does_not_reach_slurm() -> None:
    plan = CLUSTER.run(invocation(secrets=(Secret(name="TOKEN"),)), host())
    assert file(plan, "submit").startswith("exec env -u TOKEN sbatch ")


def test_a_mounted_secret_lies_where_the_node_finds_it() -> None:
    runner = SlurmRunner(inner=DockerRunner(), root="/shared")
    asked = hello(secrets=(Secret(name="KEY", mount="/run/key"),))
    plan = runner.run(asked, {**DOCKER_HOST, "slurm": ENFORCING})
    folder = f"/shared/runs/{asked.run_id}/scratch.secrets"
    assert any(isinstance(step, WriteFile) and step.path == f"{folder}/KEY" for step in plan.steps)
    assert any(
        isinstance(step, Command) and step.argv == ("mkdir", "-p", "-m", "700", "--", folder) for step in plan.steps
    )
    assert f"{folder}/KEY" in file(plan, "task")
    assert f"{asked.scratch}.secrets" not in plan.script()


def test_modules_and_lines_come_before_the_task() -> None:
    lines = file(CLUSTER.run(invocation(), host()), "batch").splitlines()
    assert lines.index("module load python/3.11 || exit 1") < lines.index("export OMP_NUM_THREADS=4") < len(lines) - 1


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(127, "", ""), {"problem": "missing"}),
        (Answer(1, "", "error: no controller"), {"problem": "error: no controller"}),
        (Answer(0, "TaskPlugin = task/none\nSLURM_VERSION = 22.05.8\n", ""),
         {"version": "22.05.8", "cluster": "", "memory": False, "least_memory_bytes": None, "cpus": False}),
        (Answer(0, "TaskPlugin = task/affinity,task/cgroup\nConstrainRAMSpace = yes\nMinRAMSpace = 30 MB\n"
                   "ConstrainCores = yes\n", ""),
         {"version": "", "cluster": "", "memory": True, "least_memory_bytes": 30 << 20, "cpus": True}),
        (Answer(0, "JobAcctGatherParams = OverMemoryKill\n", ""),
         {"version": "", "cluster": "", "memory": False, "least_memory_bytes": None, "cpus": False}),
    ],
)  # fmt: skip
def test_what_slurm_enforces_is_read_from_its_configuration(answer: Answer, expected: dict[str, Any]) -> None:
    (fact,) = (fact for fact in CLUSTER.facts() if fact.name == "slurm")
    assert fact.parse(answer) == expected


def test_a_job_is_data() -> None:
    plan = CLUSTER.run(invocation(), host())
    assert msgspec.json.decode(msgspec.json.encode(plan), type=Plan) == plan
    assert isinstance(plan.stop, Command)
