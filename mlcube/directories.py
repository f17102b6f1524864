"""Where settings, state and cache lie: the XDG directories, each with one variable that overrides it."""

import os

__all__ = ["cache", "config", "settings_file", "state"]


def config() -> str:
    """What the user wrote: `$CUBE_CONFIG_DIR`, else `mlcube` in `$XDG_CONFIG_HOME`."""
    return _directory("CUBE_CONFIG_DIR", "XDG_CONFIG_HOME", ".config")


def state() -> str:
    """What is worth keeping, as the records of runs: `$CUBE_STATE_DIR`, else `mlcube` in `$XDG_STATE_HOME`."""
    return _directory("CUBE_STATE_DIR", "XDG_STATE_HOME", ".local/state")


def cache() -> str:
    """What can always be deleted: `$CUBE_CACHE_DIR`, else `mlcube` in `$XDG_CACHE_HOME`."""
    return _directory("CUBE_CACHE_DIR", "XDG_CACHE_HOME", ".cache")


def settings_file() -> str:
    """The settings of this machine: `$MLCUBE_SYSTEM_SETTINGS`, else `settings.yaml` in the config directory."""
    return os.environ.get("MLCUBE_SYSTEM_SETTINGS") or os.path.join(config(), "settings.yaml")


def _directory(variable: str, xdg: str, fallback: str) -> str:
    if own := os.environ.get(variable):
        return os.path.abspath(os.path.expanduser(own))
    base = os.environ.get(xdg, "")
    if not os.path.isabs(base):  # the XDG specification: relative paths are ignored
        base = os.path.join(os.path.expanduser("~"), fallback)
    return os.path.join(base, "mlcube")
