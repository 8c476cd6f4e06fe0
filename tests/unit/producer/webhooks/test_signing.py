"""Signatures, against the vectors that Standard Webhooks' own libraries are tested with."""

import base64

import pytest

from models.errors import SettingsError
from producer.webhooks.signing import SigningSecret


@pytest.mark.parametrize(
    ("key", "id_", "timestamp", "body", "signature"),
    [
        (
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1614265330,
            b'{"test": 2432232314}',
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
        (
            "plJ3nmyCDGBKInavdOK15jsl",
            "msg_loFOjxBNrRLzqYUf",
            1731705121,
            b'{"event_type":"ping","data":{"success":true}}',
            "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=",
        ),
    ],
)
def test_vectors(key: str, id_: str, timestamp: int, body: bytes, signature: str) -> None:
    headers = SigningSecret(base64.b64decode(key)).signature_headers(id_, timestamp, body)

    assert headers == {"webhook-id": id_, "webhook-timestamp": str(timestamp), "webhook-signature": signature}


def test_a_setting_is_read() -> None:
    assert SigningSecret.parse("whsec_" + base64.b64encode(b"k" * 32).decode()) == SigningSecret(b"k" * 32)


@pytest.mark.parametrize(
    "setting",
    [
        "",
        "whsec_",
        "a" * 44,
        "whsec_!!!",
        "whsec_" + base64.b64encode(b"k" * 23).decode(),
        "whsec_" + base64.b64encode(b"k" * 65).decode(),
        "whsec_ümlaut",
    ],
)
def test_one_that_can_t_be_is_refused_and_not_shown(setting: str) -> None:
    with pytest.raises(SettingsError, match="make one: echo") as refused:
        SigningSecret.parse(setting)

    assert len(setting) < 10 or setting not in str(refused.value)
    assert "kkkk" not in repr(SigningSecret(b"k" * 32))
