"""Who made a cube, and whether this machine takes that for enough: keys, signatures and the policy.

`mlcube.trust.policy` decides, `signing` makes and verifies signatures, `registries` finds them. What is asked on every
run stands here, and imports nothing: whether there is a policy at all.
"""

import os

from mlcube import directories

__all__ = ["VARIABLE", "in_force", "policy_path"]

VARIABLE = "CUBE_TRUST"
"""The variable that names another policy file, for everything that is run with it."""


def policy_path() -> str:
    """The file that `$CUBE_TRUST` names, else `trust.yaml` in the config directory."""
    return os.path.expanduser(os.environ.get(VARIABLE, "")) or os.path.join(directories.config(), "trust.yaml")


def in_force() -> bool:
    """Whether there is a policy; one that is named must be there, and counts before it is.

    So does one of which nobody may know whether it is there: only where there is none, there is none.
    """
    if os.environ.get(VARIABLE):
        return True
    try:
        os.lstat(policy_path())
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True
