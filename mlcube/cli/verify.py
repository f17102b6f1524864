"""`cube verify`: who signed a cube, and whether the policy of this machine lets it run."""

import os
from typing import Annotated

from mlcube.cli import console
from mlcube.cli.arguments import Json
from mlcube.cli.declared import argument, option
from mlcube.errors import UsageError
from mlcube.references import Reference, parse
from mlcube.source import read_text
from mlcube.trust import policy_path
from mlcube.trust.keys import read_public
from mlcube.trust.policy import Admission, Subject, admit
from mlcube.trust.policy_file import Policy, as_data, read_policy

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
    keys = {path: read_public(read_text(path, path), f"`{path}`") for path in key or ()}
    policy = Policy(file="--key", default="signed", keys=keys) if keys else read_policy()
    if policy.file is None:
        raise UsageError(
            f"there is no policy at {policy_path()}, and so no key to verify with", hint="cube verify REF --key lab.pub"
        )
    return _verify(found, policy, bool(keys), as_json)


def _verify(reference: Reference, policy: Policy, by_key: bool, as_json: bool) -> int:
    if reference.kind in ("oci", "zoo"):
        subject, admission = _registered(reference, policy)
    elif reference.kind == "bundle":
        subject, admission = _bundled(reference, policy)
    else:
        if by_key:
            raise UsageError(f"`{reference.text}` is {reference.described}, which carries no signatures")
        name = os.path.realpath(reference.path or ".") if reference.kind == "path" else str(reference.url)
        subject = Subject(kind=reference.kind, name=name)
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


def _registered(reference: Reference, policy: Policy) -> tuple[Subject, Admission]:
    from mlcube.cli.sign import in_registry
    from mlcube.registry import Registry, Repository, suggesting
    from mlcube.trust.registries import published

    there, found = in_registry(reference)
    where = Repository.parse(there.repository or "")
    with Registry(where, report=console.note) as registry:
        wanted = there.digest or there.tag or "latest"
        with suggesting(registry, wanted):
            descriptor, _ = registry.manifest(wanted)
        subject = Subject(
            kind=reference.kind,
            name=found.name if found else where.name,
            repository=str(where),
            digest=descriptor.digest,
            zoo=found.zoo if found else None,
        )
        return subject, admit(subject, lambda: published(registry, descriptor.digest), policy=policy)


def _bundled(reference: Reference, policy: Policy) -> tuple[Subject, Admission]:
    from mlcube.bundling.opening import cube_entry
    from mlcube.bundling.reading import Bundle
    from mlcube.bundling.signatures import admitted
    from mlcube.bundling.verifying import verify

    path = reference.path or ""
    verify(path)
    with Bundle(path) as bundle:
        entry = cube_entry(bundle)
        admission = admitted(bundle, entry, policy) or Admission(digest=entry.digest)
        return Subject(kind="bundle", name=os.path.realpath(path), digest=entry.digest), admission


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
