"""What names a cube: a path, an artifact in a registry, a bundle, a git repository, an archive, or a name in a zoo."""

import os.path
import re
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from mlcube.errors import CubeError, UsageError

__all__ = ["Kind", "Reference", "is_bundle", "is_reference", "parse"]

Kind = Literal["path", "oci", "bundle", "git", "archive", "zoo"]

_KINDS: dict[Kind, str] = {
    "path": "a path",
    "oci": "a cube in a registry",
    "bundle": "a bundle",
    "git": "a git repository",
    "archive": "an archive",
    "zoo": "a name in a zoo",
}
_FORMS = """\
a cube is named by one of
  ./folder                               a path
  oci://host/name:tag                    a cube in a registry; also oci://host/name@sha256:...
  model.cube                             a bundle
  git+https://host/repository//folder#ref  a git repository; also https://host/repository.git
  https://host/cube.tar.gz#sha256=...    an archive with its checksum
  digits, digits:1.2, org/digits         a name in a zoo"""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_ZOO = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?)(?::(?P<version>[\w.+-]+))?")
_SLIP = re.compile(r"oci(:/?|/+)(?=[^/:]+[.:][^/]*/)")
"""`oci:` or `oci/` before what looks like the host of a registry."""
_FOR_REGISTRIES = ("docker", "oras", "ocl", "oic", "oc", "oci+https", "registry")
"""What others call a registry, and slips of the fingers."""
_SHORT_SSH = re.compile(r"[A-Za-z0-9_][\w.-]*@[A-Za-z0-9][\w.-]*:[^/].*")
_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".zip")
_SHA256 = re.compile(r"sha256[=:]([0-9a-fA-F]{64})")


