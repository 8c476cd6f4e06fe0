"""Adapters, one per family of tasks: encode (CPU), forward (device), decode (CPU).

Only this package, `worker.layers` and `worker.loading` import torch or transformers.
"""

from importlib import import_module
from typing import Any

from models.tasks import find_spec
from models.tasks.generic import GENERIC_SPECS
from models.tasks.own.own_spec import OwnTaskSpec

# Modules are imported when a task is loaded, because each imports its own part of transformers.
ADAPTERS = {
    "sentiment-analysis": "tasks.text_classification.TextClassification",
    "text-generation": "tasks.text_generation.TextGeneration",
    "zero-shot-classification": "tasks.zero_shot.ZeroShotClassification",
    "question-answering": "tasks.question_answering.QuestionAnswering",
    "fill-mask": "tasks.fill_mask.FillMask",
    "summarization": "tasks.text_to_text.TextToText",
    "ner": "tasks.token_classification.TokenClassification",
    "translation": "tasks.text_to_text.TextToText",
    "feature-extraction": "tasks.feature_extraction.FeatureExtraction",
    "text-ranking": "tasks.text_ranking.TextRanking",
    **dict.fromkeys((spec.name for spec in GENERIC_SPECS), "generic.generic_pipeline.GenericPipeline"),
}


def adapter_for(task: str) -> Any:
    """Return the adapter class of a task. Raises ModelError if this transformers has no such pipeline."""
    spec = find_spec(task)
    if isinstance(spec, OwnTaskSpec):
        return import_module(f"{__name__}.own.own_task").adapter_class(spec)
    module, _, name = ADAPTERS[spec.name].rpartition(".")
    adapter = getattr(import_module(f"{__name__}.{module}"), name)
    return adapter.for_task(task) if spec in GENERIC_SPECS else adapter
