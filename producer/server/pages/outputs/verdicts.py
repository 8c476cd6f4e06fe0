"""The verdicts of guards as they are shown. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from producer.server.pages.outputs.cut_json import Unreadable, read_cut_json

ACTIONS = {"pass": "passed", "flag": "flagged", "redact": "redacted", "fail": "blocked"}
MAX_VERDICTS = 50


@dataclass(frozen=True, slots=True)
class ShownVerdict:
    """What one guard decided.

    action: passed, flagged, redacted or blocked
    score, label: what its model or rule found
    """

    guard: str
    on: str
    action: str
    label: str
    score: float | None
    spans: int
    model: str
    revision: str

    @property
    def is_caught(self) -> bool:
        """Whether the guard did not let it pass."""
        return self.action != ACTIONS["pass"]


def read_verdicts(text: str | None, *, only_caught: bool = True) -> tuple[ShownVerdict, ...]:
    """Return the verdicts of a row.

    text: JSON, which may be cut
    only_caught: leave out guards that let the row pass
    """
    try:
        documents = [] if text is None else read_cut_json(text)
    except Unreadable:
        return ()
    shown = [_show(document) for document in documents[:MAX_VERDICTS] if isinstance(document, dict)]
    return tuple(verdict for verdict in shown if verdict.is_caught or not only_caught)


def _show(document: Mapping[str, Any]) -> ShownVerdict:
    action, score, spans = document.get("action"), document.get("score"), document.get("spans")
    return ShownVerdict(
        str(document.get("guard", "")),
        str(document.get("on", "")),
        ACTIONS.get(str(action), str(action)),
        str(document.get("label") or ""),
        score if isinstance(score, float | int) else None,
        spans if isinstance(spans, int) else 0,
        str(document.get("model") or ""),
        str(document.get("revision") or ""),
    )
