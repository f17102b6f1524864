"""What the policy of this machine asks of a cube that is about to be run, carried away or made available."""

from collections.abc import Sequence

from mlcube.cli.naming import Named
from mlcube.cube import Cube

__all__ = ["check_allowed", "check_covered"]


def check_allowed(named: Named, of_cube: Sequence[str]) -> None:
    """Raises Untrusted, before the cube is read. What was brought here was asked about then; a path is now."""
    if named.obtained is None:
        from mlcube.obtaining.admitting import admit_path

        admit_path(named.path)
    elif named.obtained.admission is not None:
        from mlcube.trust.covering import check_overrides

        check_overrides(named.obtained.admission, of_cube)


def check_covered(named: Named, cube: Cube) -> None:
    """Raises Untrusted for an image that the cube's signature does not cover, where the policy asks for one."""
    if named.obtained is not None and named.obtained.admission is not None:
        from mlcube.trust.covering import check_image

        check_image(named.obtained.admission, cube)
