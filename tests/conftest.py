"""What all tests share: a private home, and engines that are real, skipped where absent, or required.

An engine that a test drives (`@pytest.mark.engine("docker")`) and that does not answer means a skipped test, except
when `CUBE_REQUIRE_ENGINES` names it, as in `docker,local`: then the test fails.
"""

import functools
import os
import signal
import subprocess
from collections.abc import Callable
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

for _variable in ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"):
    # Images of CI set them; every `cube` that a test starts would compile itself anew, or tell its tasks of them.
    os.environ.pop(_variable, None)


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


def _absence_of_slurm_pair() -> str | None:
    # Without the file sinfo would wait a minute for it.
    there = os.path.exists(PAIR) and _succeeds("env", f"SLURM_CONF={PAIR}", "sinfo")
    return None if there else "no Slurm of two nodes answers"


def _succeeds(*argv: str) -> bool:
    try:
        return subprocess.run(argv, capture_output=True, timeout=300).returncode == 0
    except OSError:
        return False


_ASKED: dict[str, tuple[tuple[str, ...], str]] = {
    "slurm": (("sinfo",), "no Slurm answers"),
    "registry": (("curl", "-fsS", "http://127.0.0.1:5000/v2/"), "no registry answers"),
    "witnesses": ((f"{WITNESSES}/cosign", "version"), "tests/engines/witnesses.sh was not run"),
    "kubernetes": (("kubectl", f"--kubeconfig={KUBECONFIG}", "version"), "no cluster answers"),
    "skopeo": (("skopeo", "--version"), "skopeo is not installed"),
    "chromium": (("chromedriver", "--version"), "Chromium and its driver are not installed"),
    "ssh": (
        ("ssh", "-F", SSH_CONFIG, "-o", "BatchMode=yes", "engine-host", "true"),
        "no SSH server of tests/engines/sshd.sh answers",
    ),
}
"""What an engine is asked, and what it means that it fails."""
_LOOKED_INTO: dict[str, Callable[[], str | None]] = {
    "docker": _absence_of_docker,
    "podman": _absence_of_podman,
    "sandbox": _absence_of_sandbox,
    "slurm-pair": _absence_of_slurm_pair,
    "singularity": _absence_of_singularity,
    "local": lambda: None,
}
"""What takes more than one question."""


@functools.cache
def absence(engine: str) -> str | None:
    """Why an engine cannot be used here."""
    if engine in _LOOKED_INTO:
        return _LOOKED_INTO[engine]()
    if engine not in _ASKED:
        return f"no test knows how to ask for `{engine}`"
    question, meaning = _ASKED[engine]
    return None if _succeeds(*question) else meaning
