"""A reason why no worker works on a batch."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Blocker:
    """One reason why a batch waits: a stable code, and a sentence for people."""

    code: str
    message: str

    def as_dict(self) -> dict[str, str]:
        """Return the JSON object that `--json` prints."""
        return {"code": self.code, "message": self.message}
