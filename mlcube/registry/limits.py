"""How long a registry is waited for, and how slow it may be."""

import os

import msgspec

from mlcube.errors import UsageError

__all__ = ["Limits"]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a registry is granted. The defaults are those of the command line."""

    patience_seconds: float = 60.0
    """How long it is asked again while nothing comes of it."""
    first_seconds: float = 3.0
    """How long while there was never a connection to it: most likely its name is wrong, or it does not run."""
    first_pause_seconds: float = 1.0
    """Before the first time that it is asked again; doubled from then on."""
    answer_seconds: float = 30.0
    """How long it may be silent: for its answer to begin, and between any two bytes."""
    pace_bytes: float = 1024.0
    """Bytes per second that it must send or take at the least; 0: any."""
    pace_seconds: float = 30.0
    """The time over which that pace is measured."""

    @staticmethod
    def from_environment() -> "Limits":
        """What the `CUBE_REGISTRY_...` variables say, else the defaults. Raises UsageError."""
        usual = Limits()
        return Limits(
            patience_seconds=_seconds("CUBE_REGISTRY_PATIENCE", usual.patience_seconds),
            first_seconds=_seconds("CUBE_REGISTRY_PATIENCE", usual.first_seconds),
            first_pause_seconds=_seconds("CUBE_REGISTRY_PAUSE", usual.first_pause_seconds),
            answer_seconds=_seconds("CUBE_REGISTRY_TIMEOUT", usual.answer_seconds) or usual.answer_seconds,
            pace_bytes=_seconds("CUBE_REGISTRY_PACE", usual.pace_bytes),
            pace_seconds=_seconds("CUBE_REGISTRY_PACE_WINDOW", usual.pace_seconds) or usual.pace_seconds,
        )


def _seconds(variable: str, usual: float) -> float:
    text = os.environ.get(variable, "").strip()
    if not text:
        return usual
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found < 1e9:
        raise UsageError(f"`{variable}` is `{text}`, which is no number of 0 or more", hint=f"unset {variable}")
    return found
