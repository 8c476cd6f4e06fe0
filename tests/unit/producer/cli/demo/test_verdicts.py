"""Verdicts in words: what was caught, by which guard, and nothing of the text."""

from typing import Any

import pytest

from models.guards.verdict import Verdict, VerdictAction
from producer.cli.demo import verdicts


def verdict(guard: str, action: VerdictAction, **fields: Any) -> dict[str, Any]:
    return Verdict(guard, "input", action, **fields).as_dict()


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ([verdict("injection", "fail", label="INJECTION", score=0.9812)], "blocked by injection (INJECTION 0.98)"),
        ([verdict("toxicity", "flag", label="toxic", score=0.7)], "flagged by toxicity (toxic 0.70)"),
        ([verdict("contacts", "redact", label="EMAIL", spans=2)], "redacted by contacts (EMAIL, 2 places)"),
        ([verdict("secrets", "redact", spans=1)], "redacted by secrets"),
        (
            [verdict("a", "pass", score=0.1), verdict("b", "flag"), verdict("c", "redact")],
            "flagged by b, redacted by c",
        ),
        ([verdict("a", "pass", score=0.1), verdict("b", "pass")], "passed by a, b"),
        ([], ""),
    ],
)
def test_verdicts_are_described_in_words(found: list[dict[str, Any]], words: str) -> None:
    assert verdicts.describe(found) == words
