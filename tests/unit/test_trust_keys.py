"""Key pairs: what is written, what is read, and what is said of what is none."""

import base64
import json
import os
import resource
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from mlcube.errors import CubeError
from mlcube.trust import secretbox
from mlcube.trust.key_files import create, read_private
from mlcube.trust.keys import read_public


def unasked() -> str:
    raise AssertionError("nobody should have been asked")


def written(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, passphrase: str | None = None) -> bytes:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase.encode())
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def public_text(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    public = key.public_key()
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def test_a_pair_signs_and_verifies_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    public = create(str(tmp_path / "lab"), "the passphrase")
    assert stat.S_IMODE((tmp_path / "lab.key").stat().st_mode) == 0o600
    assert b"the passphrase" not in (tmp_path / "lab.key").read_bytes()
    private = read_private(str(tmp_path / "lab.key"), lambda: "the passphrase")
    assert private.public.pem == public.pem == (tmp_path / "lab.pub").read_text()
    signature = private.sign(b"content")
    assert public.verifies(b"content", signature)
    assert not public.verifies(b"Content", signature)
    assert not public.verifies(b"content", signature[:-1])
    assert not public.verifies(b"content", b"")


@pytest.mark.parametrize("name", ["lab.key", "lab.pub"])
def test_nothing_is_overwritten(name: str, tmp_path: Path) -> None:
    (tmp_path / name).symlink_to("elsewhere")
    with pytest.raises(CubeError, match="never overwritten"):
        create(str(tmp_path / "lab"), "secret")
    assert sorted(os.listdir(tmp_path)) == ["home", name]


@pytest.mark.parametrize("room", [0, 100])
def test_half_a_key_is_none(room: int, tmp_path: Path) -> None:
    """A full disk leaves neither file, so that the same command is right once there is room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(CubeError, match=r"lab\.key` cannot be written"):
            create(str(tmp_path / "lab"), "secret")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.glob("lab*"))
    create(str(tmp_path / "lab"), "secret")


def test_a_key_has_a_passphrase(tmp_path: Path) -> None:
    with pytest.raises(CubeError, match="needs a passphrase"):
        create(str(tmp_path / "lab"), "")


def test_a_wrong_passphrase_is_one_sentence(tmp_path: Path) -> None:
    create(str(tmp_path / "lab"), "right")
    with pytest.raises(CubeError, match="the passphrase does not open") as caught:
        read_private(str(tmp_path / "lab.key"), lambda: "wrong-one")
    assert "wrong-one" not in str(caught.value)


def test_any_pkcs8_file_is_read(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "plain").write_bytes(written(key))
    (tmp_path / "sealed").write_bytes(written(key, "secret"))
    assert read_private(str(tmp_path / "plain"), unasked).public.pem == public_text(key)
    assert read_private(str(tmp_path / "sealed"), lambda: "secret").public.pem == public_text(key)
    with pytest.raises(CubeError, match="the passphrase does not open"):
        read_private(str(tmp_path / "sealed"), lambda: "wrong")


def _armour(text: str) -> bytes:
    body = base64.b64encode(text.encode()).decode()
    label = "ENCRYPTED SIGSTORE PRIVATE KEY"
    return f"-----BEGIN {label}-----\n{body}\n-----END {label}-----\n".encode()


def _sealed(**cost: int) -> bytes:
    kdf = {"name": "scrypt", "params": {"N": 16, "r": 8, "p": 1, **cost}, "salt": "AAAA"}
    cipher = {"name": "nacl/secretbox", "nonce": base64.b64encode(bytes(24)).decode()}
    return _armour(json.dumps({"kdf": kdf, "cipher": cipher, "ciphertext": "AAAA"}))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is no key"),
        (b"\xff\xfe\0garbage", "is no key"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "is a certificate"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "is a public key"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "damaged"),
        (b"-----BEGIN PRIVATE KEY-----\n%%%%\n", "damaged"),
        (b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", "damaged"),
        (b"-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n\xff\xff\n", "damaged"),
        (_armour("{}"), "damaged"),
        (_armour("[" * 100_000), "damaged|is no key"),
        (_armour("\ud800".encode("utf-8", "surrogatepass").decode("latin-1")), "damaged"),
        (_sealed(), "does not open"),
        (_sealed(N=1 << 40), "damaged"),
        (_sealed(N=17), "damaged"),
        (_sealed(N=-16), "damaged"),
        (_sealed(r=1 << 30), "damaged"),
    ],
)
def test_what_is_no_private_key_is_said_in_one_sentence(content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(CubeError, match=told) as caught:
        read_private(str(tmp_path / "file"), lambda: "secret")
    assert len(caught.value.problems) == 1
    assert "\n" not in caught.value.problems[0].message


def test_keys_of_other_kinds_are_named(tmp_path: Path) -> None:
    large = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    other = ec.generate_private_key(ec.SECP384R1())
    for key, told in ((large, "an RSA key"), (other, "a key over secp384r1")):
        (tmp_path / "file").write_bytes(written(key))
        with pytest.raises(CubeError, match=told):
            read_private(str(tmp_path / "file"), unasked)
        with pytest.raises(CubeError, match=told):
            read_public(public_text(key), "it")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no public key"),
        ("garbage \udcff".encode("utf-8", "surrogateescape").decode("latin-1"), "no public key"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "no public key"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "a certificate"),
        ("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n", "a private key"),
    ],
)
def test_what_is_no_public_key_is_said_in_one_sentence(text: str, told: str) -> None:
    with pytest.raises(CubeError, match=told):
        read_public(text, "it")


def test_a_public_key_stands_alone(tmp_path: Path) -> None:
    """What is not read is not silently left out: nobody may take it for trusted."""
    one, other = (public_text(ec.generate_private_key(ec.SECP256R1())) for _ in range(2))
    for text in (one, f"\n{one}\n\n", one.rstrip(), one.replace("\n", "\r\n")):
        assert read_public(text, "it").pem == one
    for text in (one + other, one.rstrip() + other, f"{one}\n\n{other}", one + one):
        with pytest.raises(CubeError, match="it holds several keys, and one is read"):
            read_public(text, "it")
    for text in (f"{one}\0", f"{one}rubbish", f"# of the lab\n{one}", f"{one}-----END PUBLIC KEY-----\n"):
        with pytest.raises(CubeError, match="it holds something besides the public key"):
            read_public(text, "it")


def test_a_missing_key_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CubeError, match="there is no key"):
        read_private(str(tmp_path / "none"), unasked)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CubeError, match="is no key"):
        read_private(str(tmp_path / "pipe"), unasked)


def test_a_secret_box_is_nacls() -> None:
    # The test vector of NaCl's own documentation (tests/secretbox.c), which any implementation gives.
    key = bytes.fromhex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389")
    nonce = bytes.fromhex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37")
    content = bytes.fromhex(
        "be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffce5ecbaaf33bd751a1ac728d45e6c61296cdc3c01"
        "233561f41db66cce314adb310e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a024a838f21af1fde048977eb48f59ffd"
        "4924ca1c60902e52f0a089bc76897040e082f937763848645e0705"
    )
    box = secretbox.sealed(content, nonce, key)
    assert box.hex().startswith("f3ffc7703f9400e52a7dfb4b3d3305d9")
    assert secretbox.opened(box, nonce, key) == content
    for place in range(0, len(box), 7):
        changed = bytearray(box)
        changed[place] ^= 1
        assert secretbox.opened(bytes(changed), nonce, key) is None
    assert secretbox.opened(box[:15], nonce, key) is None
    assert secretbox.opened(box, nonce[:23], key) is None
