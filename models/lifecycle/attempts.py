"""Attempts: how each claim of a slice ended, noted from the slice's own row in the transaction that ends it."""

from typing import Any

from sqlalchemy import Connection, text

from models.states import AttemptEnding

NOTE = """
INSERT INTO attempts (batch_id, slice_id, first, past, number, token, worker_id, ending, error_code, claimed_at)
SELECT batch_id, id, first, first + size, attempts, token, worker_id, :ending, :code, leased_at FROM slices
WHERE {which}
"""


def note(
    connection: Connection, which: str, named: dict[str, Any], ending: AttemptEnding, code: str | None = None
) -> None:
    """Note that the claims of these slices ended so. `which` is a condition on `slices` that names what is `named`."""
    connection.execute(text(NOTE.format(which=which)), {**named, "ending": ending.value, "code": code})
