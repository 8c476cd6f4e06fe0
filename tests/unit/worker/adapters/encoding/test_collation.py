"""The collator logs once that inputs are cut."""

import torch
from structlog.testing import capture_logs

from tests.factories import tiny_models
from worker.adapters.encoding.collation import Collator
from worker.adapters.interface import Limits
from worker.leasing.leases import Job, Lease

JOB = Job(Lease(1, "batch", 0, 1, 1, 1), 0, {"text": "a"})


def test_the_first_cut_input_of_a_pipeline_is_logged_and_no_other() -> None:
    limits = Limits(8, pipeline="reviews")
    collator = Collator(tiny_models.wordpiece_tokenizer(), torch.device("cpu"), limits)

    with capture_logs() as logged:
        for truncated in (False, True, False, True):
            collator.make_row(JOB, {"input_ids": [5]}, truncated=truncated)

    assert logged == [{"event": "input.truncated", "log_level": "warning", "pipeline": "reviews", "max_length": 8}]
