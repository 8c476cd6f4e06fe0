"""A batch with hostile content."""

from typing import Any

import pytest

from models.db import Database
from tests.factories.batch_rows import execute, insert_batch, update_batch
from tests.factories.hostile import HOSTILE, SCRIPT
from tests.fake_worker import write_results


@pytest.fixture
def hostile_batch(database: Database) -> str:
    """A batch whose name, ids, inputs, outputs, labels, errors and metadata are hostile."""
    outputs: list[Any] = [
        {"label": HOSTILE, "score": 0.5},
        [{"generated_text": HOSTILE}],
        [{"entity_group": SCRIPT, "score": 0.9, "word": SCRIPT, "start": 0, "end": 9}] * 10_000,
        {SCRIPT: HOSTILE},
        [[HOSTILE]],
        f"code {SCRIPT}",
        None,
        {"answer": HOSTILE, "score": 0.2, "start": 3, "end": 9},
        [{"score": 0.1, "token_str": SCRIPT}],
        {"labels": [HOSTILE], "scores": [0.1]},
        42,
        True,
        [],
    ]
    inputs = [{"text": HOSTILE, "context": HOSTILE, SCRIPT: [HOSTILE]}] * (len(outputs) + 1)
    batch_id = insert_batch(database, inputs, name=HOSTILE, metadata_={SCRIPT: HOSTILE})
    write_results(database, batch_id, list(enumerate(outputs)))
    # A NUL and half a surrogate pair can't be stored; an id may have anything else.
    execute(database, "UPDATE jobs SET custom_id = :value || position", value=HOSTILE[:200])
    execute(database, "UPDATE results SET error_message = :value WHERE status = 'failed'", value=HOSTILE)
    update_batch(database, batch_id, status="completed")
    return batch_id
