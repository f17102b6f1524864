"""What the policy of this machine asks of a cube that is about to be run, carried away or made available."""

from collections.abc import Sequence

from mlcube.cli.naming import Named
from mlcube.cube import Cube

__all__ = ["check_trust"]


def check_trust(named: Named, cube: Cube, of_cube: Sequence[str]) -> None:
    """Raises Untrusted. What was brought here was asked about before it was unpacked; a path is asked about now."""
    if named.obtained is None:
        from mlcube.obtaining.admitting import admit_path

        admit_path(named.path)
    elif named.obtained.admission is not None:
        from mlcube.trust.covering import check_image, check_overrides

        check_overrides(named.obtained.admission, of_cube)
        check_image(named.obtained.admission, cube)
