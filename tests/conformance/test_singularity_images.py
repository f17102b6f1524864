"""Promise 19: where the images of Apptainer and Singularity come from."""

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlcube.asking import ask
from mlcube.conformance.carrier import Carrier
from mlcube.conformance.rendering import PROBE
from mlcube.cube import PythonEnvironment, Recipe
from mlcube.errors import PreparationFailed
from mlcube.invocation import Invocation, Word
from mlcube_runners.singularity import SingularityRunner

pytestmark = [
    pytest.mark.engine("singularity"),
    pytest.mark.parametrize("runner_name", ["singularity"], indirect=True),
]
BUILDERLESS: dict[str, Any] = {"builders": [], "spython": None}


@pytest.fixture(autouse=True)
def without_builders(carrier: Carrier) -> None:
    """As on a cluster; the tests that are about Docker ask for it."""
    carrier.host["image_sources"] = BUILDERLESS


@pytest.fixture(scope="session")
def sif(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small SIF file whose program writes what it is told: made once, of a directory."""
    directory = tmp_path_factory.mktemp("small")
    root = directory / "root"
    for place in ("bin", "etc", "lib", "lib64", "usr"):
        (root / place).mkdir(parents=True)
    copied = ["/bin/sh", "/bin/cat", *_libraries("/bin/sh"), *_libraries("/bin/cat")]
    for file in copied:
        target = root / file.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(Path(file).read_bytes())
        target.chmod(0o755)
    image = directory / "small.sif"
    subprocess.run(["apptainer", "--silent", "build", str(image), str(root)], check=True, capture_output=True)
    return image


def _libraries(program: str) -> list[str]:
    answer = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return [word for word in answer.split() if word.startswith("/")]


def small(carrier: Carrier, script: str, **changes: Any) -> Invocation:
    """A task that the small image can run."""
    plain: dict[str, Any] = {"python": None, "image": None, "directory": None, "source_digest": None}
    given = {**plain, "entrypoint": ("/bin/sh", "-c", script), "root": str(carrier.place), **changes}
    return msgspec.structs.replace(carrier.invocation(), **given)


def with_cache(carrier: Carrier) -> Path:
    """A cache of this test alone."""
    cache = carrier.place.parent / "images"
    carrier.runner = SingularityRunner(cache=str(cache))
    return cache


def test_19_a_sif_file_of_the_cube_is_used_where_it_lies(carrier: Carrier, sif: Path) -> None:
    cache = with_cache(carrier)
    section = {"image": sif.name, "image_dir": str(sif.parent)}
    assert carrier.perform(small(carrier, "echo here", singularity=section)).stdout == "here\n"
    invocation = small(carrier, "echo here", image=str(sif))
    assert carrier.perform(invocation).stdout == "here\n"
    fact = carrier.runner.identify(invocation, carrier.host)
    assert fact is not None
    assert fact.parse(ask(fact.argv))["id"] == f"sha256:{hashlib.sha256(sif.read_bytes()).hexdigest()}"
    assert [path.name for path in cache.iterdir()] == ["identities"], "nothing was converted"


def test_19_a_sif_file_that_is_missing_is_named(carrier: Carrier) -> None:
    with pytest.raises(PreparationFailed, match=r"there is no SIF file `.*/images, mine/none\.sif`") as error:
        carrier.perform(small(carrier, ":", singularity={"image": "none.sif", "image_dir": "images, mine"}))
    assert error.value.hint == "put it there, or say what it is made of: `singularity: {build_file: docker://NAME}`"


def test_19_a_definition_file_is_converted_and_converted_again_when_it_has_changed(carrier: Carrier, sif: Path) -> None:
    cache = with_cache(carrier)
    definition = carrier.place / "my: definition.def"

    def write(value: str) -> None:
        definition.write_text(f"Bootstrap: localimage\nFrom: {sif}\n%environment\n    export VALUE={value}\n")

    invocation = small(carrier, "echo $VALUE", singularity={"build_file": definition.name})
    write("one")
    assert carrier.perform(invocation).stdout == "one\n"
    assert carrier.perform(invocation).told == ()
    write("two")
    assert carrier.perform(invocation).stdout == "two\n"
    assert not [path for path in cache.iterdir() if path.name.endswith((".new", ".link"))], "nothing half-made is left"


def test_19_a_sif_file_wins_over_what_it_is_made_of_while_it_is_there(carrier: Carrier, sif: Path) -> None:
    with_cache(carrier)
    (carrier.place / "a.def").write_text(f"Bootstrap: localimage\nFrom: {sif}\n%environment\n    export VALUE=made\n")
    invocation = small(carrier, "echo ${VALUE-own}", singularity={"image": "a.sif", "build_file": "a.def"})
    assert carrier.perform(invocation).stdout == "made\n"
    (carrier.place / "a.sif").symlink_to(sif)
    assert carrier.perform(invocation).stdout == "own\n"
    (carrier.place / "a.sif").unlink()
    assert carrier.perform(invocation).stdout == "made\n"


def test_19_many_processes_convert_an_image_once(carrier: Carrier, sif: Path) -> None:
    with_cache(carrier)
    log, program = carrier.place.parent / "converted", carrier.place.parent / "logging-apptainer"
    program.write_text(f"""#!/bin/sh\n[ "$1" != build ] || echo once >>'{log}'\nexec apptainer "$@"\n""")
    program.chmod(0o755)
    carrier.host["singularity"] = {**carrier.host["singularity"], "executable": str(program)}
    (carrier.place / "a.def").write_text(f"Bootstrap: localimage\nFrom: {sif}\n")
    invocation = small(carrier, ": >$CUBE_OUTPUT_OUT/$CUBE_RUN_ID", singularity={"build_file": "a.def"})
    place, processes = carrier.place, []
    for number in range(3):
        carrier.place = place / str(number)
        carrier.place.mkdir()
        own = {"run_id": f"{invocation.run_id}-{number}", "scratch": str(carrier.place / "scratch")}
        processes.append(carrier.start(msgspec.structs.replace(invocation, **own)))
    assert [process.wait(120) for process in processes] == [0, 0, 0]
    assert log.read_text() == "once\n"


def test_19_a_definition_runs_nothing_on_the_host(carrier: Carrier, sif: Path) -> None:
    cache = with_cache(carrier)
    ran = carrier.place / "ran"
    (carrier.place / "a.def").write_text(f"Bootstrap: localimage\nFrom: {sif}\n%setup\n    touch '{ran}'\n")
    with pytest.raises(PreparationFailed, match=r"line 3 of `.*/a\.def`: `%setup` runs commands on the host") as error:
        carrier.perform(small(carrier, ":", singularity={"build_file": "a.def"}))
    assert "build a SIF file of it yourself, if you trust it" in str(error.value.hint)
    assert not ran.exists()
    assert not list(cache.glob("*.new*"))


def test_19_a_sif_file_that_is_text_is_never_taken_for_a_definition(carrier: Carrier, sif: Path) -> None:
    with_cache(carrier)
    engine = carrier.host["singularity"]
    carrier.host["singularity"] = {**engine, "works": [*({*engine["works"]} - {"sif"}), "unpacked"]}
    ran, image = carrier.place / "ran", carrier.place / "a.sif"
    image.write_text(f"Bootstrap: localimage\nFrom: {sif}\n%setup\n    touch '{ran}'\n")
    with pytest.raises(PreparationFailed):
        carrier.perform(small(carrier, ":", image=str(image)))
    assert not ran.exists()


def test_19_a_directory_of_the_host_is_no_image(carrier: Carrier) -> None:
    with_cache(carrier)
    with pytest.raises(PreparationFailed, match="there is no SIF file"):
        carrier.perform(small(carrier, ":", image="/usr/"))


def test_19_an_image_that_cannot_be_had_is_said_with_what_to_do(carrier: Carrier) -> None:
    with_cache(carrier)
    with pytest.raises(PreparationFailed) as error:
        carrier.perform(small(carrier, ":", image="cube.invalid/none:1"))
    assert "docker://cube.invalid/none:1` failed" in str(error.value)
    assert error.value.hint is not None
    assert error.value.hint.startswith("check the name and the network")


def test_19_requirements_are_installed_beside_the_image_and_a_change_of_the_code_installs_nothing(
    carrier: Carrier,
) -> None:
    source = carrier.place / "source"
    source.mkdir()
    (source / "probe.py").write_bytes((PROBE / "probe.py").read_bytes())
    (source / "secret-of-the-author.py").write_text("")
    (source / "secret-of-the-author.py").chmod(0o600)
    (source / ".git").mkdir()
    requirements = f"pip  # {os.urandom(4).hex()}\n"
    python = PythonEnvironment(version=">=3.8", source=str(source), image=carrier.image, requirements=requirements)
    do = "import pip; print(sys.prefix, sorted(os.listdir('.')))"
    code = os.urandom(4).hex()
    seen = carrier.perform(carrier.invocation(do=do, python=python, source_digest=f"{code}1"))
    assert seen.stdout == "/mlcube/environment ['probe.py', 'secret-of-the-author.py']\n", seen
    assert seen.told == ("installing the requirements of `probe`",)
    (source / "new.py").write_text("")
    seen = carrier.perform(carrier.invocation(do=do, python=python, source_digest=f"{code}2"))
    assert "'new.py'" in seen.stdout
    assert seen.told == ()


def test_19_where_no_sif_file_can_be_mounted_it_is_unpacked_and_told(carrier: Carrier, sif: Path) -> None:
    with_cache(carrier)
    engine = carrier.host["singularity"]
    carrier.host["singularity"] = {**engine, "works": [*({*engine["works"]} - {"sif"}), "unpacked"]}
    invocation = small(carrier, "echo here; echo $APPTAINER_CONTAINER", image=str(sif))
    seen = carrier.perform(invocation)
    assert seen.stdout.startswith("here\n")
    assert seen.stdout.endswith("/root\n"), "a directory runs, not the SIF file"
    assert seen.told == (
        f"unpacking the image `{sif}`: no SIF file can be mounted here, so what runs as you can change it",
    )
    assert carrier.perform(invocation).told == ()


@pytest.fixture
def reference() -> Iterator[str]:
    """A name for an image of this test, which is removed after it."""
    name = f"cube.invalid/test-{os.urandom(4).hex()}:1"
    yield name
    subprocess.run(["docker", "rmi", "--force", name], capture_output=True)


@pytest.mark.engine("docker")
def test_19_a_dockerfile_is_built_and_a_newer_image_is_converted_again(carrier: Carrier, reference: str) -> None:
    cache = with_cache(carrier)
    carrier.host["image_sources"] = {"builders": ["docker"], "spython": None}
    invocation = _from_dockerfile(carrier, reference)
    seen = carrier.perform(invocation)
    assert seen.status == 0, seen
    assert seen.told == (f"converting the image `{reference}` into a SIF file",)
    assert seen.arguments == ("tell", "--x=a b"), "the image's own entrypoint gets the task's name first"
    assert (seen.directory, seen.environment["VERSION"]) == ("/opt/work dir", "1 'a'")
    assert carrier.perform(invocation).told == ()
    newer = f"FROM {reference}\nENV VERSION=2\n".encode()
    subprocess.run(["docker", "build", "-q", "-t", reference, "-"], input=newer, capture_output=True, check=True)
    assert carrier.perform(invocation).environment["VERSION"] == "2"
    fact = carrier.runner.identify(invocation, carrier.host)
    assert fact is not None
    files = [path.read_text().strip() for path in cache.glob("sha256-*/identity")]
    assert fact.parse(ask(fact.argv))["id"] in files


def _from_dockerfile(carrier: Carrier, reference: str) -> Invocation:
    context = carrier.place / "con, text"
    context.mkdir()
    (context / "probe.py").write_bytes((PROBE / "probe.py").read_bytes())
    lines = f"FROM {carrier.image}\nARG VERSION\nENV VERSION=$VERSION\nCOPY probe.py /\nWORKDIR /opt/work dir\n"
    (context / "Dockerfile").write_text(lines + 'ENTRYPOINT ["python3", "/probe.py"]\nCMD ["not", "this"]\n')
    recipe = Recipe(context=str(context), file=str(context / "Dockerfile"), arguments={"VERSION": "1 'a'"})
    invocation = carrier.invocation(python=None, image=reference, recipe=recipe, entrypoint=(), directory=None)
    return msgspec.structs.replace(invocation, arguments=(Word("tell"), Word("--x=a b")))
