"""What else a repository has where a tag is not there: most often the tag that was meant."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlcube.errors import CubeError, MissingInput, did_you_mean

if TYPE_CHECKING:
    from mlcube.registry.client import Registry

__all__ = ["suggesting"]

_BESIDE = re.compile(r"sha256-[0-9a-f]{64}(\.[a-z]+)?|.*-image")
"""Tags of signatures, referrers and images that lie beside a cube."""
_FEW = 6


@contextmanager
def suggesting(registry: "Registry", reference: str) -> Iterator[None]:
    """Add the tags that are there to the error that says that a tag is not."""
    try:
        yield
    except MissingInput as error:
        hint = None if ":" in reference else _hint(registry, reference)
        raise MissingInput(str(error.args[0]), hint=hint or error.hint) from None


def _hint(registry: "Registry", tag: str) -> str | None:
    try:
        tags = [each for each in registry.tags() if not _BESIDE.fullmatch(each)]
    except CubeError:  # no such repository, or nobody may list it: the first error says enough
        return None
    if not tags:
        return None
    some = ", ".join(f"`{each}`" for each in sorted(tags)[-_FEW:])
    among = "among its tags are" if len(tags) > _FEW else "its tags are"
    if tag == "latest":
        return f"without a tag `latest` is meant; {among} {some}"
    hint = did_you_mean(tag, tags)
    return hint if hint and hint.startswith("did") else f"{among} {some}"
