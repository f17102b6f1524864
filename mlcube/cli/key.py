"""`cube key`: a pair of keys, one that signs and one that verifies."""

import os
from contextlib import suppress
from typing import Annotated, Literal

from mlcube.cli import console
from mlcube.cli.arguments import Json
from mlcube.cli.declared import argument, option
from mlcube.cli.passphrase import asked
from mlcube.errors import CubeError, UsageError
from mlcube.source import read_text
from mlcube.trust.key_files import create, read_private
from mlcube.trust.keys import PublicKey, read_public

EXAMPLE = """\b
Examples:
  cube key create lab
  CUBE_KEY_PASSWORD=... cube key create lab
  cube key show --key lab.key >lab.pub
"""

Action = Annotated[Literal["create", "show"], argument(metavar="create|show")]
Name = Annotated[str | None, argument(metavar="[NAME]", help="writes NAME.key and NAME.pub; `cube` if left out")]
KeyFile = Annotated[str | None, option("--key", metavar="FILE", help="the key of which to show the public part")]


def command(action: Action, name: Name = None, key: KeyFile = None, as_json: Json = False) -> int:
    """Create a key pair (ECDSA P-256, the private one encrypted, in cosign's format), or show the public key of one."""
    if action == "create":
        if key is not None:
            raise UsageError("`create` takes a name, not `--key`", hint="cube key create lab")
        return _create(name or "cube", as_json)
    path = key or name
    if path is None or (key is not None and name is not None):
        raise UsageError("`show` takes one key", hint="cube key show --key lab.key")
    public = _public(path)
    if as_json:
        console.document({"public_key": public.pem, "fingerprint": public.fingerprint})
    else:
        console.result(public.pem.rstrip("\n"))
        console.note(f"fingerprint {public.fingerprint}")
    return 0


def _public(path: str) -> PublicKey:
    """The public key in a file, or that of the private key in it. `lab` stands for `lab.key`, as when it was made."""
    if not os.path.exists(path) and os.path.isfile(f"{path}.key"):
        path = f"{path}.key"
    text = ""
    with suppress(CubeError):  # what is wrong with a private key is told below
        text = read_text(path, path)
    if "-----BEGIN PUBLIC KEY-----" in text:
        return read_public(text, f"`{path}`")
    return read_private(path, lambda: asked(path)).public


def _create(name: str, as_json: bool) -> int:
    from mlcube.trust.keys import require

    require()
    if name.endswith((".key", ".pub")):
        bare = name[: -len(".key")]
        raise UsageError(
            f"`{name}` is to be the name alone: `.key` and `.pub` are added", hint=f"cube key create {bare}"
        )
    folder = os.path.dirname(name) or "."
    if not os.access(folder, os.W_OK | os.X_OK):
        why = "it cannot be written to" if os.path.isdir(folder) else "there is no such folder"
        raise CubeError(f"no key can be made in `{folder}`: {why}", hint="name another folder, or make this one")
    for path in (f"{name}.key", f"{name}.pub"):  # before anybody types a passphrase for nothing
        if os.path.lexists(path):
            raise CubeError(f"`{path}` is there already, and a key is never overwritten", hint="choose another name")
    public = create(name, asked(f"{name}.key", twice=True))
    if as_json:
        files = {"private_key": f"{name}.key", "public_key": f"{name}.pub"}
        console.document({**files, "fingerprint": public.fingerprint})
        return 0
    console.result(f"{name}.key  signs, and is yours alone")
    console.result(f"{name}.pub  verifies, and is for everybody")
    console.note(f"fingerprint {public.fingerprint}")
    return 0
