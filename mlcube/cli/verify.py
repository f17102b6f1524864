"""`cube verify`: who signed a cube, and whether the policy of this machine lets it run."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

from mlcube.cli import console
from mlcube.cli.arguments import Json
from mlcube.cli.declared import argument, option
from mlcube.cli.sign import in_registry
from mlcube.errors import CubeError, MissingInput, Untrusted, UsageError
from mlcube.obtaining.admitting import subject_of_address, subjects_of_path
from mlcube.oci import Descriptor
from mlcube.references import Reference, parse
from mlcube.registry import Registry, Repository, suggesting
from mlcube.source import read_text
from mlcube.trust import policy_path
from mlcube.trust.keys import PublicKey, read_public
from mlcube.trust.policy import Admission, Subject, admit
from mlcube.trust.policy_file import Policy, as_data, read_policy
from mlcube.trust.registries import published

if TYPE_CHECKING:
    from mlcube.zoo import Found

EXAMPLE = """\b
Examples:
  cube verify oci://registry.example.org/group/digits:1.0 --key lab.pub
  cube verify oci://registry.example.org/group/digits:1.0
  cube verify
"""

ReferenceArgument = Annotated[
    str | None, argument(metavar="[REF]", help="a cube; left out: print the policy that is in force")
]
Keys = Annotated[
    list[str] | None, option("--key", metavar="PUB", help="a public key; left out: what the policy asks for")
]


def command(reference: ReferenceArgument = None, key: Keys = None, as_json: Json = False) -> int:
    """Verify that a cube is signed: by one of the keys that are given, or as the policy of this machine wants it."""
    if reference is None:
        if key:
            raise UsageError("`--key` verifies a cube, and none is named", hint="cube verify oci://... --key lab.pub")
        return _policy(read_policy(), as_json)
    found = parse(reference)
    keys = {path: _public(path) for path in key or ()}
    policy = Policy(file="--key", default="signed", keys=keys) if keys else read_policy()
    if policy.file is None:
        raise _without_key(found)
    return _verify(found, policy, bool(keys), as_json)


def _public(path: str) -> PublicKey:
    if not os.path.lexists(path):
        from mlcube.trust.key_files import no_key

        raise no_key(path, ".pub")
    return read_public(read_text(path, path), f"`{path}`")


def _verify(reference: Reference, policy: Policy, by_key: bool, as_json: bool) -> int:
    if reference.kind in ("oci", "zoo"):
        subject, admission = _registered(reference, policy)
    elif reference.kind == "bundle":
        subject, admission = _bundled(reference, policy)
    else:
        if by_key:
            raise _no_signatures(reference)
        if reference.kind == "path":
            subjects = subjects_of_path(reference.path or ".")
        else:
            subjects = (subject_of_address(reference.kind, reference.url or ""),)
        for subject in subjects:
            admission = admit(subject, policy=policy)
    if as_json:
        told = {"subject": str(subject), "digest": subject.digest, "signed": admission.signed, "key": admission.key}
        console.document({**told, "whole": admission.whole, "policy": None if by_key else policy.file})
    elif admission.signed:
        what = ", with everything in the bundle," if admission.whole else ""
        console.result(f"{subject}{what} is signed by {admission.key}")
    else:
        console.result(f"{subject} is allowed by {policy.file}, unsigned or not")
    return 0


def _without_key(reference: Reference) -> CubeError:
    """What can be said where neither the user nor a policy names a key: whether the cube is there, and signed at all.

    Raises what is wrong with the cube itself.
    """
    remark = ""
    if reference.kind in ("oci", "zoo"):
        with _manifest(reference) as (registry, descriptor, _):
            subject = f"{registry.repository}@{descriptor.digest}"
            signatures = len(published(registry, descriptor.digest))
    elif reference.kind == "bundle":
        from mlcube.bundling.reading import Bundle
        from mlcube.bundling.signatures import beside, signatures_in
        from mlcube.bundling.verifying import verify

        subject = reference.path or ""
        verify(subject)
        with Bundle(subject) as bundle:
            over_all, remark = beside(bundle)
            signatures = len(over_all) + len(signatures_in(bundle))
    else:
        if reference.kind == "path" and not os.path.exists(os.path.expanduser(reference.path or ".")):
            return MissingInput(
                f"there is nothing at `{reference.text}`, which is understood as a path", hint=_REGISTRY
            )
        return _no_signatures(reference)
    if not signatures:
        hint = f"cube sign {reference.text} --key FILE adds one"
        return Untrusted(f"`{subject}` has no signature{remark and f', and {remark}'}", hint=hint)
    count = f"{signatures} signature{'' if signatures == 1 else 's'}"
    return UsageError(
        f"`{subject}` has {count}, and nothing says whose key is trusted: no `--key`, and no policy at {policy_path()}",
        hint=f"cube verify {reference.text} --key lab.pub",
    )


def _no_signatures(reference: Reference) -> UsageError:
    return UsageError(f"`{reference.text}` is {reference.described}, which carries no signatures", hint=_REGISTRY)


_REGISTRY = "a cube in a registry is named oci://HOST/NAME:TAG"


@contextmanager
def _manifest(reference: Reference) -> "Iterator[tuple[Registry, Descriptor, Found | None]]":
    """The registry in which a cube lies, its manifest there, and what a zoo said of it."""
    there, found = in_registry(reference)
    with Registry(Repository.parse(there.repository or ""), report=console.note) as registry:
        wanted = there.digest or there.tag or "latest"
        with suggesting(registry, wanted):
            descriptor, _ = registry.manifest(wanted)
        yield registry, descriptor, found


def _registered(reference: Reference, policy: Policy) -> tuple[Subject, Admission]:
    with _manifest(reference) as (registry, descriptor, found):
        where = registry.repository
        subject = Subject(
            kind=reference.kind,
            name=found.name if found else where.name,
            repository=str(where),
            digest=descriptor.digest,
            zoo=found.zoo if found else None,
        )
        return subject, admit(subject, lambda: published(registry, descriptor.digest), policy=policy)


def _bundled(reference: Reference, policy: Policy) -> tuple[Subject, Admission]:
    from mlcube.bundling.reading import Bundle, cube_entry
    from mlcube.bundling.signatures import admitted, beside, real_name
    from mlcube.bundling.verifying import verify

    path = reference.path or ""
    verify(path)
    with Bundle(path) as bundle:
        entry = cube_entry(bundle)
        admission = admitted(bundle, entry, policy) or Admission(digest=entry.digest)
        if remark := beside(bundle).remark:
            console.note(remark)
        return Subject(kind="bundle", name=real_name(bundle), digest=entry.digest), admission


def _policy(policy: Policy, as_json: bool) -> int:
    if as_json:
        console.document(as_data(policy))
        return 0
    if policy.file is None:
        console.result(f"no policy: every cube may run ({policy_path()} is not there)")
        return 0
    console.result(policy.file)
    for name, key in policy.keys.items():
        console.result(f"key   {name}  {key.fingerprint}")
    for rule, line in zip(policy.rules, policy.lines, strict=True):
        about = [
            f"{field} {', '.join(values)}"
            for field in ("kinds", "registries", "zoos", "names")
            if (values := getattr(rule, field)) is not None
        ]
        by = f" by {' or '.join(name for name, _ in policy.keys_of(rule))}" if rule.allow == "signed" else ""
        console.result(f"rule  line {line}: {rule.allow}{by}: {'; '.join(about) or 'everything'}")
    console.result(f"else  {policy.default}")
    return 0
