"""What all tests share: a private home, and engines that are real, skipped where absent, or required.

An engine that a test drives (`@pytest.mark.engine("docker")`) and that does not answer means a skipped test, except
when `CUBE_REQUIRE_ENGINES` names it, as in `docker,local`: then the test fails.
"""

import functools
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

BASE_IMAGE = os.environ.get("CUBE_TEST_IMAGE", "python:3.11-slim")
REQUIRED = tuple(name for name in os.environ.get("CUBE_REQUIRE_ENGINES", "").split(",") if name)
SSH_CONFIG = f"{os.environ.get('ENGINES_STATE', '/var/tmp/mlcube-engines')}/ssh/config"
"""Leads to `engine-host`, the server of `tests/engines/sshd.sh`."""
PAIR = f"{os.environ.get('ENGINES_STATE', '/var/tmp/mlcube-engines')}/slurm-pair/slurm.conf"
"""Leads to the two nodes of `tests/engines/slurm-pair.sh`."""
WITNESSES = f"{os.environ.get('ENGINES_STATE', '/var/tmp/mlcube-engines')}/witnesses/bin"
"""Where `tests/engines/witnesses.sh` puts oras and cosign."""
KUBECONFIG = os.environ.get("CUBE_TEST_KUBECONFIG") or (
    f"{os.environ.get('ENGINES_STATE', '/var/tmp/mlcube-engines')}/kubernetes/kubeconfig"
)
"""Leads to the cluster of `tests/engines/kubernetes.sh`."""
_HOME = os.path.expanduser("~")

for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    # What a shell starts in the background ignores SIGINT, and so would everything that the tests start.
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)


@pytest.fixture(scope="session")
def base_image() -> str:
    """An image with Python that the tests' images start from."""
    return BASE_IMAGE


@pytest.fixture(autouse=True)
def private_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes what belongs to the person who runs it."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for variable in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    for variable in [name for name in os.environ if name.startswith(("CUBE_", "MLCUBE_"))]:
        if variable not in ("CUBE_TEST_IMAGE", "CUBE_REQUIRE_ENGINES"):
            monkeypatch.delenv(variable)
    for variable, directory in (("PIP_CACHE_DIR", "pip"), ("UV_CACHE_DIR", "uv")):  # downloads are nobody's secret
        if variable not in os.environ:
            monkeypatch.setenv(variable, f"{_HOME}/.cache/{directory}")
    for variable in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE"):
        monkeypatch.delenv(variable, raising=False)
    return home


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("engine"):
        (name,) = marker.args
        if (reason := absence(name)) is None:
            continue
        if name in REQUIRED:
            pytest.fail(f"engine `{name}` is required, and {reason}", pytrace=False)
        pytest.skip(reason)


@functools.cache
def absence(engine: str) -> str | None:  # noqa: C901 - a case for each engine
    """Why an engine cannot be used here."""
    match engine:
        case "local":
            return None if sys.version_info >= (3, 10) else "Python is too old"
        case "docker":
            return _absence_of_docker()
        case "podman":
            return _absence_of_podman()
        case "slurm":
            return None if _succeeds("sinfo") else "no Slurm answers"
        case "slurm-pair":
            return None if _succeeds("env", f"SLURM_CONF={PAIR}", "sinfo") else "no Slurm of two nodes answers"
        case "registry":
            return None if _succeeds("curl", "-fsS", "http://127.0.0.1:5000/v2/") else "no registry answers"
        case "witnesses":
            return None if _succeeds(f"{WITNESSES}/cosign", "version") else "tests/engines/witnesses.sh was not run"
        case "kubernetes":
            return None if _succeeds("kubectl", f"--kubeconfig={KUBECONFIG}", "version") else "no cluster answers"
        case "ssh":
            reached = _succeeds("ssh", "-F", SSH_CONFIG, "-o", "BatchMode=yes", "engine-host", "true")
            return None if reached else "no SSH server of tests/engines/sshd.sh answers"
        case "sandbox":
            return _absence_of_sandbox()
        case "skopeo":
            return None if _succeeds("skopeo", "--version") else "skopeo is not installed"
        case "singularity":
            return _absence_of_singularity()
        case "chromium":
            return None if _succeeds("chromedriver", "--version") else "Chromium and its driver are not installed"
        case _:
            return f"no test knows how to ask for `{engine}`"


def _absence_of_docker() -> str | None:
    if not _succeeds("docker", "info"):
        return "no Docker daemon answers"
    if not _succeeds("docker", "image", "inspect", BASE_IMAGE) and not _succeeds("docker", "pull", BASE_IMAGE):
        return f"the image {BASE_IMAGE} cannot be had"
    return None


def _absence_of_singularity() -> str | None:
    if not (_succeeds("apptainer", "--version") or _succeeds("singularity", "--version")):
        return "neither Apptainer nor Singularity is installed"
    archive = BASE_IMAGE.startswith("docker-archive:") and os.path.exists(BASE_IMAGE.partition(":")[2])
    if not archive and not _succeeds("docker", "image", "inspect", BASE_IMAGE):
        return f"the image {BASE_IMAGE} cannot be had: it is neither an archive (`docker-archive:PATH`) nor in Docker"
    return None


def _absence_of_podman() -> str | None:
    if not _succeeds("podman", "info"):
        return "no Podman works"
    if not _succeeds("podman", "image", "exists", BASE_IMAGE) and not _succeeds("podman", "pull", BASE_IMAGE):
        return f"the image {BASE_IMAGE} cannot be had"
    return None


def _absence_of_sandbox() -> str | None:
    if not _succeeds("bwrap", "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "true"):
        return "bubblewrap is not installed, or may not make namespaces"
    if _absence_of_docker() and _absence_of_podman():
        return "neither Docker nor Podman is here to build the probe's image"
    return None


def _succeeds(*argv: str) -> bool:
    try:
        return subprocess.run(argv, capture_output=True, timeout=300).returncode == 0
    except OSError:
        return False
