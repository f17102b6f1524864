"""Asks the programs that keep logins: `docker-credential-NAME get`, the address on stdin, JSON on stdout."""

from typing import TYPE_CHECKING, Any

import msgspec

from mlcube.errors import Denied
from mlcube.withheld import without_password

if TYPE_CHECKING:
    from mlcube.registry.credentials import Login

__all__ = ["ask_helper"]

_TIMEOUT_SECONDS = 60.0
_ABSENT = "credentials not found"


def ask_helper(name: str, address: str) -> "Login | None":
    """The login that the helper has for an address; None when it has none. Its output is never shown."""
    import subprocess

    from mlcube.registry.credentials import Login

    program = f"docker-credential-{name}"
    if "/" in name:
        raise Denied(f"`{name}` is no name of a credential helper")
    try:
        done = subprocess.run(
            (program, "get"), input=address.encode(), capture_output=True, timeout=_TIMEOUT_SECONDS, check=False,
            env=without_password(),
        )  # fmt: skip
    except OSError as error:
        raise Denied(
            f"the credential helper `{program}` cannot be started: {error.strerror}",
            hint="install it, or take it out of Docker's `config.json`",
        ) from None
    except subprocess.TimeoutExpired:
        raise Denied(f"the credential helper `{program}` does not answer within {_TIMEOUT_SECONDS:g} seconds") from None
    if done.returncode != 0:
        if _ABSENT in (done.stdout + done.stderr).decode(errors="replace").lower():
            return None
        raise Denied(
            f"the credential helper `{program}` has no login for `{address}`: it ends with status {done.returncode}",
            hint=f"log in with `docker login`, or look at: echo {address} | {program} get",
        )
    try:
        found: Any = msgspec.json.decode(done.stdout)
        return Login(str(found["Username"]), str(found["Secret"]))
    except (msgspec.MsgspecError, RecursionError, ValueError, LookupError, TypeError):
        raise Denied(f"the credential helper `{program}` does not answer as credential helpers do") from None
