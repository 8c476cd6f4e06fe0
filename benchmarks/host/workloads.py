"""The workloads of the host benchmark: for each task a tiny checkpoint, its inputs, parameters and targets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LABELS = ("delivery", "quality", "price", "service", "size")
GENERATION_PARAMETERS = {"max_new_tokens": 8, "do_sample": False}
BEAM_PARAMETERS = {"max_new_tokens": 8, "num_beams": 1}


@dataclass(frozen=True, slots=True)
class Workload:
    """One task.

    share: its part of the number of items, because tasks differ in cost by two orders of magnitude.
    parameters: those of our batch.
    pipeline_options: arguments of the pipeline call.
    needs_older_transformers: whether only transformers 4 has the pipeline.
    pipeline_target: our least speed, relative to the pipeline's best batch size; None = no target.
    before_target: the same, relative to the older commit.
    """

    task: str
    share: float
    parameters: Mapping[str, Any] = field(default_factory=dict)
    pipeline_options: Mapping[str, Any] = field(default_factory=dict)
    needs_older_transformers: bool = False
    pipeline_target: float | None = None
    before_target: float | None = None


WORKLOADS = {
    workload.task: workload
    for workload in (
        Workload("sentiment-analysis", 1.0, {}, {"truncation": True}, pipeline_target=2.4),
        Workload(
            "zero-shot-classification",
            0.25,
            {"candidate_labels": list(LABELS)},
            {"candidate_labels": list(LABELS)},
            pipeline_target=1.5,
            before_target=1.5,
        ),
        Workload("question-answering", 0.25, needs_older_transformers=True, pipeline_target=1.5, before_target=1.5),
        Workload(
            "ner", 0.25, {"aggregation_strategy": "simple"}, {"aggregation_strategy": "simple"}, before_target=3.0
        ),
        Workload("fill-mask", 0.25, before_target=3.0),
        Workload("text-generation", 0.05, GENERATION_PARAMETERS, {**GENERATION_PARAMETERS, "return_full_text": False}),
        Workload("summarization", 0.05, BEAM_PARAMETERS, BEAM_PARAMETERS, needs_older_transformers=True),
        Workload("translation", 0.05, BEAM_PARAMETERS, BEAM_PARAMETERS, needs_older_transformers=True),
    )
}
