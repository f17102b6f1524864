"""Virtual environments of `python:` cubes: what the host offers, which interpreter is taken, how one is made."""

import os.path
import sys
from typing import Any

import msgspec

from mlcube.cube import PythonEnvironment
from mlcube.errors import Refused
from mlcube.plan import Command, Step, Unless, WriteFile
from mlcube.python_versions import MINORS, admits
from mlcube.runner import Answer, Fact, Host
from mlcube_runners._cache import FIND_CACHE

__all__ = ["Interpreter", "VirtualEnvironment", "choose", "facts", "make"]

_ASK = """\
import sys, sysconfig
try: import pip; has_pip = pip.__version__
except Exception: has_pip = ""
try: import ensurepip; has_ensurepip = "yes"
except Exception: has_ensurepip = ""
version = "%d.%d.%d" % sys.version_info[:3]
base = getattr(sys, "_base_executable", sys.executable)
kind = version, sys.implementation.name, sysconfig.get_platform()
print("\\t".join(("python", sys.argv[1], sys.executable, base) + kind + (has_pip, has_ensurepip)))
"""

# At once, because a shim of pyenv takes 0.1 s to say that it leads nowhere. -I: what PYTHONPATH and
# the user's own site-packages offer is not there for an environment either.
_ASK_ALL = (
    'ask=$1; shift; order=0; for name do order=$((order + 1)); "$name" -I -c "$ask" $order 2>/dev/null & done; wait'
)

_FIND_ENVIRONMENTS = f"""{FIND_CACHE}if [ -n "$1" ]; then absolute "$1"; else cache && printf /environments; fi"""

# Succeeds also without uv: only answers of commands that succeed are remembered.
_FIND_UV = 'for uv do "$uv" --version >/dev/null 2>&1 && command -v "$uv" && exit; done; :'

_LIST_INSTALLED = """\
import sys
from importlib.metadata import distributions
installed = sorted({one.metadata["Name"] + "==" + one.version for one in distributions()})
with open(sys.argv[1], "w") as file:
    print("python==" + sys.version.split()[0], *installed, sep="\\n", file=file)
"""


class Interpreter(msgspec.Struct, frozen=True, kw_only=True):
    """A Python that the host has."""

    path: str
    base: str
    """The interpreter itself, where `path` lies in a virtual environment."""
    version: str
    implementation: str
    platform: str
    pip: str
    """The version of its pip, or nothing."""
    ensurepip: bool

    @property
    def pip_reaches_out(self) -> bool:
        """Whether its pip installs into other environments, which spares each a pip of its own."""
        return tuple(int(number) for number in self.pip.split(".")[:2] if number.isdigit()) >= (22, 3)


class VirtualEnvironment(msgspec.Struct, frozen=True, kw_only=True):
    """A virtual environment, there or not, at the place that follows from what determines it."""

    root: str
    """The directory that holds all of them."""
    interpreter: Interpreter
    requirements: str
    uv: str | None

    @property
    def directory(self) -> str:
        """Named by interpreter, platform and requirements; uv and pip make the same."""
        from hashlib import sha256

        told = self.interpreter
        determines = (told.base, told.version, told.implementation, told.platform, self.requirements)
        minor = ".".join(told.version.split(".")[:2])
        return os.path.join(self.root, f"python{minor}-{sha256(msgspec.json.encode(determines)).hexdigest()[:16]}")

    @property
    def count(self) -> int:
        """How many requirements there are."""
        lines = (line.strip() for line in self.requirements.splitlines())
        return sum(1 for line in lines if line and not line.startswith(("#", "--")))

    def path(self, *parts: str) -> str:
        """A path in it."""
        return os.path.join(self.directory, *parts)


def facts(python: str | None, environments: str | None) -> tuple[Fact, ...]:
    """What must be known of the host to make and find environments."""
    beside = sys.executable or "python3"
    names = (python,) if python else (beside, "python3", *(f"python3.{minor}" for minor in MINORS))
    # A directory changes when something is installed in it.
    changing = (os.path.dirname(beside), "/usr/bin", "/usr/local/bin", "~/.local/bin", "~/.pyenv/version")
    uv = (os.path.join(os.path.dirname(beside), "uv"), "uv")
    return (
        Fact(
            name="environments",
            argv=("sh", "-c", _FIND_ENVIRONMENTS, "sh", environments or ""),
            parse=_parse_environments,
            environment=("CUBE_CACHE_DIR", "XDG_CACHE_HOME", "HOME", "PWD"),
        ),
        Fact(
            name="pythons",
            argv=("sh", "-c", _ASK_ALL, "sh", _ASK, *names),
            parse=_parse_pythons,
            environment=("PATH", "PYENV_VERSION"),
            files=changing,
        ),
        Fact(name="uv", argv=("sh", "-c", _FIND_UV, "sh", *uv), parse=_parse_uv, environment=("PATH",), files=changing),
    )


