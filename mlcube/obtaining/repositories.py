"""Cubes from git: kept by commit, unpacked with the suspicion that archives get, and nothing of theirs is run."""

import os
import re
import tempfile

from mlcube import directories
from mlcube.errors import CubeError, Denied, EngineUnavailable, MissingInput, Unreachable, UsageError
from mlcube.obtaining.admitting import admit_address
from mlcube.obtaining.asking import Asking
from mlcube.offline import offline
from mlcube.references import Reference
from mlcube.store.kept import About
from mlcube.unpacking import remove, unpack_tar

__all__ = ["from_git"]

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_SECONDS = 24 * 3600.0
_MOST_BYTES = 64 << 30
_MOST_MEMBERS = 1_000_000
_PROTECTED = (
    *("-c", "protocol.ext.allow=never"),
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "transfer.fsckObjects=true"),
    *("-c", "core.fsmonitor=false"),
)
_WITHOUT_QUESTIONS = {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", "GIT_SSH_COMMAND": "ssh -o BatchMode=yes"}


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
        commit = _resolved(url, reference.ref)
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


def _resolved(url: str, ref: str | None) -> str:
    """The commit that a branch or a tag is by now."""
    said = _git("ls-remote", "--", url, *((f"refs/heads/{ref}", f"refs/tags/{ref}", f"refs/tags/{ref}^{{}}")
                                          if ref else ("HEAD",)), what=url)  # fmt: skip
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
        _git("init", "--quiet", "--bare", "--template=", "--", folder, what=url)
        os.makedirs(os.path.join(folder, "info"), exist_ok=True)
        with open(os.path.join(folder, "info", "attributes"), "w", encoding="ascii") as file:
            # Everything of the commit, as it is; and no filter is run, as that of Git LFS would be.
            file.write("* -export-ignore -export-subst -filter -ident -text -working-tree-encoding\n")
        try:
            _git("-C", folder, "fetch", "--quiet", "--depth=1", "--no-tags", "--", url, commit, what=url)
        except CubeError:
            if ref is None or ref == commit:
                raise
            # An old server gives what has a name alone.
            _git("-C", folder, "fetch", "--quiet", "--depth=1", "--no-tags", "--", url, ref, what=url)
        archive = os.path.join(folder, "cube.tar")
        _git("-C", folder, "archive", "--format=tar", f"--output={archive}", commit, what=url)
        about = About(digest=key, title=url.rstrip("/").rpartition("/")[2].removesuffix(".git"), origin=f"git+{url}")
        with (
            asking.store.fill(about, most_bytes=_MOST_BYTES, most_members=_MOST_MEMBERS) as unpacking,
            open(archive, "rb") as stream,
        ):
            unpack_tar(unpacking, stream)
    finally:
        remove(folder)


def _git(*words: str, what: str) -> str:
    """What git says. It asks nobody for a password, runs no hook, and uses no helper that a URL names."""
    from mlcube.asking import ask

    environment = {name: value for name, value in _WITHOUT_QUESTIONS.items() if name not in os.environ}
    answer = ask(("git", *_PROTECTED, *words), environment=environment, timeout_seconds=_SECONDS)
    if answer.status == 127:
        raise EngineUnavailable("`git` is not installed", hint="install git, or name the cube in another way")
    if answer.status:
        lines = [line for line in answer.error.strip().splitlines() if line]
        said = "; ".join(line.removeprefix("fatal: ").removeprefix("error: ") for line in lines[-3:])
        lowered = said.lower()
        if "authentication" in lowered or "permission denied" in lowered or "could not read username" in lowered:
            raise Denied(f"`{what}` refuses the login: {said}", hint="set up git's own credentials for it")
        raise Unreachable(f"git could not read `{what}`: {said}")
    return answer.output
