"""Images made by hand, to be unpacked by tests: good ones and hostile ones."""

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Member = tuple[tarfile.TarInfo, bytes]


def file(name: str, content: str = "", mode: int = 0o644) -> Member:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = len(content.encode()), mode, 1_000_000_000
    return member, content.encode()


def folder(name: str, mode: int = 0o755) -> Member:
    member = tarfile.TarInfo(name)
    member.type, member.mode = tarfile.DIRTYPE, mode
    return member, b""


def link(name: str, target: str, *, hard: bool = False) -> Member:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.LNKTYPE if hard else tarfile.SYMTYPE, target
    return member, b""


def device(name: str) -> Member:
    member = tarfile.TarInfo(name)
    member.type, member.devmajor, member.devminor = tarfile.CHRTYPE, 1, 3
    return member, b""


def layer(*members: Member) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as packed:
        for member, content in members:
            packed.addfile(member, io.BytesIO(content))
    return written.getvalue()


def configuration(layers: Sequence[bytes], **config: Any) -> bytes:
    digests = [f"sha256:{hashlib.sha256(one).hexdigest()}" for one in layers]
    return json.dumps({"config": config, "rootfs": {"type": "layers", "diff_ids": digests}}).encode()


def docker_archive(path: Path, *layers: bytes, config: bytes | None = None, **fields: Any) -> Path:
    """As `docker save` writes it."""
    described = config or configuration(layers, **fields)
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = json.dumps([{"Config": "config.json", "RepoTags": ["x:1"], "Layers": names}]).encode()
    files = {"config.json": described, "manifest.json": manifest, **dict(zip(names, layers, strict=True))}
    with tarfile.open(path, "w") as packed:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
    return path


def oci_layout(path: Path, *layers: bytes, machines: Sequence[str] = ("",), **fields: Any) -> Path:
    """As skopeo writes it into a directory, with packed layers; for several machines if they are named."""
    (path / "blobs" / "sha256").mkdir(parents=True)

    def blob(content: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        (path / "blobs" / "sha256" / digest).write_bytes(content)
        return {"digest": f"sha256:{digest}", "size": len(content)}

    entries = []
    for machine in machines:
        described = configuration(layers, **fields, Labels={"machine": machine})
        manifest = {"config": blob(described), "layers": [blob(gzip.compress(one, mtime=0)) for one in layers]}
        platform = {"platform": {"os": "linux", "architecture": machine}} if machine else {}
        entries.append(blob(json.dumps(manifest).encode()) | platform)
    (path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    return path


def tree(root: Path) -> dict[str, str]:
    """What lies in a directory: files with their content, links with where they lead, directories."""
    found = {}
    for place, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = Path(place, name)
            key = str(path.relative_to(root))
            if path.is_symlink():
                found[key] = f"-> {os.readlink(path)}"
            else:
                found[key] = "/" if path.is_dir() else path.read_text()
    return found
