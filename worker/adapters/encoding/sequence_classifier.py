"""The forward passes of sequence classifiers, whose head gives each row one number for each label."""

from inspect import signature
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModelForSequenceClassification

from worker.adapters.encoding.device_pass import DevicePass
from worker.adapters.encoding.encoder import FIRST_POSITION, Encoder
from worker.adapters.interface import Limits
from worker.adapters.rows import MicroBatch
from worker.adapters.tokenization.special_tokens import Template
from worker.adapters.tokenization.token_array import TokenArray

Floats = npt.NDArray[np.float32]


class SequenceClassifier:
    """The base of the adapters of such models: everything but encoding and decoding.

    template: the tokenizer's special tokens, None = unknown.
    """

    auto_model_class: ClassVar[Any] = AutoModelForSequenceClassification

    def __init__(self, model: Any, tokenizer: Any, limits: Limits, template: Template | None) -> None:
        self._model, self._limits = model, limits
        self._encoder = Encoder(model, tokenizer, limits, template, sparse_positions=True)
        self.max_rows, self.uses_packing = self._encoder.max_rows, self._encoder.uses_packing
        self.passes_in_flight = self._encoder.passes_in_flight
        # Like transformers' pipelines; only generation needs a cache.
        self._forward_options = {"use_cache": False} if "use_cache" in signature(model.forward).parameters else {}
        # BART-like models look at the last end token, and reject a pass whose rows have different numbers of them.
        self._eos_token_id = model.config.eos_token_id if model.config.is_encoder_decoder else None

    def forward(self, micro_batch: MicroBatch) -> list[Floats]:
        """Logits, float32 `(labels,)` for each row."""
        return self.launch(micro_batch).result()

    @torch.inference_mode()
    def launch(self, micro_batch: MicroBatch) -> DevicePass:
        """Begin the pass of `forward`."""
        count = len(micro_batch.rows)

        def compute(tensors: dict[str, torch.Tensor]) -> list[torch.Tensor]:
            return [self._model(**tensors, **self._forward_options).logits[:count].float()]

        return self._encoder.launch(micro_batch, compute, list, FIRST_POSITION * count)

    def _count_ends(self, ids: "TokenArray[int]") -> int | None:
        """The number of end tokens, None for models that don't look for them."""
        return None if self._eos_token_id is None else ids.count(self._eos_token_id)
