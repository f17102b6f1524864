"""What a signature must cover where the policy asks for one: nothing that runs may come from anywhere else."""

import os
import re
from collections.abc import Iterator, Sequence

import msgspec

from mlcube import directories, files, oci
from mlcube.cube import Cube, PythonEnvironment, Recipe
from mlcube.errors import Untrusted
from mlcube.invocation import Invocation
from mlcube.runner import Host, Runner
from mlcube.trust.policy import Admission
from mlcube.trust.recipes import by_digest, moving_base, moving_part

__all__ = [
    "as_signed",
    "check_base",
    "check_image",
    "check_made",
    "check_overrides",
    "check_python",
    "check_requirements",
]

_HASH = re.compile(r"\s--hash[=\s]sha(?:256|384|512):[0-9a-f]{64,128}(?:\s|\Z)")
_OPTIONS = (
    *("-i", "--index-url", "--extra-index-url", "--no-index", "-f", "--find-links", "--trusted-host"),
    *("--require-hashes", "--only-binary", "--prefer-binary", "--pre"),
)
"""Those by which packages with hashes do not become others."""
_LOCK = "mlcube.lock"
_ONLY_HASHES = "--require-hashes\n--only-binary :all:\n"
"""Heeded by pip and uv. What is built fetches tools that have no hash, and an index may hide what is built already."""


class _Requirements(msgspec.Struct):
    asked: str
    exact: tuple[str, ...]


class _Lock(msgspec.Struct):
    """What is needed here of a lock that was published with a cube."""

    requirements: _Requirements | None = None


def check_overrides(admission: Admission | None, given: Sequence[str]) -> None:
    """Raises Untrusted for what `-P` would change of a cube that must be as it was signed."""
    if admission is not None and admission.signed and given:
        key = given[0].partition("=")[0]
        raise Untrusted(
            f"`-P {key}` changes a cube that {admission.policy} wants as it was signed",
            hint="parameters are given as name=value, what concerns this machine as -P runner.OPTION=VALUE",
        )


def check_image(admission: Admission | None, cube: Cube) -> None:
    """Raises Untrusted for an image that the signature does not cover.

    Covered is what the cube names by digest, what it holds itself, and what is built anew out of its own recipe, if
    that takes images by digest.
    """
    if admission is None or not admission.signed:
        return
    image = cube.image
    # An engine's own image can be named by its digest alone.
    if image is not None and not (by_digest(image.reference) or oci.is_digest(image.reference)):
        if image.recipe is None or image.strategy != "always":
            _refuse(admission, image.reference)
        else:
            _check_recipe(admission, cube.root, image.recipe)
    own, build_file, directory = (str(cube.singularity.get(key) or "") for key in ("image", "build_file", "image_dir"))
    place = os.path.join(cube.root, directory, own)
    if own and (own.endswith(".sif") or not by_digest(own) or ((directory or build_file) and "://" not in own)):
        roots = (cube.root, os.path.join(directories.cache(), "bundles")) if admission.whole else (cube.root,)
        if not (own.endswith(".sif") and any(_within(root, place) for root in roots) and os.path.isfile(place)):
            _refuse(admission, own)
    elif build_file and not own:
        _check_definition(admission, cube.root, build_file)


def _check_recipe(admission: Admission, root: str, recipe: Recipe) -> None:
    for path in (recipe.context, recipe.file):
        if not _within(root, path):
            _refuse(admission, path)
    if moving := moving_part(recipe.file, recipe.arguments):
        raise Untrusted(
            f"the signature that {admission.policy} asks for does not cover `{moving}`, which may be any, and of which"
            f" `{os.path.relpath(recipe.file, root)}` makes the image",
            hint="write it by digest, as in `FROM name@sha256:...`; or publish the cube with its image",
        )


def _check_definition(admission: Admission, root: str, build_file: str) -> None:
    if by_digest(build_file):
        return
    place = os.path.join(root, build_file)
    if "://" in build_file or not (_within(root, place) and os.path.isfile(place)):
        _refuse(admission, build_file)
    if moving := moving_base(place):
        _refuse(admission, moving)


