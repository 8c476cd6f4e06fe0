"""The workloads of the host benchmark: for each task a tiny checkpoint, its inputs, parameters and targets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LABELS = ("delivery", "quality", "price", "service", "size")
PIPELINE_BATCH_SIZES = (1, 8, 32, 64, 256)
GENERATION_PARAMETERS = {"max_new_tokens": 8, "do_sample": False, "return_full_text": False}
BEAM_PARAMETERS = {"max_new_tokens": 8, "num_beams": 1}


@dataclass(frozen=True, slots=True)
class Workload:
    """One task.

    share: its part of the number of items, because tasks differ in cost by two orders of magnitude. With the default
        number a batch takes a second or more, so that its start and the polling of an idle worker weigh little.
    parameters: those of our batch.
    pipeline_options: arguments of the pipeline call.
    batch_sizes: of the pipeline; fewer where larger ones only pad more and take minutes.
    needs_older_transformers: whether only transformers 4 has the pipeline.
    pipeline_target: our least speed, relative to the pipeline's best batch size; None = no target.
    before_target: the same, relative to the older commit.
    min_pace: our least texts/s.
    is_newer: whether the default older commit lacks the task.
    """

    task: str
    share: float
    parameters: Mapping[str, Any] = field(default_factory=dict)
    pipeline_options: Mapping[str, Any] = field(default_factory=dict)
    batch_sizes: tuple[int, ...] = PIPELINE_BATCH_SIZES
    needs_older_transformers: bool = False
    pipeline_target: float | None = None
    before_target: float | None = None
    min_pace: float | None = None
    is_newer: bool = False


WORKLOADS = {
    workload.task: workload
    for workload in (
        Workload("sentiment-analysis", 1.0, {}, {"truncation": True}, pipeline_target=2.4),
        Workload(
            "zero-shot-classification",
            1 / 8,
            {"candidate_labels": list(LABELS)},
            {"candidate_labels": list(LABELS)},
            pipeline_target=1.5,
            before_target=1.5,
        ),
        Workload(
            "question-answering",
            1 / 4,
            batch_sizes=(1, 8, 32),
            needs_older_transformers=True,
            pipeline_target=1.5,
            before_target=1.5,
        ),
        Workload(
            "ner",
            1 / 4,
            {"aggregation_strategy": "simple"},
            {"aggregation_strategy": "simple"},
            batch_sizes=(1, 8, 32),
            before_target=3.0,
        ),
        Workload("fill-mask", 1 / 4, before_target=3.0),
        Workload("text-generation", 1 / 12, GENERATION_PARAMETERS, GENERATION_PARAMETERS),
        Workload(
            "summarization", 1 / 12, BEAM_PARAMETERS, BEAM_PARAMETERS, batch_sizes=(1, 8), needs_older_transformers=True
        ),
        Workload(
            "translation", 1 / 12, BEAM_PARAMETERS, BEAM_PARAMETERS, batch_sizes=(1, 8), needs_older_transformers=True
        ),
        # Pipelines of these give no vector of a text, and no score of a pair.
        Workload("feature-extraction", 1.0, {"normalize": True}, batch_sizes=(), min_pace=6_000.0, is_newer=True),
        Workload("text-ranking", 1 / 2, batch_sizes=(), min_pace=6_000.0, is_newer=True),
    )
}