class Reference(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A cube's name, understood. What does not apply to its kind is None."""

    kind: Kind
    text: str
    """As it was written."""
    path: str | None = None
    """Of a path or a bundle."""
    repository: str | None = None
    """`host/name` in a registry."""
    tag: str | None = None
    digest: str | None = None
    """`sha256:...` of the manifest, or of an archive."""
    url: str | None = None
    """Of a git repository or an archive, without what is said of the folder, the ref and the checksum."""
    ref: str | None = None
    """A branch, a tag or a commit."""
    subfolder: str | None = None
    """The folder within a git repository."""
    name: str | None = None
    """In a zoo."""
    version: str | None = None

    @property
    def described(self) -> str:
        """The kind, in words."""
        return _KINDS[self.kind]

    @property
    def canonical(self) -> str:
        """The same name written in one way, for a registry with its tag or else its digest."""
        if self.kind != "oci":
            return self.text
        return f"oci://{self.repository}:{self.tag}" if self.tag else f"oci://{self.repository}@{self.digest}"


def parse(text: str) -> Reference:
    """What a text names. Raises UsageError, which tells as what it was understood and how to write the others."""
    if _SCHEME.match(text.removeprefix("git+")) and not text.isprintable():
        raise _wrong(text, "it holds a letter that no address has")
    if text.startswith("oci://"):
        return _oci(text)
    if text.startswith(("git+", "ssh://")) or _SHORT_SSH.fullmatch(text) or _ends_in_git(text):
        return _git(text)
    if text.startswith(("https://", "http://")):
        return _archive(text)
    if _SCHEME.match(text):
        scheme, _, rest = text.partition("://")
        meant = f"oci://{rest}" if scheme.lower() in _FOR_REGISTRIES else None
        raise _wrong(text, f"`{scheme}://` is none of the ways to name a cube", meant)
    path = os.path.expanduser(text)
    if (slip := _SLIP.match(text)) and not os.path.exists(path):
        raise _wrong(text, "behind `oci` comes `://`", f"oci://{text[slip.end() :]}")
    if is_bundle(path):
        return Reference(kind="bundle", text=text, path=path)
    if not text.startswith((".", "/", "~")) and not os.path.exists(path) and (found := _ZOO.fullmatch(text)):
        if text.endswith((".yaml", ".yml")):
            return Reference(kind="path", text=text, path=path)
        return _zoo(text, found["name"], found["version"])
    if (host := text.partition("/")[0]) != text and (":" in host or "@" in text) and not os.path.exists(path):
        raise _wrong(text, "it is understood as a path, where there is nothing", f"oci://{text}")
    return Reference(kind="path", text=text, path=path)


def is_reference(word: str) -> bool:
    """Whether a word of the command line names a cube, and is no `name=value`."""
    return bool(word) and ("=" not in word or _SCHEME.match(word.removeprefix("git+")) is not None)


def is_bundle(path: str) -> bool:
    """Whether a path is meant to be a bundle: a tar file, or whatever is called `.cube` and is no folder."""
    if os.path.isdir(path):
        return False
    if path.endswith(".cube"):
        return True
    if not os.path.isfile(path):  # nor is a named pipe waited for
        return False
    try:
        with open(path, "rb") as file:
            return file.read(262)[257:] == b"ustar"
    except OSError:
        return False


def _oci(text: str) -> Reference:
    from mlcube.registry.repository import Repository, check_reference

    rest, at, digest = text.removeprefix("oci://").partition("@")
    repository, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag or "/" not in repository:  # else it is the port of the host
        repository, colon, tag = rest, "", ""
    if colon and not tag:
        raise _as("oci", text, "the tag after `:` is missing", f"oci://{repository} means its tag `latest`")
    if at and not digest:
        raise _as("oci", text, "the digest after `@` is missing", f"oci://{repository}@sha256:...")
    try:
        if at:
            check_reference(digest)
        if colon:
            check_reference(tag)
        Repository.parse(repository)
        if at and not digest.startswith("sha256:"):
            raise UsageError(f"`{digest}` is no digest", hint="a digest is `sha256:` and 64 hexadecimal digits")
    except CubeError as error:
        raise _as("oci", text, str(error.args[0]), error.hint) from None
    return Reference(
        kind="oci",
        text=text,
        repository=repository,
        tag=tag or (None if at else "latest"),
        digest=digest or None,
    )


def _ends_in_git(text: str) -> bool:
    address = text.partition("#")[0]
    scheme, separator, rest = address.partition("://")
    if scheme not in ("https", "http", "file") or not separator:
        return False
    return rest.partition("//")[0].rstrip("/").endswith(".git")


def _git(text: str) -> Reference:
    from mlcube.registry.repository import loopback

    address, hash_, ref = text.removeprefix("git+").partition("#")
    scheme, separator, rest = address.partition("://")
    if not separator:
        scheme, rest = "", address
    place, _, subfolder = rest.partition("//")
    problem = None
    if scheme not in ("https", "ssh", "file", "http", ""):
        problem = f"git over `{scheme}://` is not used"
    elif not scheme and not _SHORT_SSH.fullmatch(place):
        problem = "there is no address after `git+`"
    elif not place or place.startswith("-") or "@-" in place:
        problem = "there is no host that can be asked"
    elif hash_ and (not ref or ref.startswith("-") or not re.fullmatch(r"[\w./+@-]+", ref) or ".." in ref):
        problem = f"`{ref}` is no branch, tag or commit"
    elif any(part in ("", ".", "..") for part in subfolder.rstrip("/").split("/")) and subfolder:
        problem = f"`{subfolder}` is no folder within the repository"
    if problem:
        raise _as("git", text, problem, "git+https://host/repository//folder#ref")
    if scheme in ("https", "http") and "@" in place.partition("/")[0]:
        raise _as("git", text.replace(place.partition("@")[0], "..."), "it holds a login", "git asks its own helpers")
    if scheme == "http" and not loopback(place.partition("/")[0]):
        raise _as("git", text, "what comes over plain http may be anything", text.replace("http://", "https://", 1))
    url = f"{scheme}{separator}{place}".rstrip("/")
    return Reference(kind="git", text=text, url=url, ref=ref or None, subfolder=subfolder.rstrip("/") or None)


def _archive(text: str) -> Reference:
    url, _, fragment = text.partition("#")
    try:
        parts = urlsplit(url)
        host, user, _port = parts.hostname, parts.username, parts.port
    except ValueError:  # also of a port that there cannot be
        raise _as("archive", text, "it is no address") from None
    if user is not None:
        raise _as("archive", text.replace(parts.netloc, f"...@{host}"), "it holds a login")
    if not host:
        raise _as("archive", text, "it names no host")
    if not parts.path.lower().endswith(_ARCHIVES):
        hint = f"{url}.git, if it is a git repository" if "." not in parts.path.rpartition("/")[2] else None
        raise _as("archive", text, f"it ends in none of {', '.join(_ARCHIVES)}", hint)
    if not (found := _SHA256.fullmatch(fragment)):
        raise _as("archive", text, "its checksum is missing", f"{url}#sha256=... (what `sha256sum` prints of it)")
    return Reference(kind="archive", text=text, url=url, digest=f"sha256:{found[1].lower()}")


def _zoo(text: str, name: str, version: str | None) -> Reference:
    return Reference(kind="zoo", text=text, name=name, version=version)


def _as(kind: Kind, text: str, problem: str, hint: str | None = None) -> UsageError:
    return UsageError(f"`{text}` is understood as {_KINDS[kind]}: {problem}", hint=hint or _FORMS)


def _wrong(text: str, problem: str, hint: str | None = None) -> UsageError:
    return UsageError(f"`{text}` names no cube: {problem}", hint=hint or _FORMS)
