"""The collator logs once that inputs are cut."""

import pytest
import torch
from structlog.testing import capture_logs

from tests.factories import tiny_models
from worker.adapters.encoding import collation
from worker.adapters.encoding.collation import Collator
from worker.adapters.interface import Limits
from worker.leasing.leases import Job, Lease

JOB = Job(Lease(1, "batch", 0, 1, 1, 1), 0, {"text": "a"})


def test_the_first_cut_input_of_a_pipeline_is_logged_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collation, "_logged_truncations", set())

    def make_collator(pipeline: str) -> Collator:
        return Collator(tiny_models.wordpiece_tokenizer(), torch.device("cpu"), Limits(8, pipeline=pipeline))

    collators = [make_collator("reviews"), make_collator("reviews"), make_collator("letters")]

    with capture_logs() as logged:
        for collator in collators:
            for truncated in (False, True, False, True):
                collator.make_row(JOB, {"input_ids": [5]}, truncated=truncated)

    line = {"event": "input.truncated", "log_level": "warning", "max_length": 8}
    assert logged == [{**line, "pipeline": "reviews"}, {**line, "pipeline": "letters"}]
