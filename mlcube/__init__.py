"""Package a model once, run it anywhere.

>>> import mlcube
>>> run = mlcube.load("examples/digits").run("train", epochs=5)  # doctest: +SKIP
"""

__version__ = "0.1.0"

__all__ = ["Cube", "CubeError", "Run", "TaskFailed", "__version__", "load", "wait"]

TYPE_CHECKING = False  # typing itself costs more to import than asking `cube` for its version may
if TYPE_CHECKING:
    from mlcube.api import Cube, Run, TaskFailed, load, wait
    from mlcube.errors import CubeError

_PLACES = {
    "Cube": "mlcube.api",
    "CubeError": "mlcube.errors",
    "Run": "mlcube.api",
    "TaskFailed": "mlcube.api",
    "load": "mlcube.api",
    "wait": "mlcube.api",
}


def __getattr__(name: str) -> object:
    """Public names are imported when they are first used."""
    if name not in _PLACES:
        raise AttributeError(f"module `mlcube` has no attribute `{name}`")
    from importlib import import_module

    found: object = getattr(import_module(_PLACES[name]), name)
    return found