def _parse_environments(answer: Answer) -> str | None:
    return os.path.normpath(answer.output) if answer.status == 0 and answer.output else None


def _parse_uv(answer: Answer) -> str | None:
    return answer.output.strip() or None


def _parse_pythons(answer: Answer) -> list[dict[str, Any]]:
    """Each interpreter once, in the order in which they were named."""
    lines = [line.split("\t") for line in answer.output.splitlines() if line.startswith("python\t")]
    found: dict[str, dict[str, Any]] = {}
    whole = [line for line in lines if len(line) == 9 and line[1].isdigit()]
    for _, _, path, base, version, implementation, platform, pip, ensurepip in sorted(
        whole, key=lambda line: int(line[1])
    ):
        told = {"path": path, "base": base, "version": version, "implementation": implementation}
        found.setdefault(base, told | {"platform": platform, "pip": pip, "ensurepip": ensurepip == "yes"})
    return list(found.values())


def choose(python: PythonEnvironment, host: Host) -> VirtualEnvironment:
    """The environment of a cube on a host, made of the lowest minor that the cube admits, as its image is.

    Raises Refused when no interpreter there will do.
    """
    everyone = [msgspec.convert(one, Interpreter) for one in host.get("pythons") or ()]
    admitted = [one for one in everyone if admits(python.version, one.version)]
    if not admitted:
        there = ", ".join(sorted({one.version for one in everyone})) or "none"
        raise Refused(
            f"the cube needs Python `{python.version}`, and this machine has {there}",
            hint="install one that fits, or use `--platform docker`",
        )
    uv = host.get("uv")
    able = [one for one in admitted if uv or one.pip_reaches_out or one.ensurepip]
    if not able:
        raise Refused(
            f"`{admitted[0].path}` has neither pip nor ensurepip, so that no environment can be made of it",
            hint="install uv with `pip install uv`, or on Debian `apt install python3-venv`",
        )
    lowest = min(able, key=lambda one: int(one.version.split(".")[1]))
    return VirtualEnvironment(root=host["environments"], interpreter=lowest, requirements=python.requirements, uv=uv)


def make(environment: VirtualEnvironment) -> Unless:
    """The step that makes an environment, unless it is there complete.

    The mark of completeness is a link to its interpreter: when that goes away, the mark leads nowhere
    and the environment is made anew.
    """
    mark = environment.path(".complete")
    plural = "" if environment.count == 1 else "s"
    return Unless(
        probe=Command(argv=("test", "-x", mark)),
        title=f"setting up the Python environment ({environment.count} requirement{plural})",
        lock=f"{environment.directory}.lock",
        steps=(
            # What an attempt that was killed left behind.
            Command(argv=("rm", "-rf", environment.directory)),
            _command(environment, *_create(environment)),
            *_install(environment),
            _command(environment, environment.path("bin/python"), "-I", "-c", _LIST_INSTALLED, installed(environment)),
            Command(argv=("ln", "-s", "bin/python", mark)),
        ),
    )


def installed(environment: VirtualEnvironment) -> str:
    """The file that lists what was installed, with versions."""
    return environment.path("installed.txt")


def _create(environment: VirtualEnvironment) -> tuple[str, ...]:
    interpreter, directory = environment.interpreter, environment.directory
    if environment.uv:
        return (environment.uv, "venv", "--quiet", "--no-project", "--python", interpreter.path, directory)
    without_pip = ("--without-pip",) if interpreter.pip_reaches_out else ()
    return (interpreter.path, "-I", "-m", "venv", *without_pip, directory)


def _install(environment: VirtualEnvironment) -> tuple[Step, ...]:
    if not environment.requirements.strip():
        return ()
    file, python = environment.path("requirements.txt"), environment.path("bin/python")
    # Bytecode is compiled now, because tasks write none: an environment does not change once it is complete.
    options = ("install", "--no-user", "--no-input", "--disable-pip-version-check", "-r", file)
    if environment.uv:
        argv: tuple[str, ...] = (environment.uv, "pip", "install", "--compile-bytecode", "--python", python, "-r", file)
    elif environment.interpreter.pip_reaches_out:
        argv = (environment.interpreter.path, "-I", "-m", "pip", "--python", python, *options)
    else:
        argv = (python, "-m", "pip", *options)
    hint = "see whether `python.requirements` in the cube can be met, and whether the package index can be reached"
    return WriteFile(path=file, text=environment.requirements), _command(environment, *argv, hint=hint)


def _command(environment: VirtualEnvironment, *argv: str, hint: str | None = None) -> Command:
    """With the caller's proxies and indexes, but not with packages of other places.

    It stands in the directory of environments, so that no configuration file of a cube steers uv.
    """
    own = {"PYTHONPATH": "", "PYTHONHOME": ""}
    return Command(argv=argv, environment=own, directory=environment.root, hint=hint)
