"""The report of a dry run says what becomes of inputs over the model's limit."""

import pytest

from models.pipelines.builtin import BUILTIN_PIPELINES
from producer.cli.batches.dry_run import _format_too_long
from producer.dry_run.input_lengths import LengthHistogram

SAMPLE = next(pipeline for pipeline in BUILTIN_PIPELINES if pipeline.name == "sample-sentiment-analysis")


@pytest.mark.parametrize(
    ("truncation", "fate"),
    [
        ("truncate", "they will be cut, and marked as truncated"),
        ("error", "they will fail"),
        ("stride", "they will be read in overlapping windows, each of which takes its own time"),
    ],
)
def test_inputs_over_the_limit_have_a_fate(truncation: str, fate: str) -> None:
    lengths = LengthHistogram.for_pipeline(SAMPLE.model_copy(update={"truncation": truncation, "max_length": 8}))

    lengths.add(['{"text": "good"}', '{"text": "good, good, good, good, good"}'])

    assert _format_too_long(lengths) == f"1 row has more than 8 tokens: {fate}"
