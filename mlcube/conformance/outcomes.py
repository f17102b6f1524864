"""How a test tells that a promise is not kept here, and that this is in order: refused, or excepted by its words."""

import pytest

from mlcube.conformance.rendering import Rendering
from mlcube.invocation import Invocation

__all__ = ["EXCEPTED", "PERFORMED", "REFUSED", "excepted", "unless_refused"]

REFUSED = "refused: "
EXCEPTED = "excepted: "
"""What the reason of a skipped test begins with; the table of results is made of it."""

PERFORMED = pytest.mark.parametrize("way", ["perform", "script"])
"""By `cube run`, and by the script that `--dry-run` prints."""


def unless_refused(rendering: Rendering, invocation: Invocation) -> Invocation:
    """Go on only with what the runner takes on; a refusal must say what to do, and rendering must know of it."""
    if reason := rendering.refusal(invocation):
        pytest.skip(f"{REFUSED}{reason}")
    return invocation


def excepted(reason: str) -> None:
    """End a test of a promise that excepts this runner."""
    pytest.skip(f"{EXCEPTED}{reason}")
