"""The verdicts of a row's guards in words."""

from collections.abc import Sequence
from typing import Any

from models.lifecycle.guard_counters import COUNTER_BY_ACTION


def describe(verdicts: Sequence[dict[str, Any]]) -> str:
    """Return what the guards caught, such as `blocked by injection (INJECTION 0.98)`, or how many passed the row.

    verdicts: as in `job_results.guards`.
    """
    caught = [_describe_one(verdict) for verdict in verdicts if verdict["action"] != "pass"]
    if caught:
        return ", ".join(caught)
    return f"passed by {', '.join(str(verdict['guard']) for verdict in verdicts)}" if verdicts else ""


def _describe_one(verdict: dict[str, Any]) -> str:
    score = None if verdict["score"] is None else f"{verdict['score']:.2f}"
    places = f"{verdict['spans']} places" if verdict["spans"] > 1 else None
    reasons = [" ".join(filter(None, (verdict["label"], score))), places]
    reason = ", ".join(filter(None, reasons))
    return f"{COUNTER_BY_ACTION[verdict['action']]} by {verdict['guard']}{f' ({reason})' if reason else ''}"
