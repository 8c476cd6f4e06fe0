"""Signatures, by which a webhook's receiver verifies origin, integrity and age of a message.

The scheme is that of Standard Webhooks (its specification, "Webhook signatures"). The headers are `webhook-id`,
`webhook-timestamp` (seconds) and `webhook-signature`, which is `v1,` and the HMAC-SHA256 in base64. The signed text is
id, timestamp and body, joined by dots.
"""

import base64
import hashlib
import hmac
from dataclasses import dataclass

from models.errors import SettingsError

SECRET_PREFIX = "whsec_"
MIN_SECRET_BYTES, MAX_SECRET_BYTES = 24, 64  # limits of the specification


@dataclass(frozen=True, slots=True, repr=False)
class SigningSecret:
    """The secret that sender and receiver share."""

    key: bytes

    @classmethod
    def parse(cls, setting: str) -> "SigningSecret":
        """Parse `whsec_` and base64; raises SettingsError, which does not show the secret."""
        try:
            key = base64.b64decode(setting.removeprefix(SECRET_PREFIX), validate=True)
        except ValueError:
            key = b""
        if not setting.startswith(SECRET_PREFIX) or not MIN_SECRET_BYTES <= len(key) <= MAX_SECRET_BYTES:
            command = f'echo "{SECRET_PREFIX}$(openssl rand -base64 32)"'
            raise SettingsError(
                f"webhook_secret is not {SECRET_PREFIX} and {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} "
                f"bytes in base64; make one: {command}"
            )
        return cls(key)

    def signature_headers(self, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
        """Return the three headers of a message."""
        content = b".".join((message_id.encode(), str(timestamp).encode(), body))
        signature = base64.b64encode(hmac.new(self.key, content, hashlib.sha256).digest()).decode()
        return {"webhook-id": message_id, "webhook-timestamp": str(timestamp), "webhook-signature": f"v1,{signature}"}
