"""Signing: a webhook's receiver can tell that a message is ours, whole and new.

By the scheme of Standard Webhooks (its specification, "Webhook signatures"): the headers `webhook-id`,
`webhook-timestamp` (seconds) and `webhook-signature`, which is `v1,` and the HMAC-SHA256 in base64 over id, timestamp
and body with a dot between.
"""

import base64
import hashlib
import hmac
from dataclasses import dataclass

from models.errors import SettingsError

SECRET_PREFIX = "whsec_"
MIN_SECRET_BYTES, MAX_SECRET_BYTES = 24, 64  # as the specification has them


@dataclass(frozen=True, slots=True, repr=False)
class SigningSecret:
    """What both sides know."""

    key: bytes

    @classmethod
    def parse(cls, setting: str) -> "SigningSecret":
        """From `whsec_` and base64; raises SettingsError, which does not show it."""
        try:
            key = base64.b64decode(setting.removeprefix(SECRET_PREFIX), validate=True)
        except ValueError:
            key = b""
        if not setting.startswith(SECRET_PREFIX) or not MIN_SECRET_BYTES <= len(key) <= MAX_SECRET_BYTES:
            made = f'echo "{SECRET_PREFIX}$(openssl rand -base64 32)"'
            raise SettingsError(
                f"webhook_secret is not {SECRET_PREFIX} and {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} "
                f"bytes in base64; make one: {made}"
            )
        return cls(key)

    def signature_headers(self, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
        """The three headers of a message."""
        signed = b".".join((message_id.encode(), str(timestamp).encode(), body))
        signature = base64.b64encode(hmac.new(self.key, signed, hashlib.sha256).digest()).decode()
        return {"webhook-id": message_id, "webhook-timestamp": str(timestamp), "webhook-signature": f"v1,{signature}"}
