"""One adapter per family of tasks: encode (CPU), forward (device), decode (CPU). The only code beside the runtime that
touches torch.
"""

from importlib import import_module
from typing import Any

from models.tasks import find_spec

# Imported only when its task is pinned: each brings its own part of transformers along.
ADAPTERS = {
    "sentiment-analysis": "tasks.text_classification.TextClassification",
    "text-generation": "tasks.text_generation.TextGeneration",
    "zero-shot-classification": "tasks.zero_shot.ZeroShotClassification",
    "question-answering": "tasks.question_answering.QuestionAnswering",
    "fill-mask": "tasks.fill_mask.FillMask",
    "summarization": "tasks.text_to_text.TextToText",
    "ner": "tasks.token_classification.TokenClassification",
    "translation": "tasks.text_to_text.TextToText",
}


def adapter_for(task: str) -> Any:
    """The adapter's class for a task."""
    module, _, name = ADAPTERS[find_spec(task).name].rpartition(".")
    return getattr(import_module(f"{__name__}.{module}"), name)
