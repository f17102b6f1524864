"""No secret gets into a log, however the stream is cut."""

from hypothesis import given
from hypothesis import strategies as st

from mlcube.redaction import Redaction


@given(value=st.text("ab", min_size=4, max_size=8), noise=st.lists(st.text("abc", max_size=12)), data=st.data())
def test_no_value_is_left_however_the_stream_is_cut(value: str, noise: list[str], data: st.DataObject) -> None:
    secret = value.encode()
    stream = secret.join(part.encode() for part in ["", *noise, ""])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    hide = Redaction([secret])
    parts = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    written = b"".join(hide.feed(part) for part in parts) + hide.end()
    assert secret in stream
    assert secret not in written
    assert b"***" in written


@given(st.lists(st.binary(max_size=20)))
def test_a_stream_without_secrets_stays_as_it_is(parts: list[bytes]) -> None:
    hide = Redaction([b"\0never\0there\0"])
    assert b"".join(hide.feed(part) for part in parts) + hide.end() == b"".join(parts)


def test_a_short_value_is_not_hidden_since_it_would_hide_the_log() -> None:
    assert Redaction([b"1"]).feed(b"epoch 1 of 10") == b"epoch 1 of 10"
