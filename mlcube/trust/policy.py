"""Decides what may run: a cube, known by its digest, against the rules of this machine."""

from collections.abc import Callable, Iterable

import msgspec

from mlcube.errors import Untrusted
from mlcube.trust.keys import available
from mlcube.trust.patterns import matches, registry_matches
from mlcube.trust.policy_file import Allow, Policy, Rule, read_policy
from mlcube.trust.signing import Signature, verified_by

__all__ = ["Admission", "Subject", "admit", "no_signatures"]


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for. Nothing in it comes out of the cube itself, so that no cube chooses its own rule."""

    kind: str
    """Path, oci, bundle, git, archive or zoo."""
    name: str
    """What was asked for: a name in a zoo, a repository without its host, a path, an address."""
    aliases: tuple[str, ...] = ()
    """Other names of the same: rules speak of them as well."""
    repository: str | None = None
    """`host/name` where it lies, if it lies in a registry."""
    digest: str | None = None
    """The digest of its manifest, for what has one."""
    zoo: str | None = None
    """The zoo that led to it."""

    def __str__(self) -> str:
        where = self.repository if self.kind == "oci" and self.repository else self.name
        return f"{where}@{self.digest}" if self.digest else where


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """That a cube may run, and on whose word."""

    digest: str | None
    """What was verified, and so what may run."""
    signed: bool = False
    """Whether the policy asks for a signature: then nothing that the signature does not cover may replace a part."""
    key: str | None = None
    """The name of the key that signed."""
    whole: bool = False
    """Of a bundle: whether all of it was signed, and not the cube in it alone."""
    policy: str | None = None
    """The policy's file; None: there is none, and everything is allowed."""


def no_signatures() -> tuple[Signature, ...]:
    """The signatures of what cannot carry any."""
    return ()


def admit(
    subject: Subject,
    signatures: Callable[[], Iterable[Signature]] = no_signatures,
    *,
    policy: Policy | None = None,
    remark: str = "",
) -> Admission:
    """That the policy allows what is asked for; the signatures are only fetched when it asks for them.

    `remark`: of what was taken for a signature, and is none; said where a signature is missed.

    Raises Untrusted, and InvalidFile when the policy itself is wrong.
    """
    policy = policy if policy is not None else read_policy()
    rule, allow, where = decided(policy, subject)
    if allow == "always":
        return Admission(digest=subject.digest, policy=policy.file)
    if allow == "never":
        raise Untrusted(f"`{subject}` is forbidden by {where}", hint="cube verify, without a name, shows the policy")
    if subject.digest is None:
        raise Untrusted(
            f"{where} asks for a signature, which a cube of kind `{subject.kind}` cannot carry: `{subject}`",
            hint="publish and sign it, or write a rule for this kind",
        )
    if not available():
        raise Untrusted(
            f"{where} asks for a signature on `{subject}`, and no signature can be verified here",
            hint="pip install 'mlcube[sign]'",
        )
    keys = policy.keys_of(rule)
    found = False
    for signature in signatures():
        found = True
        if (name := verified_by(signature, subject.digest, keys)) is not None:
            return Admission(digest=subject.digest, signed=True, key=name, policy=policy.file)
    names = ", ".join(f"`{name}`" for name, _ in keys)
    was = "is signed, but by none of these keys" if found else "is not signed"
    raise Untrusted(
        f"`{subject}` {was}{remark and f' ({remark})'}, and {where} asks for a signature by {names}",
        hint="ask whoever publishes it for `cube sign`",
    )


def decided(policy: Policy, subject: Subject) -> tuple[Rule | None, Allow, str]:
    """The rule that is the first to match (None: the default), what it asks for, and where it is written."""
    for rule, line in zip(policy.rules, policy.lines, strict=True):
        if _about(rule, subject):
            return rule, rule.allow, f"the rule at {policy.file}:{line}"
    return None, policy.default, f"the default of {policy.file}" if policy.rules else str(policy.file)


def _about(rule: Rule, subject: Subject) -> bool:
    """Whether a rule is about a subject.

    What a bundle says of its origin is its own word, so no rule about registries or zoos is about a bundle.
    """
    if rule.kinds is not None and subject.kind not in rule.kinds:
        return False
    if rule.registries is not None:
        if subject.repository is None or subject.kind not in ("oci", "zoo"):
            return False
        if not any(registry_matches(pattern, subject.repository) for pattern in rule.registries):
            return False
    if rule.zoos is not None and (subject.kind != "zoo" or subject.zoo not in rule.zoos):
        return False
    names = (subject.name, *subject.aliases)
    return rule.names is None or any(matches(pattern, name) for pattern in rule.names for name in names)
