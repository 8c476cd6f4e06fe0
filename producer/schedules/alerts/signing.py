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

PREFIX = "whsec_"
FEWEST_BYTES, MOST_BYTES = 24, 64  # as the specification has them


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """What both sides know."""

    key: bytes

    @classmethod
    def read(cls, setting: str) -> "Secret":
        """From `whsec_` and base64; raises SettingsError, which does not show it."""
        try:
            key = base64.b64decode(setting.removeprefix(PREFIX), validate=True)
        except ValueError:
            key = b""
        if not setting.startswith(PREFIX) or not FEWEST_BYTES <= len(key) <= MOST_BYTES:
            made = f'echo "{PREFIX}$(openssl rand -base64 32)"'
            raise SettingsError(
                f"webhook_secret is not {PREFIX} and {FEWEST_BYTES} to {MOST_BYTES} bytes in base64; make one: {made}"
            )
        return cls(key)

    def headers(self, id_: str, timestamp: int, body: bytes) -> dict[str, str]:
        """The three headers of a message."""
        signed = b".".join((id_.encode(), str(timestamp).encode(), body))
        signature = base64.b64encode(hmac.new(self.key, signed, hashlib.sha256).digest()).decode()
        return {"webhook-id": id_, "webhook-timestamp": str(timestamp), "webhook-signature": f"v1,{signature}"}
