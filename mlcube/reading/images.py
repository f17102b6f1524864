"""What the tasks run in: a container image and its recipe, or a Python environment."""

import os.path
import re
from typing import Any

from mlcube.cube import Image, PythonEnvironment, Recipe, Refusal
from mlcube.document import DockerFile, PythonFile
from mlcube.errors import CubeError
from mlcube.raw_arguments import VARIABLE, words
from mlcube.reading.report import Report
from mlcube.source import read_text

__all__ = ["entry_words", "image", "python_environment", "variables", "without_effect"]

_IMAGE = (
    r"(?:[A-Za-z0-9.-]+(?::\d+)?/)?[a-z0-9]+(?:[._/-]+[a-z0-9]+)*(?::[A-Za-z0-9_][\w.-]{0,127})?"
    r"(?:@sha256:[0-9a-f]{64})?"
)
"""A pattern, as those below, compiled only where it is needed: half a millisecond of every start each."""


def image(report: Report, root: str, docker: DockerFile, *, alone: bool, trust: bool) -> Image | None:
    """The image of the `docker:` section; `alone` when nothing else says what the tasks run in."""
    if docker.docker not in (None, "docker"):
        without_effect(report, "docker", "docker")
    if not docker.image:
        if alone and ("docker",) not in report.spoiled:
            report.error("`docker` needs an `image`", "docker", hint="docker: {image: owner/name:tag}")
        return None
    if "${" in docker.image:  # a reference to nothing, told already
        return None
    if not re.fullmatch(_IMAGE, docker.image):
        hint = "a name such as `owner/name:tag`, in lower case"
        if "://" in docker.image or docker.image.endswith((".tar", ".gz")):
            hint = "`docker load -i FILE` makes an image of an archive; then give its name with -P docker.image=NAME"
        report.error(f"`{docker.image}` is no name of an image", "docker", "image", hint=hint)
        return None
    context = os.path.normpath(os.path.join(root, docker.build_context or "."))
    recipe_file = os.path.normpath(os.path.join(context, docker.build_file or "Dockerfile"))
    named = variables(report, docker.build_args, "build_args", "--build-arg")
    recipe = None
    if os.path.isfile(recipe_file):
        recipe = Recipe(context=context, file=recipe_file, arguments=named)
    elif docker.build_file or docker.build_strategy == "always":
        shown = os.path.relpath(recipe_file, root)
        message = f"there is no Dockerfile `{shown}`"
        hint = "`build_file` is relative to `build_context`, which is relative to the cube"
        key = "build_file" if docker.build_file else "build_strategy"
        if docker.build_strategy == "always":
            report.error(message, "docker", key, hint=hint)
        else:
            report.warning(message, "docker", key, hint=hint)
    strategy = docker.build_strategy or "auto"
    refused = () if trust or recipe is None or strategy == "pull" else _far_away(report, root, docker, recipe)
    return Image(reference=docker.image, recipe=recipe, strategy=strategy, refused=refused)


def _far_away(report: Report, root: str, docker: DockerFile, recipe: Recipe) -> tuple[Refusal, ...]:
    """Why an image may not be built of what lies neither in the cube nor beside it: anything could get into it."""
    beside = os.path.dirname(os.path.realpath(root))
    for key, path in (("build_context", recipe.context), ("build_file", recipe.file)):
        if not _is_inside(path, beside):
            written = getattr(docker, key) or os.path.basename(path)
            message = f"the image would be built of `{written}`, which lies neither in the cube nor beside it"
            return (Refusal(message=message, position=report.where(("docker", key), False)),)
    return ()


def _is_inside(path: str, folder: str) -> bool:
    """Whether a path, with links followed, is a folder or lies in it."""
    path, folder = os.path.realpath(path), os.path.realpath(folder)
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def without_effect(report: Report, section: str, key: str) -> None:
    """Warn of a key by which a cube would choose how the host is driven."""
    message = f"`{section}.{key}` has no effect: which executable to use is the machine's own matter"
    hint = "set `executable` of a platform in the settings"
    report.warning(message, section, key, hint=hint)


def variables(report: Report, written: "dict[str, Any] | str | None", key: str, flag: str) -> dict[str, str]:
    """Variables as a mapping, or as the text of the engine's own flags."""
    if isinstance(written, dict):
        shown = {name: report.layers.raw(("docker", key, name)) for name in written}
        return {
            name: "" if value is None else value if isinstance(value, str) else (shown[name] or str(value))
            for name, value in written.items()
        }
    result = {}
    try:
        queue = words(written or "")
    except ValueError:
        report.error(f"the quotes in `{written}` do not match", "docker", key)
        return {}
    for word in (part.removeprefix(f"{flag}=") for part in queue if part != flag):
        name, equals, value = word.partition("=")
        if not equals or not VARIABLE.fullmatch(name):
            report.error(f"`{word}` is no `NAME=value`", "docker", key, hint=f"docker: {{{key}: {{NAME: value}}}}")
        result[name] = value
    return result


