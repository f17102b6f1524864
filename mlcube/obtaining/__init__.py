"""From a reference to a cube's folder: brought if it must be, verified in any case."""

from mlcube.obtaining.cubes import Obtained, obtain
from mlcube.obtaining.asking import Asking

__all__ = ["Asking", "Obtained", "obtain"]
