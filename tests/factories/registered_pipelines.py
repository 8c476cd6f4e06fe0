"""Pipelines that tests register with transformers, as a package of another author would."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import AutoModelForSequenceClassification, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.base import ChunkPipeline


class PairPipeline(Pipeline):
    """Scores a pair of texts, as an object, and wraps its answer in `__call__`."""

    def __call__(self, inputs: Any, **parameters: Any) -> Any:
        """Wrap the answer to one input."""
        answer = super().__call__(inputs, **parameters)
        return {"answer": answer} if isinstance(answer, dict) else answer

    def _sanitize_parameters(self, digits: int | None = None, truncation: bool | None = None, **_: Any) -> Any:
        preprocess = {} if truncation is None else {"truncation": truncation}
        return preprocess, {}, {} if digits is None else {"digits": digits}

    def preprocess(self, inputs: Any, truncation: bool = False) -> Any:
        """Tokenize both texts."""
        pair = (
            {"text": inputs["first"], "text_pair": inputs["second"]} if isinstance(inputs, dict) else {"text": inputs}
        )
        return self.tokenizer(**pair, return_tensors="pt", truncation=truncation)

    def _forward(self, model_inputs: Any) -> Any:
        return self.model(**model_inputs)

    def postprocess(self, model_outputs: Any, digits: int = 12) -> Any:
        """The scores, rounded."""
        scores = model_outputs.logits[0].softmax(-1)
        return {"scores": [round(score, digits) for score in scores.tolist()], "best": scores.argmax()}


class SentencesPipeline(ChunkPipeline):
    """Scores each sentence of a text in a pass apart."""

    def _sanitize_parameters(self, **_: Any) -> Any:
        return {}, {}, {}

    def preprocess(self, inputs: str) -> Iterator[Any]:
        """Yield the tokens of each sentence."""
        sentences = inputs.split(".")
        for place, sentence in enumerate(sentences):
            tokens = self.tokenizer(sentence, return_tensors="pt")
            yield {"is_last": place == len(sentences) - 1, "sentence": sentence, **tokens}

    def _forward(self, model_inputs: Any) -> Any:
        sentence, is_last = model_inputs.pop("sentence"), model_inputs.pop("is_last")
        return {"is_last": is_last, "sentence": sentence, "logits": self.model(**model_inputs).logits}

    def postprocess(self, model_outputs: Any) -> Any:
        """The sentences with their first scores."""
        return [
            {"sentence": output["sentence"], "keys": sorted(output), "score": output["logits"][0, 0].item()}
            for output in model_outputs
        ]


@contextmanager
def registered(name: str, pipeline_class: type[Pipeline], kind: str | None = "text") -> Iterator[None]:
    """Register a pipeline for sequence classifiers inside this context."""
    PIPELINE_REGISTRY.register_pipeline(
        name, pipeline_class=pipeline_class, pt_model=AutoModelForSequenceClassification, type=kind
    )
    try:
        yield
    finally:
        del PIPELINE_REGISTRY.supported_tasks[name]