def python_environment(report: Report, root: str, python: PythonFile) -> PythonEnvironment:
    """The environment of the `python:` section."""
    from mlcube.python_versions import lowest_admitted

    version = report.text(python.version, "python", "version") or ">=3.10"
    try:
        lowest_admitted(version)
    except ValueError as error:
        report.error(str(error), "python", "version", hint='write a range such as ">=3.10,<3.13"')
    source = os.path.normpath(os.path.join(root, python.source or "."))
    if not os.path.isdir(source) or not _is_inside(source, root):
        hint = "the code lies in the cube's own folder, or in one below it, as in `source: src`"
        report.error(f"there is no folder `{python.source}` in the cube", "python", "source", hint=hint)
    if python.image and not re.fullmatch(_IMAGE, python.image):
        report.error(f"`{python.image}` is no name of an image", "python", "image")
    entrypoint = entry_words(report, python.entrypoint, "python", "entrypoint")
    return PythonEnvironment(
        version=version,
        requirements=_requirements(report, root, python.requirements),
        source=source,
        excluded=_no_code(source, root),
        image=python.image,
        entrypoint=entrypoint,
    )


def _no_code(source: str, root: str) -> tuple[str, ...]:
    """What lies at the top of the code and is none of it: the cube's own workspace, and a lock, which tells of it."""
    names = ("workspace",) if os.path.realpath(source) == os.path.realpath(root) else ()
    return (*names, "mlcube.lock") if os.path.isfile(os.path.join(source, "mlcube.lock")) else names


def _requirements(report: Report, root: str, written: str | list[str] | None) -> str:
    if isinstance(written, list):
        for index, line in enumerate(written):
            known = re.fullmatch(_REQUIREMENT, line.strip(), re.DOTALL)
            broken = line.strip().startswith(("-", "#")) or "\n" in line or not known
            if broken or _of_this_machine(line):
                number = report.item(("python", "requirements"), index)
                hint = "write the requirement's name and range, or use a requirements file"
                report.error(f"`{line}` is no requirement", "python", "requirements", number, hint=hint)
        return "".join(f"{line.strip()}\n" for line in written)
    if written is None:
        return ""
    hint = "a file in the cube, or a list such as [numpy, pandas>=2]"
    if not _is_inside(os.path.join(root, written), root):
        report.error(f"the file `{written}` does not lie in the cube", "python", "requirements", hint=hint)
        return ""
    try:
        text = read_text(os.path.join(root, written), written)
    except CubeError as error:
        report.error(error.problems[0].message, "python", "requirements", hint=hint)
        return ""
    for number, line in enumerate(text.splitlines(), 1):
        if _of_this_machine(line):
            message = f"line {number} of `{written}` refers to another file: `{line.strip()}`"
            hint = "write its lines into this one, and code of your own into the cube's source"
            report.error(message, "python", "requirements", hint=hint)
    return text


# A name with extras, then nothing, a range or an address, then perhaps a marker and a comment; or an address alone.
_REQUIREMENT = r"(?:[\w.-]+\s*(?:\[[^\]]*\])?\s*(?:@\s*\S+|[(~=!<>][^;#]*)?|\S*://\S*)\s*(?:;[^#]*)?(?:\s#.*)?"
_OPTION_WITH_FILE = r"(?:-[rcef]|--(?:requirement|constraint|editable|find-links)(?![a-z-]))[\s=]*(?P<place>.*)"
_ARCHIVES = (".whl", ".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


def _of_this_machine(line: str) -> bool:
    """Whether a requirement is a file or folder of the machine on which it was written."""
    line = re.sub(r"(^|\s)#.*", "", line).strip()
    if option := re.match(_OPTION_WITH_FILE, line):
        links = line.startswith(("-f", "--find-links")) and "://" in option["place"]
        return not links or option["place"].lower().startswith("file:")
    if line.startswith("-"):
        return False
    if "://" in line:
        return re.search(r"(?:^|[\s@+])file:", line, re.IGNORECASE) is not None
    place = line.partition(";")[0].partition(" --")[0].rpartition("@")[2].strip().lower()
    return "/" in place or place.startswith((".", "~", "file:")) or place.endswith(_ARCHIVES)


def entry_words(report: Report, written: str | list[str] | None, *key: str | int) -> tuple[str, ...]:
    """An entrypoint as words; quotes are respected."""
    if written is None:
        return ()
    try:
        found = tuple(words(written))
    except ValueError:
        report.error(f"the quotes in `{written}` do not match", *key, hint="quote both ends, or write a list")
        return ()
    if (not found or not found[0]) and key not in report.spoiled:
        report.error("`entrypoint` is empty", *key, hint="leave it out to use the image's own")
    if any("\0" in word for word in found):
        report.error("`entrypoint` holds a null character", *key)
    return found
