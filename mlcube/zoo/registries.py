"""Published cubes, as entries of an index: each tag of a repository that leads to one."""

import re
from collections.abc import Callable
from functools import partial

import msgspec

from mlcube import oci
from mlcube.artifact import ARTIFACT, CARD, PACK, PACKED, CubeConfig, read_config
from mlcube.errors import Damaged, InvalidFile, MissingInput, escaped
from mlcube.oci import Manifest
from mlcube.parallel import in_parallel
from mlcube.registry import Registry, Repository, suggesting
from mlcube.trust import signing
from mlcube.zoo import describing
from mlcube.zoo.entries import Entry, Signature
from mlcube.zoo.results import packed_results
from mlcube.zoo.sources import CARD_BYTES, Described, Keys

__all__ = ["describe_repository"]

_OURS = re.compile(r"sha256-[0-9a-f]{64}(\.[a-z]+)?")
"""Tags that lead to signatures and referrers."""
_MOST_BYTES = 1 << 50
_PACKS_BYTES = 2 << 20


def describe_repository(
    source: str,
    *,
    keys: Keys = (),
    report: Callable[[str], None] = lambda _text: None,
    check: Callable[[], None] = lambda: None,
) -> tuple[Described, ...]:
    """The cubes that the tags of `oci://host/repository` lead to, or the one of a tag or digest that is named.

    What a tag leads to that is no cube is left out.
    """
    repository, reference = _parsed(source)

    def told(text: str) -> None:
        report(escaped(text, lines=False))  # what others publish takes no line of its own

    with Registry(repository, check=check, report=report) as registry:
        digests: dict[str, list[str]] = {}
        with suggesting(registry, reference or "latest"):
            tags = (reference,) if reference else tuple(tag for tag in registry.tags() if not _OURS.fullmatch(tag))
            resolved = in_parallel([partial(registry.resolve, tag) for tag in tags], check=check)
        for tag, descriptor in zip(tags, resolved, strict=True):
            digests.setdefault(descriptor.digest, []).extend([tag] if ":" not in tag else [])
        jobs = [
            partial(_described, registry, digest, tuple(sorted(named)), keys, told) for digest, named in digests.items()
        ]
        found = [each for each in in_parallel(jobs, check=check) if each is not None]
    if not found:
        raise MissingInput(f"`{source}` leads to no cube", hint="cube publish PATH oci://host/repository:tag")
    return _told_apart(found, told)


def _parsed(source: str) -> tuple[Repository, str | None]:
    text = source.removeprefix("oci://")
    name, at, digest = text.partition("@")
    place = name.rfind(":")
    tag = name[place + 1 :] if place > name.rfind("/") else None
    name = name[:place] if tag is not None else name
    return Repository.parse(name), oci.check_digest(digest) if at else tag


def _described(
    registry: Registry, digest: str, tags: tuple[str, ...], keys: Keys, report: Callable[[str], None]
) -> Described | None:
    source = f"oci://{registry.repository}@{digest}"
    _, content = registry.manifest(digest)
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if manifest.artifact_type != ARTIFACT:
        return None
    content = registry.blob(manifest.config)
    try:  # whoever may publish here could else keep the whole zoo from being built
        config = read_config(content)
        entry = _entry(config, manifest, source, tags)
        results = packed_results(partial(_packs, registry, manifest))
    except (Damaged, InvalidFile) as error:
        report(f"`{source}` is left out: {error.problems[0].message}")
        return None
    entry = msgspec.structs.replace(entry, results=results, signatures=_signatures(registry, digest, keys))
    return Described(entry=entry, source=source, card=_card(registry, manifest))


def _entry(config: CubeConfig, manifest: Manifest, reference: str, tags: tuple[str, ...]) -> Entry:
    try:
        tasks = tuple(describing.task(each) for each in config.tasks)
    except msgspec.ValidationError as error:
        raise Damaged(f"it describes no tasks: {error}") from None
    version = config.version or next((tag for tag in tags if tag != "latest"), None)
    image = config.image
    return Entry(
        name=config.name,
        version=version,
        description=config.description,
        authors=config.authors,
        license=config.license,
        links=describing.links(config.links),
        reference=reference,
        tags=tags,
        digest=config.digest,
        size=sum(max(0, min(layer.size, _MOST_BYTES)) for layer in manifest.layers if layer.media_type != CARD),
        image=(image.pinned or image.reference) if image else None,
        python=str(config.python["version"]) if config.python and "version" in config.python else None,
        platforms=describing.platforms(image=image is not None, python=config.python is not None),
        accelerator=describing.accelerator(tasks),
        tasks=tasks,
    )


def _card(registry: Registry, manifest: Manifest) -> str | None:
    layer = next((layer for layer in manifest.layers if layer.media_type == CARD), None)
    if layer is None or layer.size > CARD_BYTES:
        return None
    return registry.blob(layer).decode("utf-8-sig", "replace")


def _packs(registry: Registry, manifest: Manifest) -> list[bytes]:
    """The small files of a cube that has few of them: there may be results among them."""
    packs = [layer for layer in manifest.layers if layer.media_type == PACK and layer.annotations.get(PACKED)]
    if sum(max(0, layer.size) for layer in packs) > _PACKS_BYTES:
        return []
    return [registry.blob(layer) for layer in packs]


def _signatures(registry: Registry, digest: str, keys: Keys) -> tuple[Signature, ...]:
    """Whether it is signed, and by which of the keys."""
    try:
        _, content = registry.manifest(signing.tag_of(digest))
        found = signing.read(content, registry.blob)
    except (MissingInput, Damaged):  # none, or none that anybody could verify
        return ()
    names: dict[str | None, Signature] = {}
    by_name = dict(keys)
    for each in found:
        if signing.signed_digest(each) != digest:
            continue
        name = signing.verified_by(each, digest, keys)
        key = by_name[name].fingerprint if name is not None else None
        names.setdefault(name, Signature(key=key, name=name))
    return tuple(sorted(names.values(), key=lambda each: (each.name is None, each.name or "")))


def _called(cube: Described) -> str:
    """Its name with a tag, if it has one: a digest tells nobody which one is meant."""
    return f"{cube.source.partition('@')[0]}:{cube.entry.tags[-1]}" if cube.entry.tags else cube.source


def _told_apart(found: list[Described], report: Callable[[str], None]) -> tuple[Described, ...]:
    """One cube for each version: the one whose tag is the version, else the one with the last tag."""
    best: dict[tuple[str, str | None], Described] = {}
    for each in sorted(found, key=lambda each: (each.entry.version in each.entry.tags, each.entry.tags, each.source)):
        key = (each.entry.name, each.entry.version)
        if key in best:
            left = best[key]
            version = f"{left.entry.name} {left.entry.version or ''}".rstrip()
            report(f"`{_called(left)}` is left out: like `{_called(each)}` it says that it is `{version}`")
        best[key] = each
    return tuple(best.values())
