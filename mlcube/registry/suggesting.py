"""What else a repository has where a tag is not there: most often the tag that was meant."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlcube.errors import CubeError, MissingInput, closest

if TYPE_CHECKING:
    from mlcube.registry.client import Registry

__all__ = ["suggesting"]

_BESIDE = re.compile(r"sha256-[0-9a-f]{64}(\.[a-z]+)?|.*-image")
"""Tags of signatures, referrers and images that lie beside a cube."""
_FEW = 6


@contextmanager
def suggesting(registry: "Registry", reference: str) -> Iterator[None]:
    """Say of a tag or digest that is not there whether its repository is, and which tags that has."""
    try:
        yield
    except MissingInput as error:
        raise _told(registry, reference, error) from None


def _told(registry: "Registry", reference: str, error: MissingInput) -> CubeError:
    place = registry.repository
    try:
        tags = [each for each in registry.tags() if not _BESIDE.fullmatch(each)]
    except MissingInput:
        return MissingInput(
            f"there is no repository `{place.name}` at `{place.host}`",
            hint=f"check the name; what others may not see is shown after `docker login {place.host}`",
        )
    except CubeError:  # nobody may list it: the first error says enough
        return error
    what = f"digest `{reference}`" if ":" in reference else f"tag `{reference}`"
    return MissingInput(f"`{place}` has no {what}", hint=_hint(tags, reference))


def _hint(tags: list[str], reference: str) -> str:
    if not tags:
        return "it has no tags at all"
    some = ", ".join(f"`{each}`" for each in sorted(tags)[-_FEW:])
    among = f"among its tags are {some}" if len(tags) > _FEW else f"its tags are {some}"
    if reference == "latest":
        return f"without a tag `latest` is meant; {among}"
    near = None if ":" in reference else closest(reference, tags)
    return f"did you mean `{near}`?" if near else among
