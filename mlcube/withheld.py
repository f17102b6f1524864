"""The passphrase of a signing key, as it may stand in the environment.

Nothing that is started needs it, and a package that is being built could keep it.
"""

import os
from collections.abc import Mapping

__all__ = ["PASSWORD", "without_password"]

PASSWORD = "CUBE_KEY_PASSWORD"  # noqa: S105 - the name of the variable
"""The variable that gives it where nobody can be asked."""


def without_password(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables that others may have."""
    return {name: value for name, value in environment.items() if name != PASSWORD}
