"""An image for a cube that has a `python:` section and no Dockerfile."""

import msgspec

from mlcube.cube import SOURCE, PythonEnvironment
from mlcube.errors import Refused
from mlcube.invocation import Invocation
from mlcube.plan import Step, WriteFile, command
from mlcube.workspace import EXCLUDED

__all__ = ["base_image", "context_directory", "dockerfile", "hint_after_build", "write_context"]


def base_image(python: PythonEnvironment) -> str:
    """The image that it starts from: the author's, else the official one of the lowest version admitted."""
    if python.image:
        return python.image
    from mlcube.python_versions import lowest_admitted

    try:
        return f"python:{lowest_admitted(python.version)}-slim"
    except ValueError as error:
        raise Refused(str(error), hint='write the range as in `python: {version: ">=3.10"}`') from error


def dockerfile(python: PythonEnvironment) -> str:
    """The recipe: dependencies before the code, so that a change of the code does not install them again."""
    lines = [
        f"FROM {base_image(python)}",
        "USER 0",  # so that packages land where every user's Python finds them
        "ENV PYTHONUNBUFFERED=1",  # so that progress is seen when it is made
        f"WORKDIR {SOURCE}",
    ]
    if python.requirements.strip():
        install = ["python", "-m", "pip", "install", "--no-cache-dir", "--disable-pip-version-check"]
        install += ["--requirement", "/mlcube/requirements.txt"]
        lines += [
            "COPY requirements.txt /mlcube/requirements.txt",
            "ARG PIP_ROOT_USER_ACTION=ignore",
            f"RUN {msgspec.json.encode(install).decode()}",
        ]
    lines.append(f"COPY source {SOURCE}")
    return "\n".join(lines) + "\n"


def context_directory(invocation: Invocation) -> str:
    """Where the build context is put together; it is there only while the image is built."""
    return f"{invocation.scratch}.context"


def hint_after_build(python: PythonEnvironment) -> str:
    """What to do when the build fails; most often, the base image could not be had."""
    return (
        f"if `{base_image(python)}` cannot be pulled, name another base image: `python: {{image: ...}}`, or"
        " `-P python.image=...`; or run without an image: `--platform local`"
    )


def write_context(invocation: Invocation, python: PythonEnvironment) -> tuple[Step, ...]:
    """The steps that put the build context together.

    The code is copied through tar, which can leave things out; the Dockerfile's COPY then gives it to root, whatever
    the ids of its files on this machine, and `chmod` lets every user of the image read it.
    """
    context = context_directory(invocation)
    archive, source = f"{context}/source.tar", f"{context}/source"
    # An archive's names begin with `./`, which holds the second kind to the top.
    excluded = [f"--exclude={pattern}" for pattern in (*EXCLUDED, *(f"./{name}" for name in python.excluded))]
    return (
        command("mkdir", "-p", "-m", "700", context),
        command("mkdir", "-p", source),
        command("tar", "-cf", archive, *excluded, "-C", python.source, "."),
        command("tar", "-xf", archive, "-C", source),
        command("rm", "-f", archive),
        command("chmod", "-R", "a+rX", source),
        WriteFile(path=f"{context}/requirements.txt", text=python.requirements),
        WriteFile(path=f"{context}/Dockerfile", text=dockerfile(python)),
    )
