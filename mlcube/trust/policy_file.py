"""The file `trust.yaml`: which cubes may run on this machine, and who must have signed them."""

import os
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from mlcube import directories, trust
from mlcube.errors import CubeError, InvalidFile, MissingInput, Problem, did_you_mean
from mlcube.source import Document, Key, read_text
from mlcube.trust.keys import PublicKey, available, read_public
from mlcube.validation import convert

__all__ = ["Policy", "PolicyFile", "Rule", "as_data", "parse_policy", "read_policy"]

Kind = Literal["path", "oci", "bundle", "git", "archive", "zoo"]
Allow = Literal["always", "signed", "never"]

_UNSIGNED = ("path", "git", "archive")
"""Kinds that carry no signatures."""


class Rule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which cubes a rule is about, and what is asked of them. What is left out matches anything."""

    kinds: Annotated[
        tuple[Kind, ...] | None,
        Meta(description="How the cube is named: a path, a registry, a bundle, git, an archive, a zoo."),
    ] = None
    registries: Annotated[
        tuple[str, ...] | None,
        Meta(
            description="Patterns of `host[:port]/name`, also for what a zoo leads to; a host alone means all of it.",
            examples=[["registry.example.org/medical/**"]],
        ),
    ] = None
    zoos: Annotated[tuple[str, ...] | None, Meta(description="The names of zoos in this machine's settings.")] = None
    names: Annotated[
        tuple[str, ...] | None,
        Meta(
            description="Patterns of what is asked for: a zoo's `digits`, a registry's `lab/model`, a path, a URL.",
            examples=[["digits*", "medical/**"]],
        ),
    ] = None
    allow: Annotated[Allow, Meta(description="`always`, `never`, or `signed`: only what one of the keys has signed.")]
    keys: Annotated[
        tuple[str, ...] | None, Meta(description="Names of keys, one of which must have signed; all if left out.")
    ] = None


class PolicyFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What may run on this machine. The first rule that matches a cube decides."""

    keys: Annotated[
        dict[str, str],
        Meta(
            description="Public keys by name: the path of a PEM file, relative to this one, or PEM text.",
            examples=[{"lab": "lab.pub"}],
        ),
    ] = {}
    rules: Annotated[tuple[Rule, ...], Meta(description="Asked in order.")] = ()
    default: Annotated[Allow, Meta(description="What is asked of a cube that no rule matches.")] = "never"


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says, with its keys; without a file everything is allowed."""

    file: str | None = None
    rules: tuple[Rule, ...] = ()
    default: Allow = "always"
    keys: Mapping[str, PublicKey] = msgspec.field(default_factory=dict)
    lines: tuple[int, ...] = ()
    """The line of each rule."""

    def keys_of(self, rule: Rule | None) -> tuple[tuple[str, PublicKey], ...]:
        """The keys that a rule (or, without one, the default) takes."""
        names = rule.keys if rule is not None and rule.keys is not None else tuple(self.keys)
        return tuple((name, self.keys[name]) for name in names)


def read_policy() -> Policy:
    """The policy of this machine. Raises InvalidFile with every problem; a file that is named must be there."""
    if not trust.in_force():
        return Policy()
    path = trust.policy_path()
    try:
        document = Document.from_file(path)
    except MissingInput as error:
        if not os.environ.get(trust.VARIABLE):
            hint = "here the policy lies: make it a file that can be read, or remove it; until then no cube runs"
            raise MissingInput(error.args[0], hint=hint) from None
        usual = os.path.join(directories.config(), "trust.yaml")
        hint = f"have it name a file that can be read, or unset it: without {trust.VARIABLE} it is {usual}"
        raise MissingInput(f"{error.args[0]}, which {trust.VARIABLE} names", hint=hint) from None
    return parse_policy(document, path)


def parse_policy(document: Document, path: str) -> Policy:
    """What a document says as a policy: nothing in it is unknown, and nothing is ignored."""
    data = {} if document.data is None else document.data
    found, problems = convert(data, PolicyFile, lambda key, of_key: document.at(key, of_key=of_key))
    problems = [msgspec.structs.replace(problem, severity="error") for problem in problems]
    if found is None or problems:
        raise InvalidFile(tuple(problems))
    keys, problems = _keys(found, document, os.path.dirname(os.path.abspath(path)))
    for index, rule in enumerate(found.rules):
        problems += _rule_problems(rule, index, found, document)
        problems += _unmatched(rule, index, document)
    if found.default == "signed" and not found.keys:
        problems.append(_problem(document, ("default",), "`signed` needs a key", "keys: {lab: lab.pub}"))
    if problems:
        raise InvalidFile(tuple(problems))
    lines = tuple(document.at(("rules", index)).line for index in range(len(found.rules)))
    return Policy(file=path, rules=found.rules, default=found.default, keys=keys, lines=lines)


def _keys(found: PolicyFile, document: Document, folder: str) -> tuple[dict[str, PublicKey], list[Problem]]:
    """The keys; without the library that reads them none, and then nothing counts as signed."""
    keys: dict[str, PublicKey] = {}
    problems: list[Problem] = []
    if not available():
        return {}, []
    for name, text in found.keys.items():
        try:
            if text.lstrip().startswith("-----BEGIN"):
                keys[name] = read_public(text, f"the key `{name}`")
            else:
                path = os.path.join(folder, os.path.expanduser(text))
                keys[name] = read_public(read_text(path, path), f"`{text}`")
        except CubeError as error:  # noqa: PERF203 - each in turn
            first = error.problems[0]
            problems.append(_problem(document, ("keys", name), first.message, first.hint))
    return keys, problems


def _rule_problems(rule: Rule, index: int, found: PolicyFile, document: Document) -> list[Problem]:
    place: Key = ("rules", index)
    problems = [
        _problem(
            document,
            (*place, "keys", at),
            f"no key is named `{name}`",
            did_you_mean(name, tuple(found.keys)) or "keys: {lab: lab.pub}",
        )
        for at, name in enumerate(rule.keys or ())
        if name not in found.keys
    ]
    problems += [
        _problem(document, (*place, field), f"`{field}` is empty, so nothing matches", None)
        for field in ("kinds", "registries", "zoos", "names", "keys")
        if getattr(rule, field) == ()
    ]
    if rule.allow != "signed":
        if rule.keys:
            hint = "allow: signed"
            problems.append(_problem(document, (*place, "keys"), f"`allow: {rule.allow}` asks no key", hint))
        return problems
    if not found.keys:
        problems.append(_problem(document, (*place, "allow"), "`signed` needs a key", "keys: {lab: lab.pub}"))
    unsigned = [kind for kind in rule.kinds or () if kind in _UNSIGNED]
    for kind in unsigned:
        message = f"a cube of kind `{kind}` carries no signature, so `allow: signed` forbids it"
        problems.append(_problem(document, (*place, "allow"), message, "write a rule of its own: always, or never"))
    return problems


def _unmatched(rule: Rule, index: int, document: Document) -> list[Problem]:
    """What was meant to match something and matches nothing, or everything."""
    place: Key = ("rules", index)
    problems = [
        _problem(document, (*place, field), f"`{field}` says nothing, and left out it matches anything", None)
        for field in ("kinds", "registries", "zoos", "names", "keys")
        if getattr(rule, field) is None and field in document.data["rules"][index]
    ]
    for at, pattern in enumerate(rule.registries or ()):
        host, _, name = pattern.partition("://")[2].partition("/") if "://" in pattern else pattern.partition("/")
        if "://" in pattern or pattern.endswith("/") or set(":@") & set(name) or pattern != pattern.strip():
            plain = re.split("[:@]", name)[0].rstrip("/")
            message = f"`{pattern}` matches no registry: it is written as `host[:port]/name`"
            problems.append(_problem(document, (*place, "registries", at), message, f"{host}/{plain or '**'}"))
    for at, pattern in enumerate(rule.names or ()):
        if pattern.startswith(("~", "./", "../", "oci://", "git+")) or (pattern.endswith("/") and pattern != "/"):
            message = f"`{pattern}` matches no name: paths are written out, addresses as they are asked for"
            hint = "a path begins with `/`, an address with https://, ssh:// or file://, and none ends in a slash"
            problems.append(_problem(document, (*place, "names", at), message, hint))
    return problems


def _problem(document: Document, key: Key, message: str, hint: str | None) -> Problem:
    return Problem(message=message, position=document.at(key), hint=hint)


def as_data(policy: Policy) -> dict[str, Any]:
    """A policy as data that a program reads."""
    return {
        "file": policy.file,
        "keys": {name: key.fingerprint for name, key in policy.keys.items()},
        "rules": [
            {"line": line, **msgspec.to_builtins(rule)} for rule, line in zip(policy.rules, policy.lines, strict=True)
        ],
        "default": policy.default,
    }
