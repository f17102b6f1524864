"""Whatever names a cube is understood as one kind, and errors say as which."""

import tarfile
from pathlib import Path

import pytest

from mlcube.errors import UsageError
from mlcube.references import Reference, is_reference, parse

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (".", {"kind": "path", "path": "."}),
        ("./digits", {"kind": "path", "path": "./digits"}),
        ("/srv/digits", {"kind": "path", "path": "/srv/digits"}),
        ("other.yaml", {"kind": "path", "path": "other.yaml"}),
        ("a/b/c", {"kind": "path", "path": "a/b/c"}),
        ("oci://host.org/a/b", {"kind": "oci", "repository": "host.org/a/b", "tag": "latest"}),
        ("oci://[::1]:65535/a", {"kind": "oci", "repository": "[::1]:65535/a", "tag": "latest"}),
        ("oci://[::1]/a", {"kind": "oci", "repository": "[::1]/a", "tag": "latest"}),
        ("oci://localhost:5000/a:1.2", {"kind": "oci", "repository": "localhost:5000/a", "tag": "1.2"}),
        (f"oci://host.org/a@{DIGEST}", {"kind": "oci", "repository": "host.org/a", "digest": DIGEST}),
        (f"oci://host.org/a:1@{DIGEST}", {"kind": "oci", "repository": "host.org/a", "tag": "1", "digest": DIGEST}),
        ("model.cube", {"kind": "bundle", "path": "model.cube"}),
        ("./model.cube", {"kind": "bundle", "path": "./model.cube"}),
        ("digits", {"kind": "zoo", "name": "digits"}),
        ("digits:1.2", {"kind": "zoo", "name": "digits", "version": "1.2"}),
        ("org/digits:1.2", {"kind": "zoo", "name": "org/digits", "version": "1.2"}),
        ("https://h.org/r.git", {"kind": "git", "url": "https://h.org/r.git"}),
        (
            "https://h.org/r.git//sub/deep#v1",
            {"kind": "git", "url": "https://h.org/r.git", "subfolder": "sub/deep", "ref": "v1"},
        ),
        ("git+https://h.org/r#main", {"kind": "git", "url": "https://h.org/r", "ref": "main"}),
        ("git@h.org:o/r.git#v1", {"kind": "git", "url": "git@h.org:o/r.git", "ref": "v1"}),
        ("ssh://git@h.org/o/r//sub", {"kind": "git", "url": "ssh://git@h.org/o/r", "subfolder": "sub"}),
        ("git+file:///srv/r//sub#v1", {"kind": "git", "url": "file:///srv/r", "subfolder": "sub", "ref": "v1"}),
        (
            f"https://h.org/c.tar.gz#sha256={'A' * 64}",
            {"kind": "archive", "url": "https://h.org/c.tar.gz", "digest": DIGEST},
        ),
    ],
)
def test_a_name_is_understood(text: str, expected: dict[str, str]) -> None:
    assert parse(text) == Reference(text=text, **expected)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("oci://host.org/UPPER", "understood as a cube in a registry"),
        ("oci://host.org/a@sha256:12", "neither a tag nor a digest"),
        ("oci://127.0.0.1:99999/a", "`oci://127.0.0.1:99999/a` is understood as a cube in a registry: "),
        ("oci://127.0.0.1:99999/a", "`127.0.0.1:99999/a` names a port that there cannot be: 99999"),
        ("oci://[::1]:65536/a:1", "names a port that there cannot be: 65536"),
        ("oci://host.org:0/a", "names a port that there cannot be: 0"),
        (f"https://h.org:99999/a.zip#sha256={'0' * 64}", "understood as an archive: it is no address"),
        ("oci://host.org/a:-x", "neither a tag nor a digest"),
        ("oci://host.org/a:", "the tag after `:` is missing\nhint: oci://host.org/a means its tag `latest`"),
        ("oci://host.org/a@", "the digest after `@` is missing\nhint: oci://host.org/a@sha256:..."),
        ("oci://host.org:5000/a:@sha256:" + "a" * 64, "the tag after `:` is missing"),
        ("git+https://h.org/r#--upload-pack=x", "no branch, tag or commit"),
        ("git+ext::sh -c touch% x", "there is no address"),
        ("git+--upload-pack=touch x", "there is no address"),
        ("ssh://-oProxyCommand=x/r", "no host that can be asked"),
        ("git+ssh://git@-oProxyCommand=x/r", "no host that can be asked"),
        ("git+https://h.org/r//../up", "no folder within the repository"),
        ("git+http://h.org/r", "plain http"),
        ("git+git://h.org/r", "`git://` is not used"),
        ("https://h.org/c.tar.gz", "its checksum is missing"),
        ("https://h.org/page.html#sha256=" + "a" * 64, "it ends in none of"),
        ("s3://bucket/c", "none of the ways to name a cube"),
        ("localhost:5000/a:1", "understood as a path"),
        ("docker://localhost:5000/a:1", "hint: oci://localhost:5000/a:1"),
        ("oci:localhost:5000/a:1", "hint: oci://localhost:5000/a:1"),
        ("oci:/host.org/a:1", "hint: oci://host.org/a:1"),
        ("oci//host.org/a:1", "hint: oci://host.org/a:1"),
        ("oci://localhost:5000", "`localhost:5000` names a registry, and no repository in it"),
        ("oci://localhost:5000/", "names a registry, and no repository in it"),
        ("oci://host.org/digits\n", "a letter that no address has"),
    ],
)
def test_an_error_says_as_which_kind_a_name_was_understood(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert said in str(caught.value)
    assert "hint:" in str(caught.value)


def test_a_login_in_an_address_is_refused_and_not_repeated() -> None:
    for text in ("git+https://me:secret@h.org/r", "https://me:secret@h.org/c.zip#sha256=" + "a" * 64):
        with pytest.raises(UsageError) as caught:
            parse(text)
        assert "it holds a login" in str(caught.value)
        assert "secret" not in str(caught.value)


def test_what_exists_is_a_path_or_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    (tmp_path / "folder.cube").mkdir()
    (tmp_path / "plain").write_text("x")
    with tarfile.open(tmp_path / "bundle", "w") as archive:
        archive.add(tmp_path / "plain", "plain")
    kinds = {name: parse(name).kind for name in ("digits", "folder.cube", "plain", "bundle", "other")}
    assert kinds == {"digits": "path", "folder.cube": "path", "plain": "path", "bundle": "bundle", "other": "zoo"}


def test_a_word_with_an_equals_sign_is_a_parameter_unless_it_is_an_address() -> None:
    assert is_reference("digits")
    assert is_reference("https://h.org/c.zip#sha256=" + "a" * 64)
    assert not is_reference("model=https://h.org/c.zip")
    assert not is_reference("")
