"""The adapter. Words in a text make it misbehave, as an author's mistakes would."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from irony_tasks.model import IronyModel  # type: ignore[import-not-found]

from batchmill import JobError, ModelRow, TaskAdapter

HANG_SECONDS = 1.0
MOODS = ("angry", "calm", "glad")


class IronyAdapter(TaskAdapter):
    """Reads a reply, and what it replies to, as rows of their own."""

    model_class: ClassVar[Any] = IronyModel

    def __init__(self, model: Any, tokenizer: Any, options: Any) -> None:
        super().__init__(model, tokenizer, options)
        self.passes: list[int] = []

    def encode(self, input: Mapping[str, Any], parameters: Mapping[str, Any]) -> Any:  # noqa: A002
        """One row for each text."""
        texts = [text for text in (input["text"], input["context"]) if text is not None]
        word = input["text"].split()[0]
        if word == "raise":
            raise ValueError(input["text"])
        if word == "refuse":
            raise JobError("too_ironic", "it is too ironic; say it plainly")
        if word in WRONG_ROWS:
            return WRONG_ROWS[word]
        return [self._row(text) for text in texts]

    def _row(self, text: str) -> ModelRow:
        limit = self.options.max_length
        whole, cut = (self.tokenizer(text, truncation=limit is not None, max_length=limit), False)
        return ModelRow(dict(whole), truncated=cut, data=text.split()[0])

    def forward(self, tensors: Mapping[str, torch.Tensor], parameters: Mapping[str, Any]) -> Any:
        """Both heads' numbers."""
        self.passes.append(len(tensors["input_ids"]))
        firsts = tensors["input_ids"][:, 1]
        if (firsts == self.tokenizer.convert_tokens_to_ids("love")).any():
            raise RuntimeError(f"no love for {tensors}")
        if (firsts == self.tokenizer.convert_tokens_to_ids("hate")).any():
            time.sleep(HANG_SECONDS)
        outputs = self.model(**tensors)
        if (firsts == self.tokenizer.convert_tokens_to_ids("terrible")).any():
            return {name: values[:-1] for name, values in outputs.items()}
        return outputs

    def decode(
        self,
        input: Mapping[str, Any],  # noqa: A002
        parameters: Mapping[str, Any],
        rows: Sequence[ModelRow],
        outputs: Sequence[Any],
    ) -> Any:
        """The mean of all rows."""
        word = rows[0].data
        if word == "break":
            raise KeyError(input["text"])
        if word in WRONG_RESULTS:
            return WRONG_RESULTS[word]
        irony = torch.stack([output["irony"] for output in outputs]).sigmoid().mean() * input["weight"]
        moods = torch.stack([output["moods"] for output in outputs]).mean(0)
        result = {"ironic": round(float(irony), parameters["digits"]), "mood": MOODS[int(moods.argmax())]}
        return result if parameters["style"] == "plain" else {**result, "rows": len(rows)}


WRONG_ROWS: dict[str, Any] = {
    "none": None,
    "norows": [],
    "noids": ModelRow({"token_type_ids": [0]}),
    "ragged": ModelRow({"input_ids": [2, 3], "token_type_ids": [0]}),
    "texts": ModelRow({"input_ids": ["a"]}),
    "nested": ModelRow({"input_ids": [[2, 3]]}),
    "padded": ModelRow({"input_ids": [2, 3], "attention_mask": [1, 0]}),
    "negative": ModelRow({"input_ids": [-1]}),
    "unknown": ModelRow({"input_ids": [2, 100_000]}),
    "long": ModelRow({"input_ids": [2] * 100}),
    "unhashable": ModelRow({"input_ids": [2]}, key=[]),
    "many": [ModelRow({"input_ids": [2]})] * 20_000,
}
WRONG_RESULTS: dict[str, Any] = {
    "nan": {"ironic": float("nan")},
    "tensor": {"ironic": torch.tensor(1.0)},
    "numbers": {1: 2},
    "huge": "x" * 20_000_000,
    "nul": "a\0b",
    "bytes": b"abc",
    "nothing": None,
    "digits": [10**4000],
    "words": JobError("too_ironic", "it is too ironic; say it plainly"),
}
