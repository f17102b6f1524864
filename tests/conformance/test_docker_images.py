"""Promise 18: where Docker's images come from."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from mlcube.conformance.carrier import Carrier
from mlcube.conformance.outcomes import PERFORMED
from mlcube.conformance.rendering import PROBE
from mlcube.cube import PythonEnvironment, Recipe
from mlcube.errors import PreparationFailed
from mlcube.execute import Execution
from mlcube.invocation import Invocation, Word
from mlcube.plan import Plan
from mlcube.signals import catching

pytestmark = [
    pytest.mark.engine("docker"),
    pytest.mark.parametrize("runner_name", ["docker"], indirect=True),
]


@pytest.fixture
def reference() -> Iterator[str]:
    """A name for images of this test, which are removed after it."""
    name = f"cube.invalid/test-{os.urandom(4).hex()}"
    yield f"{name}:1"
    argv = ["docker", "images", "--format", "{{.Repository}}:{{.Tag}}", name]
    if made := subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split():
        subprocess.run(["docker", "rmi", *made], capture_output=True, check=True)
    # What another build of the same name has left without one.
    subprocess.run(["docker", "image", "prune", "--force", "--filter=label=io.mlcube.cube=probe"], capture_output=True)


def test_18_an_image_is_built_from_its_dockerfile_when_it_is_not_there(carrier: Carrier, reference: str) -> None:
    invocation = from_dockerfile(carrier, reference)
    seen = carrier.perform(invocation)
    assert seen.told == (f"building the image `{reference}`",)
    assert seen.arguments == ("tell", "--x=a b"), "the image's own entrypoint gets the task's name first"
    assert seen.environment["VERSION"] == "1 'a'"
    assert carrier.perform(invocation).told == ()


def test_18_with_pull_nothing_is_built_and_the_flag_that_builds_is_named(carrier: Carrier, reference: str) -> None:
    invocation = from_dockerfile(carrier, reference, strategy="pull")
    with pytest.raises(PreparationFailed) as error:
        carrier.perform(invocation)
    assert invocation.recipe is not None
    assert error.value.hint == f"`-P docker.build_strategy=always` builds it from `{invocation.recipe.file}`"


def test_18_with_always_it_is_built_before_every_task(carrier: Carrier, reference: str) -> None:
    invocation = from_dockerfile(carrier, reference, strategy="always")
    assert carrier.perform(invocation).status == 0
    recipe = invocation.recipe
    assert recipe is not None
    Path(recipe.file).write_text(Path(recipe.file).read_text() + "ENV VERSION=2\n")
    assert carrier.perform(invocation).environment["VERSION"] == "2"


def test_18_configure_accepts_an_image_that_is_only_here(carrier: Carrier, reference: str) -> None:
    subprocess.run(["docker", "tag", carrier.image, reference], check=True)
    invocation = carrier.invocation(python=None, image=reference)
    perform(carrier.runner.configure(invocation, carrier.host))
    with pytest.raises(PreparationFailed):
        perform(carrier.runner.configure(msgspec.structs.replace(invocation, image=f"{reference}0"), carrier.host))


def test_18_a_change_of_the_code_does_not_install_requirements_again(carrier: Carrier, reference: str) -> None:
    first, second = (f"{reference.removesuffix(':1')}:{version}" for version in ("1", "2"))
    source = carrier.place / "source"
    source.mkdir()
    (source / "probe.py").write_bytes((PROBE / "probe.py").read_bytes())
    (source / "secret-of-the-author.py").write_text("")
    (source / "secret-of-the-author.py").chmod(0o600)
    (source / ".git").mkdir()
    python = PythonEnvironment(version="3.11", requirements="# none\n", source=str(source), image=carrier.image)
    do = "print(sorted(os.listdir('.')), os.access('secret-of-the-author.py', os.R_OK))"
    seen = carrier.perform(carrier.invocation(python=python, image=first, do=do))
    assert seen.stdout.endswith("['probe.py', 'secret-of-the-author.py'] True\n"), seen
    os.utime(source / "probe.py", (0, 0))
    (source / "new.py").write_text("")
    carrier.perform(carrier.invocation(python=python, image=second))
    before, after = layers(first), layers(second)
    assert before[:-1] == after[:-1]
    assert before[-1] != after[-1]


def from_dockerfile(carrier: Carrier, reference: str, **changes: str) -> Invocation:
    """The probe, as an image with an entrypoint of its own, from a context whose path needs quoting."""
    context = carrier.place / "con, text"
    context.mkdir()
    (context / "probe.py").write_bytes((PROBE / "probe.py").read_bytes())
    lines = f"FROM {carrier.image}\nARG VERSION\nENV VERSION=$VERSION\nCOPY probe.py /\n"
    (context / "Dockerfile").write_text(lines + 'ENTRYPOINT ["python3", "/probe.py"]\n')
    recipe = Recipe(context=str(context), file=str(context / "Dockerfile"), arguments={"VERSION": "1 'a'"})
    invocation = carrier.invocation(python=None, image=reference, recipe=recipe, entrypoint=(), directory=None)
    return msgspec.structs.replace(invocation, arguments=(Word("tell"), Word("--x=a b")), **changes)


def test_14_an_image_that_cannot_be_pulled_is_said_with_what_to_do(carrier: Carrier) -> None:
    with pytest.raises(PreparationFailed) as error:
        carrier.perform(carrier.invocation(python=None, image="cube.invalid/none:1"))
    assert "`docker pull cube.invalid/none:1` failed" in str(error.value)
    assert error.value.hint == "check the name; if the registry is private, log in: `docker login REGISTRY`"


@PERFORMED
def test_9_a_container_that_was_never_started_is_told_from_a_task_that_failed(carrier: Carrier, way: str) -> None:
    never = carrier.invocation(directory="relative")
    said = carrier.performed(way, never)
    assert (said.status, "the task did not run" in f"{said.told} {said.stderr}") == (125, True)
    said = carrier.performed(way, carrier.invocation(do="sys.exit(125)"))
    assert (said.status, "the task did not run" in f"{said.told} {said.stderr}") == (125, False)


def layers(reference: str) -> list[str]:
    argv = ["docker", "image", "inspect", "--format", "{{json .RootFS.Layers}}", reference]
    answer = subprocess.run(argv, capture_output=True, check=True).stdout
    return msgspec.json.decode(answer, type=list[str])


def perform(plan: Plan) -> None:
    with catching() as signals, Execution(signals=signals) as execution:
        execution.prepare(plan)
