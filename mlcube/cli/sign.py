"""`cube sign`: a signature for what is published already."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from mlcube.cli import console
from mlcube.cli.arguments import Json
from mlcube.cli.declared import argument, option
from mlcube.cli.passphrase import asked
from mlcube.errors import CubeError, MissingInput, UsageError
from mlcube.oci import Descriptor
from mlcube.references import Reference, parse
from mlcube.registry import Registry, Repository, suggesting
from mlcube.trust.key_files import read_private
from mlcube.trust.keys import PrivateKey
from mlcube.trust.registries import publish, published
from mlcube.trust.signing import sign, verified_by

if TYPE_CHECKING:
    from mlcube.zoo import Found

__all__ = ["command", "in_registry", "key_of", "signing"]

EXAMPLE = """\b
Examples:
  cube sign oci://registry.example.org/group/digits:1.0 --key lab.key
  cube sign oci://registry.example.org/group/digits@sha256:... --key lab.key
  cube sign digits.cube --key lab.key
"""

ReferenceArgument = Annotated[str, argument(metavar="REF", help="a cube in a registry, its name in a zoo, or a bundle")]
KeyFile = Annotated[str, option("--key", metavar="FILE", help="the private key; its passphrase is asked for")]


def command(reference: ReferenceArgument, key: KeyFile, as_json: Json = False) -> int:
    """Sign a cube in a registry by its digest, as `cube verify` and `cosign verify` accept it; or all of a bundle."""
    parsed = parse(reference)
    if parsed.kind == "bundle":
        return _bundle(parsed.path or "", key_of(key), as_json)
    found, _ = in_registry(parsed)
    private = key_of(key)
    where = Repository.parse(found.repository or "")
    with Registry(where, write=True, report=console.note) as registry:
        # Read, not only asked for: what is signed is what the registry gives under this digest.
        wanted = found.digest or found.tag or "latest"
        with suggesting(registry, wanted):
            descriptor, _ = registry.manifest(wanted)
        signing(private)(registry, descriptor)
    pinned = f"oci://{where}@{descriptor.digest}"
    if as_json:
        console.document({"reference": pinned, "digest": descriptor.digest, "key": private.public.fingerprint})
    else:
        console.result(pinned)
        console.note(f"signed by {private.public.fingerprint}")
    return 0


def _bundle(path: str, key: PrivateKey, as_json: bool) -> int:
    from mlcube.bundling.signatures import sign_whole

    target, digest = sign_whole(path, key)
    if as_json:
        console.document({"reference": path, "digest": digest, "signature": target, "key": key.public.fingerprint})
    else:
        console.result(target)
        console.note(f"signed by {key.public.fingerprint}: it belongs beside the bundle")
    return 0


def key_of(path: str) -> PrivateKey:
    """The private key in a file, with its passphrase."""
    try:
        return read_private(path, lambda: asked(path))
    except CubeError as error:
        beside = f"{path.removesuffix('.pub')}.key"
        if beside == path or not os.path.isfile(beside):
            raise
        raise type(error)(str(error.args[0]), hint=f"did you mean `--key {beside}`?") from None


def signing(key: PrivateKey) -> Callable[[Registry, Descriptor], None]:
    """What signs a manifest that can be had by its digest, unless this key has done so before."""

    def put(registry: Registry, descriptor: Descriptor) -> None:
        own = (("own", key.public),)
        if not any(verified_by(each, descriptor.digest, own) for each in published(registry, descriptor.digest)):
            publish(registry, descriptor.digest, sign(key, str(registry.repository), descriptor.digest))

    return put


def in_registry(reference: Reference) -> "tuple[Reference, Found | None]":
    """Where the cube lies in a registry, and what a zoo said of it. Raises UsageError for what lies in none."""
    if reference.kind == "oci":
        return reference, None
    if reference.kind == "zoo":
        from mlcube.obtaining.cubes import near
        from mlcube.zoo import find

        try:
            found = find(reference.name or "", reference.version, report=console.note)
        except MissingInput as error:
            what = f"there is no bundle or other file `{reference.text}`"
            beside = near(reference.text)
            hint = f"did you mean `{beside}`?" if beside else error.hint
            raise MissingInput(f"{what}, and {error.args[0]}", hint=hint) from None
        return parse(found.reference), found
    raise UsageError(
        f"`{reference.text}` is {reference.described}, and only bundles and what lies in a registry carry signatures",
        hint="cube publish . oci://host/name:tag --sign --key FILE",
    )
