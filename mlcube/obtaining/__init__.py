"""From a reference to a cube's folder: brought if it must be, verified in any case."""

from mlcube.obtaining.cubes import Obtained, obtain

__all__ = ["Obtained", "obtain"]