def as_signed(admission: Admission | None, cube: Cube) -> Cube:
    """The cube with the requirements that its signature covers to the letter, if it says them at all.

    They are its own where each has a hash, else those of the lock that was published with it. Nothing without a hash,
    and nothing that is yet to be built, is installed besides.
    """
    if admission is None or not admission.signed or cube.python is None:
        return cube
    for text in (cube.python.requirements, _locked(cube)):
        if text is not None and text.strip() and unhashed(text) is None:
            return msgspec.structs.replace(
                cube, python=msgspec.structs.replace(cube.python, requirements=_ONLY_HASHES + text)
            )
    return cube


def check_made(
    admission: Admission | None,
    invocation: Invocation,
    runner: Runner,
    host: Host,
    *,
    whole: bool,
    given: str | None,
) -> None:
    """`check_python` of what a runner would make for an invocation, where a signature is asked for."""
    if admission is None or not admission.signed or invocation.python is None:
        return
    fact = runner.identify(invocation, host)
    image = invocation.image if fact is None or fact.name == "image" else None
    check_python(admission, invocation.python, image, whole=whole, given=given)


def check_python(
    admission: Admission, python: PythonEnvironment, image: str | None, *, whole: bool = False, given: str | None = None
) -> None:
    """Raises Untrusted for an environment, or with `image` for the image of that name, which would be made of anything.

    `whole`: the packages come from a bundle that was signed as a whole, or the image does that is `given` a name.
    """
    if not whole:
        check_requirements(admission, python)
    if image is not None and not (whole and given == image):
        check_base(admission, python)


def check_requirements(admission: Admission | None, python: PythonEnvironment | None) -> None:
    """Raises Untrusted for a package that could be any, as one without a hash could."""
    if admission is None or not admission.signed or python is None:
        return
    if line := unhashed(python.requirements):
        raise Untrusted(
            f"the signature that {admission.policy} asks for does not cover the requirement `{line}`, which may be any",
            hint="publish the cube with its lock: cube lock && cube publish . oci://... --sign; or requirements with"
            " their hashes, name==version --hash=sha256:...",
        )


def check_base(admission: Admission | None, python: PythonEnvironment | None) -> None:
    """Raises Untrusted for the image of a `python:` cube that would be built on one which may be any."""
    if admission is None or not admission.signed or python is None:
        return
    if python.image is None or not by_digest(python.image):
        base = f"`{python.image}`" if python.image else "the official one of Python"
        raise Untrusted(
            f"the signature that {admission.policy} asks for does not cover the base image, {base}, which may be any",
            hint="name it by digest, `python: {image: name@sha256:...}`; or run it without an image: --platform local",
        )


def unhashed(requirements: str) -> str | None:
    """The first line of a requirements file that names no content by hash; None when there is none."""
    for line in _lines(requirements):
        name = line.split(maxsplit=1)[0].partition("=")[0] if line.startswith("-") else ""
        if name:
            if name not in _OPTIONS:
                return line
        elif not _HASH.search(line) or (
            "://" in (place := line.partition(" --hash")[0]) and not place.strip().endswith(".whl")
        ):
            return line
    return None


def _lines(text: str) -> Iterator[str]:
    """Continued lines as one, without comments."""
    for line in re.sub(r"\\[ \t]*\r?\n", " ", text).splitlines():
        if bare := re.sub(r"(^|\s)#.*", "", line).strip():
            yield bare


def _locked(cube: Cube) -> str | None:
    """The exact requirements of the lock beside the cube's file, if it was made of what the cube asks for."""
    stated = cube.python.requirements if cube.python is not None else ""
    try:
        content = files.read_small(os.path.join(cube.root, _LOCK))
        found = msgspec.json.decode(content, type=_Lock).requirements
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if found is None or found.asked != oci.digest_of(stated.encode()):
        return None
    return "".join(f"{line}\n" for line in found.exact)


def _refuse(admission: Admission, image: str) -> None:
    raise Untrusted(
        f"the signature that {admission.policy} asks for does not cover the image `{image}`, which may be any",
        hint="publish the cube with its image, which pins it by digest, or with `build_strategy: always`",
    )


def _within(root: str, path: str) -> bool:
    root = os.path.realpath(root)
    return os.path.commonpath((root, os.path.realpath(path))) == root
