"""Messages that the next page shows once, such as "412 jobs wait again".

A message travels in a cookie that is signed with the session, so that it is in no address, and nobody else can make it.
"""

import hashlib
import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import Literal

MAX_CHARACTERS = 500
SIGNATURE_CHARACTERS = 64

Level = Literal["good", "warn", "bad"]
LEVELS: tuple[Level, ...] = ("good", "warn", "bad")


@dataclass(frozen=True, slots=True)
class FlashMessage:
    """A message: what an action did."""

    text: str
    level: Level = "good"


def pack(message: FlashMessage, token: str) -> str:
    """Return the value of the cookie.

    token: of the session
    """
    text = message.text if len(message.text) <= MAX_CHARACTERS else f"{message.text[: MAX_CHARACTERS - 1]}…"
    content = urlsafe_b64encode(json.dumps([message.level, text], ensure_ascii=False).encode(errors="replace")).decode()
    return f"{_sign(content, token)}{content}"


def unpack(value: str, token: str) -> FlashMessage | None:
    """Return the message of a cookie; None if this session has not made it."""
    signature, content = value[:SIGNATURE_CHARACTERS], value[SIGNATURE_CHARACTERS:]
    if not hmac.compare_digest(signature.encode(), _sign(content, token).encode()):
        return None
    level, text = json.loads(urlsafe_b64decode(content))
    return FlashMessage(text, level)


def _sign(content: str, token: str) -> str:
    return hmac.new(token.encode(), f"message {content}".encode(), hashlib.sha256).hexdigest()
