"""Promise 19, the sandbox's own: where its images come from, and that nothing is ever written into them."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlcube.conformance.carrier import Carrier
from mlcube.conformance.rendering import PROBE
from mlcube.cube import Resources, Secret
from mlcube.errors import PreparationFailed
from mlcube.invocation import Invocation, Mount, Word
from mlcube_runners.sandbox import SandboxRunner

pytestmark = [
    pytest.mark.engine("sandbox"),
    pytest.mark.parametrize("runner_name", ["sandbox"], indirect=True),
]

ENGINE = "docker" if shutil.which("docker") and os.getuid() == 0 else "podman"


@pytest.fixture
def archive(carrier: Carrier) -> Path:
    """The base image in a file, with an entrypoint, a variable and a link of its own."""
    reference, context = f"cube.invalid/test-{os.urandom(4).hex()}:1", carrier.place / "context"
    context.mkdir()
    (context / "probe.py").write_bytes((PROBE / "probe.py").read_bytes())
    lines = [f"FROM {carrier.image}", "COPY probe.py /", "ENV SAYS='it is me' LD_PRELOAD=", "WORKDIR /srv"]
    lines += ["RUN ln -s /srv /link && touch /srv/file && mkdir -p /etc/own", 'ENTRYPOINT ["python3", "/probe.py"]']
    (context / "Dockerfile").write_text("\n".join(lines) + "\n")
    file = carrier.place / "an image.tar"
    try:
        # Of its own: a layer that is cached may be another test's, which removes it.
        build = [ENGINE, "build", "--no-cache", "--tag", reference, str(context)]
        subprocess.run(build, check=True, capture_output=True)
        subprocess.run([ENGINE, "save", "--output", str(file), reference], check=True, capture_output=True)
    finally:
        subprocess.run([ENGINE, "rmi", reference], capture_output=True)
    return file


def test_19_an_archive_is_an_image_too(carrier: Carrier, archive: Path) -> None:
    seen = carrier.perform(from_archive(carrier, archive, Word("tell"), Word("--x=a b")))
    assert seen.told == (f"unpacking the image `{archive}`",)
    assert seen.arguments == ("tell", "--x=a b"), "the image's own entrypoint gets the task's name first"
    assert (seen.environment["SAYS"], seen.directory) == ("it is me", "/srv")
    assert carrier.perform(from_archive(carrier, archive)).told == ()


def test_19_so_is_an_oci_layout(carrier: Carrier, archive: Path) -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    layout = carrier.place / "layout"
    argv = ["skopeo", "copy", "--dest-compress", f"docker-archive:{archive}", f"oci:{layout}:1"]
    subprocess.run(argv, check=True, capture_output=True)
    assert carrier.perform(from_archive(carrier, layout)).environment["SAYS"] == "it is me"


def test_19_an_image_that_is_nowhere_is_said_with_what_to_do(carrier: Carrier) -> None:
    invocation = carrier.invocation(python=None, image="cube.invalid/none:1")
    with pytest.raises(PreparationFailed) as error:
        carrier.perform(invocation)
    assert "cube.invalid/none:1" in str(error.value)
    assert error.value.hint
    assert carrier.remains(invocation) == []


def test_19_mounts_lie_in_the_image_s_directories_and_nothing_is_written_there(carrier: Carrier, archive: Path) -> None:
    given = carrier.place / "given"
    given.mkdir()
    (given / "file").write_text("given")
    places = ("/etc/own/new/deep", "/link/through", "/srv/file", "/var/run/x")
    mounts = (*(Mount(str(given), place) for place in (places[0], places[1], places[3])),)
    mounts += (Mount(str(given / "file"), places[2]),)
    do = (
        "print(*(open(p if p == '/srv/file' else p + '/file').read() for p in sys.argv[1:]), "
        "os.path.exists('/etc/hosts'))"
    )
    invocation = from_archive(carrier, archive, *(Word("", place) for place in places), do=do, mounts=mounts)
    seen = carrier.perform(invocation)
    assert seen.stdout == "given given given given True\n", seen
    root = unpacked(carrier, archive)
    assert os.listdir(root / "etc/own") == []
    assert sorted(os.listdir(root / "srv")) == ["file"]
    assert not (root / "mlcube_io0").exists()


def test_19_neither_the_image_nor_the_kernel_s_settings_can_be_written(carrier: Carrier) -> None:
    places = (
        "/new",
        "/etc/new",
        "/etc/passwd",
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/vm/swappiness",
        "/sys/x",
    )
    do = (
        "for place in sys.argv[1:]:\n"
        "    try: os.close(os.open(place, os.O_WRONLY | os.O_CREAT)); print(place)\n"
        "    except OSError as error: assert error.errno in (13, 30), (place, error)"
    )
    seen = carrier.perform(carrier.invocation(*places, do=do))
    assert (seen.status, seen.stdout) == (0, ""), seen


def test_19_what_a_cube_says_does_not_act_on_programs_of_the_host(carrier: Carrier) -> None:
    seen = carrier.perform(
        carrier.invocation(environment={"LD_PRELOAD": Word("/mlcube_io0/no.so"), "PATH": Word("/usr/bin")})
    )
    assert seen.environment["LD_PRELOAD"] == "/mlcube_io0/no.so"
    assert seen.stderr.count("cannot be preloaded") == 1, "by the task's own loader, and by no program before it"


def test_19_the_task_sees_no_process_or_descriptor_of_the_host(carrier: Carrier) -> None:
    do = "print(sorted(int(p) for p in os.listdir('/proc') if p.isdecimal()), sorted(os.listdir('/proc/self/fd')))"
    assert carrier.perform(carrier.invocation(do=do)).stdout == "[1, 2] ['0', '1', '2', '3']\n"


def test_19_shared_memory_has_the_size_that_was_asked_for(carrier: Carrier) -> None:
    do = "s = os.statvfs('/dev/shm'); print(s.f_frsize * s.f_blocks); open('/dev/shm/x', 'w')"
    resources = Resources(shared_memory_bytes=32 << 20)
    assert carrier.perform(carrier.invocation(resources=resources, do=do)).stdout == f"{32 << 20}\n"


def test_19_a_task_that_is_stopped_may_finish_what_it_does(carrier: Carrier) -> None:
    do = (
        "import signal, time\n"
        "def end(*_): open(out + '/saved', 'w'); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end); print('started', flush=True); time.sleep(60)"
    )
    invocation = carrier.invocation(do=do)
    begun = time.monotonic()
    assert carrier.stopped(invocation, signal.SIGINT)[0] == 130
    assert (carrier.out / "saved").exists()
    assert time.monotonic() - begun < 8
    assert carrier.remains(invocation) == []


def test_19_a_secret_may_be_called_like_anything(carrier: Carrier) -> None:
    names = ("TOKEN", "name", "root", "PWD_", "split")
    invocation = carrier.invocation(secrets=tuple(Secret(name=name) for name in names))
    seen = carrier.perform(invocation, secrets={name: f"s'{name}\n" for name in names})
    assert {name: seen.environment.get(name) for name in names} == {name: f"s'{name}\n" for name in names}


def from_archive(carrier: Carrier, archive: Path, *arguments: Word, **changes: Any) -> Invocation:
    """The probe out of an archive, which is an option of the platform."""
    carrier.runner = SandboxRunner(archive=str(archive))
    invocation = carrier.invocation(*arguments, **changes)
    return msgspec.structs.replace(invocation, python=None, image="cube.invalid/none:1", entrypoint=(), directory=None)


def unpacked(carrier: Carrier, archive: Path) -> Path:
    """The root file system of the archive's image."""
    fact = SandboxRunner(archive=str(archive)).identify(carrier.invocation(), carrier.host)
    assert fact is not None
    return Path(fact.argv[-1]).parent / "root"
