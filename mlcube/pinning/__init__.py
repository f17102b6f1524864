"""`mlcube.lock`: exactly what is run, and the differences to what would be run now."""

from mlcube.pinning.lockfile import FILE_NAME, Lock, read_lock

__all__ = ["FILE_NAME", "Lock", "read_lock"]
