"""Cubes from archives on the web: nothing is unpacked before the checksum was found right."""

import os
import zipfile
from contextlib import suppress

from mlcube.compression import Kind, opened
from mlcube.errors import CubeError, Damaged, Denied, MissingInput, Unreachable
from mlcube.obtaining.admitting import admit_address
from mlcube.obtaining.asking import Asking
from mlcube.offline import offline
from mlcube.references import Reference
from mlcube.store.kept import About
from mlcube.unpacking import Unpacking, unpack_tar, unpack_zip

__all__ = ["from_archive"]

_PIECE_BYTES = 1 << 20
_SECONDS = 30.0
_ATTEMPTS = 5
_MOST_TIMES, _LEAST_LIMIT = 200, 4 << 30
"""An archive may be so many times as large when it is unpacked, or that large in any case."""
_MOST_MEMBERS = 1_000_000


def from_archive(reference: Reference, asking: Asking) -> tuple[str, str]:
    """The folder of the cube in an archive, and `archive:sha256:...`."""
    url, digest = reference.url or "", reference.digest or ""
    key = f"archive:{digest}"
    admit_address("archive", url)
    kept = asking.kept(key)
    if kept is None:
        if offline() and not asking.store.has(digest):
            raise Unreachable(
                f"the archive `{digest}` of `{url}` is not kept here, and no network call may be made",
                hint=f"pull it once without `--offline` and CUBE_OFFLINE: cube pull {reference.text}",
            )
        with asking.store.using((key, digest)), asking.store.lock(key):
            kept = asking.kept(key)
            if kept is None:
                _bring(url, digest, asking)
                _unpack(url, digest, key, asking)
                kept = asking.kept(key)
    if kept is None:
        raise MissingInput(f"the cube `{key}` was removed while it was brought", hint="once more")
    return _inside(kept.root), key


def _inside(root: str) -> str:
    """Where the cube lies: many archives hold one folder, which holds everything."""
    names = os.listdir(root)
    if "mlcube.yaml" not in names and len(names) == 1 and os.path.isdir(only := os.path.join(root, names[0])):
        return only
    return root


def _bring(url: str, digest: str, asking: Asking) -> None:
    """The archive as a blob: continued where it was cut, and verified."""
    import hashlib

    if asking.store.has(digest):
        return
    path = asking.store.made(digest)
    part = f"{path}.part"
    for attempt in range(_ATTEMPTS):
        try:
            _continue(url, part, asking)
            break
        except ConnectionError as error:
            asking.check()
            if attempt == _ATTEMPTS - 1:
                raise Unreachable(f"`{url}` cannot be read to its end: {error}") from None
    found = hashlib.sha256()
    with open(part, "rb") as file:
        while piece := file.read(_PIECE_BYTES):
            asking.check()
            found.update(piece)
    if f"sha256:{found.hexdigest()}" != digest:
        os.unlink(part)
        raise Damaged(
            f"`{url}` has the checksum sha256={found.hexdigest()}, and not {digest.replace(':', '=')}",
            hint="it was changed: ask who gave you the checksum",
        )
    os.replace(part, path)
    asking.store.seal(digest)


def _continue(url: str, part: str, asking: Asking) -> None:
    """One request for what is missing. Raises ConnectionError when it was cut."""
    import requests

    had = os.path.getsize(part) if os.path.exists(part) else 0
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={had}-"} if had else {})}
    try:
        with requests.get(url, headers=headers, stream=True, timeout=_SECONDS) as answer:
            if answer.status_code == 416:
                os.unlink(part)
                raise ConnectionError("it cannot be continued")
            _check_status(url, answer.status_code)
            continues = answer.status_code == 206 and answer.headers.get("Content-Range", "").startswith(
                f"bytes {had}-"
            )
            had = had if continues else 0
            size = int(answer.headers.get("Content-Length", "0") or 0)
            with open(part, "ab" if continues else "wb") as file:
                for piece in answer.iter_content(_PIECE_BYTES):
                    asking.check()
                    file.write(piece)
                    had += len(piece)
                    asking.progress(had, max(had, size))
            if size and not continues and had < size:
                raise ConnectionError("it was cut")
    except requests.RequestException as error:
        raise ConnectionError(str(error)) from None
    except ConnectionError:
        raise
    except OSError as error:
        raise CubeError(f"`{part}` cannot be written: {(error.strerror or str(error)).lower()}") from error


def _check_status(url: str, status: int) -> None:
    if status in (401, 403):
        raise Denied(f"`{url}` is not given to everybody ({status})")
    if status in (404, 410):
        raise MissingInput(f"there is nothing at `{url}` ({status})")
    if status >= 500 or status == 429:
        raise ConnectionError(f"it answers {status}")
    if status not in (200, 206):
        raise Unreachable(f"`{url}` answers {status}")


def _unpack(url: str, digest: str, key: str, asking: Asking) -> None:
    path = asking.store.blob_path(digest)
    limit = max(_LEAST_LIMIT, os.path.getsize(path) * _MOST_TIMES)
    about = About(digest=key, title=url.rpartition("/")[2], origin=url)
    with asking.store.fill(about, most_bytes=limit, most_members=_MOST_MEMBERS) as unpacking:
        _read(url, path, unpacking)
    with suppress(OSError):
        asking.store.forget(digest)  # its files are kept


def _read(url: str, path: str, unpacking: Unpacking) -> None:
    if url.lower().endswith(".zip"):
        try:
            with zipfile.ZipFile(path) as archive:
                unpack_zip(unpacking, archive)
        except zipfile.BadZipFile as error:
            raise Damaged(f"`{url}` is no zip file: {error}") from None
        return
    kind: Kind = "gzip" if url.lower().endswith(("gz",)) else "zstd" if url.lower().endswith(".zst") else "none"
    with open(path, "rb") as file, opened(file, kind) as stream:
        unpack_tar(unpacking, stream)
