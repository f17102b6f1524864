"""The passphrase of a key: out of a variable, else asked for at the terminal; it has no option, and is never shown."""

import os

from mlcube.errors import UsageError
from mlcube.withheld import PASSWORD

__all__ = ["asked"]


def asked(path: str, *, twice: bool = False) -> str:
    """The passphrase for a key. What is started afterwards does not inherit it."""
    given = os.environ.pop(PASSWORD, None)
    if given is not None:
        return given
    from getpass import getpass

    if not os.isatty(0):
        raise UsageError(f"nobody can be asked for the passphrase of `{path}`", hint=f"set {PASSWORD}")
    try:
        first = getpass(f"passphrase for {path}: ")
        if twice and getpass("the same again: ") != first:
            raise UsageError("the two passphrases differ", hint="once more")
    except EOFError:
        raise UsageError(f"no passphrase was given for `{path}`", hint=f"or set {PASSWORD}") from None
    return first
