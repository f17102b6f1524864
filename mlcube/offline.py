"""Whether the network may be used: `--offline` and `CUBE_OFFLINE=1` forbid it."""

import os

__all__ = ["offline", "set_offline"]

_NO = ("", "0", "false", "no", "off")
_said: bool | None = None


def offline() -> bool:
    """Whether no network call may be made: what was set last, else what `CUBE_OFFLINE` says."""
    if _said is not None:
        return _said
    return os.environ.get("CUBE_OFFLINE", "").strip().lower() not in _NO


def set_offline(value: bool | None = True) -> None:
    """Forbid or allow the network for this process; None leaves it to `CUBE_OFFLINE` again."""
    global _said  # noqa: PLW0603 - one network, one answer
    _said = value
