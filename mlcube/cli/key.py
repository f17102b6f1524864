"""`cube key`: a pair of keys, one that signs and one that verifies."""

from typing import Annotated, Literal

from mlcube.cli import console
from mlcube.cli.arguments import Json
from mlcube.cli.declared import argument, option
from mlcube.cli.passphrase import asked
from mlcube.errors import UsageError
from mlcube.trust.key_files import create, read_private

EXAMPLE = """\b
Examples:
  cube key create lab
  CUBE_KEY_PASSWORD=... cube key create lab
  cube key show --key lab.key >lab.pub
"""

Action = Annotated[Literal["create", "show"], argument(metavar="create|show")]
Name = Annotated[str | None, argument(metavar="[NAME]", help="writes NAME.key and NAME.pub; `cube` if left out")]
KeyFile = Annotated[str | None, option("--key", metavar="FILE", help="the private key of which to show the public one")]


def command(action: Action, name: Name = None, key: KeyFile = None, as_json: Json = False) -> int:
    """Create a key pair (ECDSA P-256, the private one encrypted, in cosign's format), or show the public key of one."""
    if action == "create":
        if key is not None:
            raise UsageError("`create` takes a name, not `--key`", hint="cube key create lab")
        return _create(name or "cube", as_json)
    path = key or name
    if path is None or (key is not None and name is not None):
        raise UsageError("`show` takes one private key", hint="cube key show --key lab.key")
    public = read_private(path, lambda: asked(path)).public
    if as_json:
        console.document({"public_key": public.pem, "fingerprint": public.fingerprint})
    else:
        console.result(public.pem.rstrip("\n"))
        console.note(f"fingerprint {public.fingerprint}")
    return 0


def _create(name: str, as_json: bool) -> int:
    import os

    from mlcube.errors import CubeError
    from mlcube.trust.keys import require

    require()
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
