"""What a signature must cover where the policy asks for one: nothing that runs may come from anywhere else."""

import os
import re
from collections.abc import Sequence

from mlcube import directories
from mlcube.cube import Cube
from mlcube.errors import Untrusted
from mlcube.trust.policy import Admission

__all__ = ["check_image", "check_overrides"]

_DIGEST = re.compile(r"(?:^|.@)sha256:[0-9a-f]{64}\Z")
"""Of a name with a digest, or of an image of an engine by its digest alone."""


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

    Covered is what the cube names by digest, what it holds itself, and what is built anew out of its own recipe.
    """
    if admission is None or not admission.signed:
        return
    image = cube.image
    if image is not None and not _by_digest(image.reference):
        if image.recipe is None or image.strategy != "always":
            _refuse(admission, image.reference)
        elif not _within(cube.root, image.recipe.context):
            _refuse(admission, image.recipe.context)
    own = str(cube.singularity.get("image") or "")
    if own and not _by_digest(own):
        place = os.path.join(cube.root, str(cube.singularity.get("image_dir") or ""), own)
        roots = (cube.root, os.path.join(directories.cache(), "bundles")) if admission.whole else (cube.root,)
        if not (own.endswith(".sif") and any(_within(root, place) for root in roots) and os.path.isfile(place)):
            _refuse(admission, own)


def _refuse(admission: Admission, image: str) -> None:
    raise Untrusted(
        f"the signature that {admission.policy} asks for does not cover the image `{image}`, which may be any",
        hint="publish the cube with its image, which pins it by digest, or with `build_strategy: always`",
    )


def _by_digest(reference: str) -> bool:
    return _DIGEST.search(reference) is not None


def _within(root: str, path: str) -> bool:
    root = os.path.realpath(root)
    return os.path.commonpath((root, os.path.realpath(path))) == root
