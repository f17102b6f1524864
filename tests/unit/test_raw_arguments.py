"""Raw engine arguments of older cubes, understood as neutral needs."""

import pytest

from mlcube.cube import RawNeeds, Resources, Secret
from mlcube.errors import Position
from mlcube.raw_arguments import understand_docker, understand_singularity

HERE = Position("mlcube.yaml", 2, 13, 60, "  gpu_args: --gpus=all -v /:/host --shm-size 2g")


def docker(arguments: str | list[str], *, trust: bool = False) -> RawNeeds:
    needs, problems = understand_docker(arguments, HERE, trust=trust)
    assert problems == []
    return needs


@pytest.mark.parametrize(
    ("arguments", "resources"),
    [
        ("--gpus=all", Resources(gpus="all")),
        ("--gpus all", Resources(gpus="all")),
        ("--gpus '\"device=0,1\"'", Resources(gpus=("0", "1"))),
        ("--runtime=nvidia", Resources(gpus="all")),
        ("--runtime=nvidia --gpus 2", Resources(gpus=2)),
        ("--shm-size=2gb", Resources(shared_memory_bytes=2 << 30)),
        ("--shm-size 12g", Resources(shared_memory_bytes=12 << 30)),
        ("-m 512m --cpus=1.5", Resources(memory_bytes=512 << 20, cpus=1.5)),
        ("-m=512m", Resources(memory_bytes=512 << 20)),
        ("--cpuset-cpus 0-3,5", Resources(cpu_set="0-3,5")),
    ],
)
def test_amounts_are_resources(arguments: str, resources: Resources) -> None:
    assert docker(arguments) == RawNeeds(resources=resources)


def test_variables_with_a_value_are_environment_and_without_one_secrets() -> None:
    needs = docker("-e A=b=c --env 'D=e f' -eG=h -e WANDB_API_KEY")
    assert needs.environment == {"A": "b=c", "D": "e f", "G": "h"}
    assert needs.secrets == (Secret(name="WANDB_API_KEY", optional=True, from_environment=False),)


def test_networks() -> None:
    assert [docker(f"--network={name}").network for name in ("none", "bridge")] == ["none", "default"]
    assert docker("--net host").network is None
    assert docker("--net host", trust=True).network == "host"


def test_what_is_so_anyway_asks_for_nothing() -> None:
    assert (
        docker("--rm -it --init -d --name x --cap-drop ALL --ipc=private --security-opt no-new-privileges")
        == RawNeeds()
    )


@pytest.mark.parametrize(
    "arguments",
    [
        "-v /:/host", "--volume=/a:/b", "--mount type=bind,source=/,target=/host", "--privileged", "--pid=host",
        "--ipc host",
        "--userns=host", "--cap-add SYS_ADMIN", "--device=/dev/mem", "--security-opt seccomp=unconfined", "-p 80:80",
        "--user 0", "--network=host", "--network container:x", "--foo", "--volumes-from x", "--env-file /etc/passwd",
        "--entrypoint sh", "alpine", "--gpus=all; id",
    ],
)  # fmt: skip
def test_what_opens_the_host_or_has_no_neutral_meaning_needs_consent(arguments: str) -> None:
    needs, problems = understand_docker(arguments, HERE, trust=False)
    assert needs.refused or problems
    assert (needs.raw_arguments, needs.mounts, needs.network) == ({}, (), None)


def test_with_consent_mounts_are_understood_and_the_rest_is_passed_on() -> None:
    needs = docker("-v /data:/data:ro -v named:/x --privileged --foo bar", trust=True)
    assert needs.mounts == (("/data", "/data", "ro"),)
    assert needs.raw_arguments == {"docker": ("-v", "named:/x", "--privileged", "--foo", "bar")}


def test_a_refusal_points_at_the_words_themselves() -> None:
    (refusal,) = docker("--gpus=all -v /:/host --shm-size 2g").refused
    assert refusal.position == Position("mlcube.yaml", 2, 24, 10, HERE.excerpt)


def test_a_flag_never_swallows_the_next() -> None:
    assert docker("--unknown --gpus all").resources == Resources(gpus="all")


def test_what_makes_no_sense_is_told() -> None:
    _, problems = understand_docker("--shm-size lots --gpus -e =x", HERE, trust=False)
    assert [problem.message for problem in problems] == [
        "`--shm-size` needs an amount such as `512MiB` or `4GB`, not `lots`",
        "`=x` is neither `NAME=value` nor the name of a variable",
    ]
    _, problems = understand_docker("--gpus 'all", HERE, trust=False)
    assert [problem.message for problem in problems] == ["the quotes in `--gpus 'all` do not match"]


def test_singularity() -> None:
    needs, _ = understand_singularity("-C --writable-tmpfs --net --network=none --nv --env A=b", HERE, trust=False)
    assert needs == RawNeeds(network="none", environment={"A": "b"}), "`--nv` asks for no GPU where there is none"
    needs, _ = understand_singularity("-B /a:/b --fakeroot", HERE, trust=False)
    assert len(needs.refused) == 2
    needs, _ = understand_singularity("-B /a:/b --fakeroot", HERE, trust=True)
    assert (needs.mounts, needs.raw_arguments) == ((("/a", "/b", "rw"),), {"singularity": ("--fakeroot",)})


@pytest.mark.parametrize(
    ("arguments", "refused"),
    [
        ("-itv/:/host", "`-v/:/host` mounts a place of the host"),
        ("-itv /:/host", "`-v /:/host` mounts a place of the host"),
        ("-itp8080:80", "`-p8080:80` opens a port of the host"),
        ("-dP", "`-P` has no meaning"),
        ("-tu0", "`-u0` chooses another user"),
        ("-it=v/:/host -v/:/host", "`-v/:/host` mounts"),
        ("-ik8", "`-k8` has no meaning"),
    ],
)
def test_flags_behind_one_dash_are_read_letter_by_letter(arguments: str, refused: str) -> None:
    (refusal,) = docker(arguments).refused
    assert refused in refusal.message
    assert docker(arguments, trust=True).refused == ()


def test_a_cluster_may_end_with_a_flag_that_takes_a_value() -> None:
    assert docker("-itm2g").resources == Resources(memory_bytes=2 << 30)
    assert docker("-ite A=b -ti").environment == {"A": "b"}
    needs, problems = understand_singularity("-CceB/:/host", HERE, trust=False)
    assert (problems, [refusal.message for refusal in needs.refused]) == (
        [],
        ["`-B/:/host` mounts a place of the host"],
    )


def test_a_variable_of_the_user_is_handed_out_only_with_consent() -> None:
    assert docker("-e TOKEN").secrets == (Secret(name="TOKEN", optional=True, from_environment=False),)
    assert docker("-e TOKEN", trust=True).secrets == (Secret(name="TOKEN", optional=True),)


def test_names_of_variables_are_ascii() -> None:
    _, problems = understand_docker("-e \u039dAME=1 -e A\u0661=2", HERE, trust=False)
    assert len(problems) == 2
