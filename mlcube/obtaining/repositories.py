"""Cubes from git: kept by commit, unpacked with the suspicion that archives get, and nothing of theirs is run."""

import os
import re
import tempfile
from functools import partial

from mlcube import directories, files
from mlcube.errors import CubeError, MissingInput, Unreachable, UsageError
from mlcube.obtaining.admitting import admit_address
from mlcube.obtaining.asking import Asking
from mlcube.obtaining.git import ask_git, unpack_commit
from mlcube.offline import offline
from mlcube.patience import ANSWER, answer_seconds
from mlcube.references import Reference
from mlcube.store.kept import About
from mlcube.unpacking import remove

__all__ = ["from_git"]

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_RESOLVE_SECONDS = 600.0
_MOST_TIMES, _LEAST_LIMIT = 200, 4 << 30
"""A commit may be so many times as large as what was fetched of it, or that large in any case."""


def from_git(reference: Reference, asking: Asking, digest: str | None) -> tuple[str, str]:
    """The folder of the cube that a repository holds at a ref, and the commit that it was, as `git:COMMIT`."""
    url = reference.url or ""
    admit_address("git", url)  # before anything is asked of it
    known = f"git+{url}#{reference.ref or 'HEAD'}"
    commit = digest.removeprefix("git:") if digest else _written_out(reference.ref)
    if commit is None and offline():
        commit = (asking.store.named(known) or "").removeprefix("git:")
        if not commit:
            raise Unreachable(
                f"`{known}` is not kept here, and no network call may be made",
                hint=f"pull it once without `--offline` and CUBE_OFFLINE: cube pull {reference.text}",
            )
    if commit is None:
        commit = _resolved(url, reference.ref, asking)
        asking.store.note_name(known, f"git:{commit}")
    key = f"git:{commit}"
    kept = asking.kept(key)
    if kept is None:
        if offline():
            raise Unreachable(f"the commit `{commit}` of `{url}` is not kept here, and no network call may be made")
        with asking.store.using((key,)), asking.store.lock(key):
            kept = asking.kept(key)
            if kept is None:
                asking.report(f"fetching {commit[:12]} from {url}")
                _fetch(url, reference.ref, commit, key, asking)
                kept = asking.kept(key)
    if kept is None:
        raise MissingInput(f"the cube `{key}` was removed while it was brought", hint="once more")
    root = os.path.join(kept.root, reference.subfolder or "")
    if not os.path.isdir(root):
        raise MissingInput(f"`{url}` has no folder `{reference.subfolder}` at {commit[:12]}")
    if os.path.commonpath((os.path.realpath(root), os.path.realpath(kept.root))) != os.path.realpath(kept.root):
        raise UsageError(f"the folder `{reference.subfolder}` leads out of the repository")
    return root, key


def _written_out(ref: str | None) -> str | None:
    return ref if ref and _COMMIT.fullmatch(ref) else None


def _resolved(url: str, ref: str | None, asking: Asking) -> str:
    """The commit that a branch or a tag is by now."""
    names = (f"refs/heads/{ref}", f"refs/tags/{ref}", f"refs/tags/{ref}^{{}}") if ref else ("HEAD",)
    said = ask_git(
        "ls-remote", "--", url, *names, what=url, check=asking.check, seconds=answer_seconds(_RESOLVE_SECONDS),
        hint=f"{ANSWER}=30m, for one that is slow; or name the whole commit, which need not be looked up",
    )  # fmt: skip
    found = {name: commit for line in said.splitlines() for commit, _, name in [line.partition("\t")]}
    wanted = (f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}", f"refs/heads/{ref}") if ref else ("HEAD",)
    for name in wanted:
        if name in found and _COMMIT.fullmatch(found[name]):
            return found[name]
    short = ref and re.fullmatch(r"[0-9a-f]{7,39}", ref)
    raise MissingInput(
        f"`{url}` has no branch or tag `{ref}`" if ref else f"`{url}` has no HEAD",
        hint="a commit is written out: 40 letters" if short else f"git ls-remote {url}",
    )


def _fetch(url: str, ref: str | None, commit: str, key: str, asking: Asking) -> None:
    """Bring one commit without its history, and unpack it."""
    os.makedirs(directories.cache(), exist_ok=True)
    folder = tempfile.mkdtemp(prefix="git-", dir=directories.cache())
    try:
        ask_git("init", "--quiet", "--bare", "--template=", "--", folder, what=url)
        os.makedirs(os.path.join(folder, "info"), exist_ok=True)
        with open(os.path.join(folder, "info", "attributes"), "w", encoding="ascii") as file:
            # Everything of the commit, as it is; and no filter is run, as that of Git LFS would be.
            file.write("* -export-ignore -export-subst -filter -ident -text -working-tree-encoding\n")
        fetch = partial(
            ask_git, f"--git-dir={folder}", "fetch", "--quiet", "--depth=1", "--no-tags", "--", url,
            what=url, folder=folder, most_bytes=asking.most_bytes, check=asking.check,
        )  # fmt: skip
        try:
            fetch(commit)
        except CubeError:
            if ref is None or ref == commit:
                raise
            fetch(ref)  # an old server gives what has a name alone
        limit = min(asking.most_bytes, max(_LEAST_LIMIT, files.size_of(folder) * _MOST_TIMES))
        about = About(digest=key, title=url.rstrip("/").rpartition("/")[2].removesuffix(".git"), origin=f"git+{url}")
        with asking.store.fill(about, most_bytes=limit, most_members=asking.most_members) as unpacking:
            unpack_commit(unpacking, folder, commit, url)
    finally:
        remove(folder)
