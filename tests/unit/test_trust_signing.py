"""Signatures: what they cover, and everything that is none."""

import base64
import json
import random
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from mlcube import oci
from mlcube.errors import Damaged
from mlcube.oci import Descriptor, Manifest
from mlcube.trust.keys import PrivateKey
from mlcube.trust.signing import ANNOTATION, Signature, manifest_of, payload, read, sign, tag_of, verified_by

DIGEST = oci.digest_of(b"a manifest")
REPOSITORY = "registry.example.org/group/digits"


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return PrivateKey(ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture(scope="module")
def other() -> PrivateKey:
    return PrivateKey(ec.generate_private_key(ec.SECP256R1()))


def test_the_payload_is_byte_for_byte_what_cosign_signs() -> None:
    assert payload(REPOSITORY, DIGEST).decode() == (
        '{"critical":{"identity":{"docker-reference":"registry.example.org/group/digits"},'
        f'"image":{{"docker-manifest-digest":"{DIGEST}"}},"type":"cosign container image signature"}},"optional":null}}'
    )
    assert tag_of(DIGEST) == f"{DIGEST.replace(':', '-')}.sig"


def test_a_signature_is_of_one_key_over_one_digest(key: PrivateKey, other: PrivateKey) -> None:
    signature = sign(key, REPOSITORY, DIGEST)
    keys = (("other", other.public), ("lab", key.public))
    assert verified_by(signature, DIGEST, keys) == "lab"
    assert verified_by(signature, DIGEST, keys[:1]) is None
    assert verified_by(signature, oci.digest_of(b"another"), keys) is None


def test_every_changed_byte_is_seen(key: PrivateKey) -> None:
    signature = sign(key, REPOSITORY, DIGEST)
    keys = (("lab", key.public),)
    dice = random.Random(5)
    for _ in range(200):
        content = bytearray(signature.payload)
        content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
        assert verified_by(Signature(bytes(content), signature.signature), DIGEST, keys) is None
        signed = bytearray(base64.b64decode(signature.signature))
        signed[dice.randrange(len(signed))] ^= 1 << dice.randrange(8)
        assert verified_by(Signature(signature.payload, base64.b64encode(signed).decode()), DIGEST, keys) is None


def _payload(**critical: Any) -> bytes:
    whole: dict[str, Any] = {
        "identity": {"docker-reference": REPOSITORY},
        "image": {"docker-manifest-digest": DIGEST},
        "type": "cosign container image signature",
    }
    return json.dumps({"critical": {**whole, **critical}, "optional": None}).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[" * 100_000,
        b'{"critical":' + b'{"a":' * 100_000,
        b'{"optional":' + b"[" * 50_000 + b"]" * 50_000 + b"," + _payload()[1:],
        b"\xff\xfe",
        _payload(type="another kind"),
        _payload(image={"docker-manifest-digest": 5}),
        _payload(image={}),
        _payload()[:-1],
    ],
)
def test_a_payload_that_says_something_else_counts_for_nothing(content: bytes, key: PrivateKey) -> None:
    """Even when the key itself has signed it."""
    signature = Signature(content, base64.b64encode(key.sign(content)).decode())
    assert verified_by(signature, DIGEST, (("lab", key.public),)) is None


@pytest.mark.parametrize("text", ["", "%%%", "AAAA", "AAA", "é", "A" * 100_000, "\0"])
def test_what_is_no_signature_counts_for_nothing(text: str, key: PrivateKey) -> None:
    assert verified_by(Signature(payload(REPOSITORY, DIGEST), text), DIGEST, (("lab", key.public),)) is None


def test_signatures_of_others_stay(key: PrivateKey, other: PrivateKey) -> None:
    first, second = sign(key, REPOSITORY, DIGEST), sign(other, REPOSITORY, DIGEST)
    manifest, _ = manifest_of((second,), manifest_of((first,))[0])
    assert read(manifest, lambda _: first.payload) == (first, second)
    again, _ = manifest_of((second,), manifest)
    assert again == manifest


def test_layers_that_are_no_signatures_are_left_out(key: PrivateKey) -> None:
    signature = sign(key, REPOSITORY, DIGEST)
    manifest, _ = manifest_of((signature,))
    document = json.loads(manifest)
    good = document["layers"][0]
    document["layers"] = [
        {**good, "mediaType": "application/octet-stream"},
        {**good, "annotations": {}},
        {**good, "size": 1 << 40},
        {**good, "annotations": {ANNOTATION: f" {signature.signature}\n"}},
    ]
    assert read(json.dumps(document).encode(), lambda _: signature.payload) == (signature,)


def test_a_flood_of_signatures_is_cut(key: PrivateKey) -> None:
    many = tuple(Signature(f"{number}".encode(), "AAAA") for number in range(1000))
    asked: list[Descriptor] = []
    manifest, _ = manifest_of((*many, sign(key, REPOSITORY, DIGEST)))

    def blob(descriptor: Descriptor) -> bytes:
        asked.append(descriptor)
        return b""

    assert len(read(manifest, blob)) == len(asked) == 64


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 100_000, b"\xff", b'{"schemaVersion":2}'])
def test_a_manifest_that_is_none_is_damaged(content: bytes) -> None:
    with pytest.raises(Damaged, match="no manifest of signatures"):
        read(content, lambda _: b"")


@pytest.mark.parametrize(
    "change", [{"digest": "sha256:../../x"}, {"digest": "x" * 9000}, {"digest": ""}, {"size": -5}, {"size": -(1 << 62)}]
)
def test_a_signature_that_can_be_no_content_is_damaged(change: dict[str, Any], key: PrivateKey) -> None:
    """And nobody is asked for it."""
    document = json.loads(manifest_of((sign(key, REPOSITORY, DIGEST),))[0])
    document["layers"][0].update(change)
    with pytest.raises(Damaged, match="a signature is said to be") as caught:
        read(json.dumps(document).encode(), lambda layer: pytest.fail(f"asked for {layer}"))
    assert len(str(caught.value)) < 200


def test_a_manifest_that_was_read_already_is_as_good(key: PrivateKey) -> None:
    signature = sign(key, REPOSITORY, DIGEST)
    import msgspec

    manifest = msgspec.json.decode(manifest_of((signature,))[0], type=Manifest)
    assert read(manifest, lambda _: signature.payload) == (signature,)
