"""The rows that somebody wants to see, and the SQL that finds them among a bounded number of candidates. Pure."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from models.states import JobOutcome

# Rows that one request looks at: by their small columns, or by their documents, which take longer to read.
MAX_SCANNED_ROWS = 10_000
MAX_SCANNED_DOCUMENTS = 5_000

GUARDS = {
    "postgresql": "c.guards @> jsonb_build_array(jsonb_build_object('action', CAST(:verdict AS text)))",
    "sqlite": ("EXISTS (SELECT 1 FROM json_each(c.guards) AS v WHERE json_extract(v.value, '$.action') = :verdict)"),
}

# Labels as the tasks write them: an object or the first of a list, zero-shot's best, the word that fills a mask, and
# any entity. A label may also be a number, true or false.
LABELS = {
    "postgresql": """(
        c.output ->> 'label' = :label OR c.output -> 0 ->> 'label' = :label OR c.output #>> '{labels,0}' = :label
        OR c.output #>> '{0,token_str}' = :label
        OR c.output @> jsonb_build_array(jsonb_build_object('entity_group', CAST(:label AS text)))
        OR c.output @> jsonb_build_array(jsonb_build_object('entity', CAST(:label AS text))))""",
    "sqlite": """(
        CAST(json_extract(c.output, '$.label') AS TEXT) = :label
        OR CAST(json_extract(c.output, '$[0].label') AS TEXT) = :label
        OR :label IN ('true', 'false') AND :label IN (json_type(c.output, '$.label'), json_type(c.output, '$[0].label'))
        OR :label IN (json_extract(c.output, '$.labels[0]'), json_extract(c.output, '$[0].token_str'))
        OR EXISTS (SELECT 1 FROM json_each(CASE WHEN json_type(c.output) = 'array' THEN c.output END) AS e
                   WHERE e.type = 'object' AND :label IN (json_extract(e.value, '$.entity_group'),
                                                          json_extract(e.value, '$.entity'))))""",
}


class Verdict(StrEnum):
    """What a guard did to a row, by the name that people use; the value is the `action` of its verdict."""

    FLAGGED = "flag"
    REDACTED = "redact"
    BLOCKED = "fail"


@dataclass(frozen=True, slots=True)
class RowFilter:
    """Rows of a batch; all that are answered unless a field says otherwise.

    outcome: only rows with this one
    is_unanswered: only jobs without a result, by position
    code: only failures with this error code
    verdict: only rows for which a guard decided this
    label: only rows with this label, best label or entity
    """

    outcome: JobOutcome | None = None
    is_unanswered: bool = False
    code: str | None = None
    verdict: Verdict | None = None
    label: str | None = None

    @property
    def is_of_failures(self) -> bool:
        """Whether only failed jobs can match, which have an index by position."""
        return self.outcome is JobOutcome.FAILED or self.code is not None

    @property
    def scanned_rows(self) -> int | None:
        """The number of candidates that one request may look at; None = each candidate matches."""
        if self.verdict is not None or self.label is not None:
            return MAX_SCANNED_DOCUMENTS
        return MAX_SCANNED_ROWS if self.outcome is not None or self.code is not None else None

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of the conditions."""
        named = {"outcome": self.outcome, "code": self.code, "verdict": self.verdict, "label": self.label}
        return {name: str(value) for name, value in named.items() if value is not None}

    def conditions(self, dialect: str) -> str:
        """Return the conditions on a candidate `c`, each with its AND."""
        parts = {
            "outcome": "c.status = :outcome",
            "code": "c.error_code = :code",
            "verdict": GUARDS[dialect],
            "label": LABELS[dialect],
        }
        return "".join(f" AND {parts[name]}" for name in self.params)
