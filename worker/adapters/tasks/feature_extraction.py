"""The adapter for feature extraction: each text's vector, as sentence-transformers computes it."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from models.errors import JobError
from worker.adapters.embedding import embedding_model
from worker.adapters.embedding.embedding_model import AutoEmbeddingModel
from worker.adapters.embedding.pooling import ONE_TOKEN_MODES, pool
from worker.adapters.embedding.recipe import Recipe
from worker.adapters.encoding.device_pass import DevicePass
from worker.adapters.encoding.encoder import Encoder
from worker.adapters.interface import DecodableJob, Limits
from worker.adapters.rows import MicroBatch, Row
from worker.adapters.tasks.job_errors import input_too_long, non_finite_scores, output_or_error
from worker.adapters.tasks.job_groups import Floats, are_finite, decode_in_groups, stack
from worker.adapters.tokenization import long_texts, special_tokens
from worker.adapters.tokenization.batch_tokenizer import BatchTokenizer
from worker.adapters.tokenization.long_texts import PIECE_CHARACTERS
from worker.layers.ragged_rows import to_device
from worker.leasing.leases import Job


class FeatureExtraction:
    """Encodes texts in one tokenizer call, and pools the vectors of their tokens on the device."""

    auto_model_class: ClassVar[Any] = AutoEmbeddingModel

    def __init__(self, model: Any, tokenizer: Any, limits: Limits, task: str) -> None:
        # Rows are padded on the right, where pooling expects it; the encoder's probes check that vectors stay the same.
        tokenizer.padding_side = "right"
        self._model, self._tokenizer, self._limits = model, tokenizer, limits
        self._head = embedding_model.head_of(model)
        self._batch_tokenizer = BatchTokenizer(tokenizer, max_length=limits.max_length)
        self._long_text_tokenizer = long_texts.long_text_tokenizer_for(tokenizer)
        self._recipe_for = cache(self._resolve_recipe)
        self._encoder = Encoder(
            model,
            tokenizer,
            limits,
            special_tokens.template_for(tokenizer),
            sparse_positions=ONE_TOKEN_MODES.issuperset(self._head.files.pooling.modes),
        )
        self.max_rows, self.uses_packing = self._encoder.max_rows, self._encoder.uses_packing
        self.passes_in_flight = self._encoder.passes_in_flight

    @classmethod
    def complete(cls, model: Any, tokenizer: Any, folder: Path) -> None:
        """As `CompletingAdapter`."""
        embedding_model.complete(model, tokenizer, folder)

    def encode(self, jobs: Sequence[Job]) -> list[list[Row] | JobError]:
        """One row for each job, cut at the limit; JobError `input_too_long` if it can't be."""
        recipes = {id(job.lease): self._recipe(job) for job in jobs}
        texts = [recipes[id(job.lease)].prompt + job.input["text"] for job in jobs]
        self._shorten_long_texts(texts)
        features, truncated = self._batch_tokenizer.tokenize(texts)
        keys = [recipes[id(job.lease)] for job in jobs]
        encoded = self._encoder.make_single_rows(jobs, features, truncated, keys)
        if not self._limits.should_truncate and any(truncated):
            encoded = [
                input_too_long("too many tokens", self._limits.max_length) if cut else rows
                for rows, cut in zip(encoded, truncated, strict=True)
            ]
        return self._encoder.reject_unknown_tokens(encoded)

    def forward(self, micro_batch: MicroBatch) -> list[Floats]:
        """The vector of each row, float32 `(size,)`, or those of its tokens, `(tokens, size)`."""
        return self.launch(micro_batch).result()

    @torch.inference_mode()
    def launch(self, micro_batch: MicroBatch) -> DevicePass:
        """Begin the pass of `forward`."""
        rows, recipe = micro_batch.rows, self._recipe(micro_batch.rows[0].job)
        [lengths] = to_device([np.array([row.length for row in rows], np.int64)], self._model.device)

        def compute(tensors: dict[str, torch.Tensor]) -> list[torch.Tensor]:
            states = self._model(**tensors)[0][: len(rows)]
            if not recipe.modes:
                return [states.float()]
            return [self._head(pool(states, lengths, recipe.modes), recipe.normalize, recipe.dimensions)]

        def split(outputs: Floats) -> list[Floats]:
            if recipe.modes:
                return list(outputs)
            return [states[: row.length] for states, row in zip(outputs, rows, strict=True)]

        return self._encoder.launch(micro_batch, compute, split, _output_positions(recipe, rows))

    def decode(self, rows: Sequence[Row], raw_outputs: Sequence[Floats]) -> bytes | list[Any]:
        """The vector, or with pooling none `[[[number, …] for each token]]`.

        Raises JobError if its numbers are not finite.
        """
        if not all(np.isfinite(raw).all() for raw in raw_outputs):
            raise non_finite_scores()
        if not self._recipe(rows[0].job).modes:
            return [states.tolist() for states in raw_outputs]
        return raw_outputs[0].astype("<f4").tobytes()

    def decode_many(self, jobs: Sequence[DecodableJob]) -> Iterator[str | bytes | Exception]:
        """What `decode` returns, for jobs of any parameters."""
        return decode_in_groups(jobs, self._decode_group)

    def _decode_group(
        self, _parameters: Mapping[str, Any], jobs: Sequence[DecodableJob]
    ) -> Iterator[str | bytes | Exception]:
        if not self._recipe(jobs[0][0][0].job).modes:
            yield from (output_or_error(self.decode, *job) for job in jobs)
            return
        vectors = stack([raw_outputs[0] for _, raw_outputs in jobs])
        finite, size = are_finite(vectors), vectors.shape[1] * vectors.itemsize
        data = vectors.astype("<f4").tobytes()
        for index, is_finite in enumerate(finite):
            yield data[index * size : (index + 1) * size] if is_finite else non_finite_scores()

    def _recipe(self, job: Job) -> Recipe:
        return self._recipe_for(tuple(sorted(job.lease.parameters.items())))

    def _resolve_recipe(self, parameters: tuple[tuple[str, Any], ...]) -> Recipe:
        return Recipe.from_parameters(dict(parameters), self._head.files)

    def _shorten_long_texts(self, texts: list[str]) -> None:
        """Remove most of what the tokenizer would cut of long texts; their tokens stay those of the whole."""
        tokenizer, limit = self._long_text_tokenizer, self._limits.max_length
        if tokenizer is None or limit is None:
            return
        for index, text in enumerate(texts):
            if len(text) > PIECE_CHARACTERS:
                texts[index] = tokenizer.truncate_text(text, limit, self._tokenizer.truncation_side)


def _output_positions(recipe: Recipe, rows: Sequence[Row]) -> list[tuple[int, ...]] | None:
    """The tokens of each row that the recipe looks at, None = all."""
    if not recipe.modes or not ONE_TOKEN_MODES.issuperset(recipe.modes):
        return None
    return [tuple(sorted({0 if mode == "cls" else row.length - 1 for mode in recipe.modes})) for row in rows]
