"""The adapter for feature extraction: each text's vector, as sentence-transformers computes it."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from models.embedding.recipe import Recipe
from models.errors import InvalidParameters, JobError, ModelError
from worker.adapters.embedding import embedding_model
from worker.adapters.embedding.embedding_model import AutoEmbeddingModel
from worker.adapters.embedding.pooling import ONE_TOKEN_MODES, pool
from worker.adapters.embedding.prompted_windows import PromptedWindows
from worker.adapters.encoding.device_pass import DevicePass
from worker.adapters.encoding.encoder import Encoder
from worker.adapters.interface import DecodableJob, Limits
from worker.adapters.output_json import to_valid_json
from worker.adapters.outputs.job_groups import Floats, are_finite, decode_in_groups, stack
from worker.adapters.outputs.label_scores import aggregate_windows
from worker.adapters.rows import MicroBatch, Row
from worker.adapters.tasks.job_errors import input_too_long, non_finite_vector
from worker.adapters.tokenization import long_texts, special_tokens
from worker.adapters.tokenization.batch_tokenizer import BatchTokenizer
from worker.adapters.tokenization.long_texts import PIECE_CHARACTERS
from worker.layers.ragged_rows import to_device
from worker.leasing.leases import Job, Lease

VECTOR_DTYPE = "<f4"  # of a vector's bytes
# Of a text without pooling: 85 MB of JSON, a third of what PostgreSQL's jsonb takes.
MAX_TOKEN_NUMBERS = 4 * 2**20


class FeatureExtraction:
    """Encodes texts in one tokenizer call, and pools the vectors of their tokens on the device.

    The pooled vectors of a text that is read in windows become one before dense layers and normalization.
    """

    auto_model_class: ClassVar[Any] = AutoEmbeddingModel

    def __init__(self, model: Any, tokenizer: Any, limits: Limits, task: str) -> None:
        # Rows are padded on the right, where pooling expects it; the encoder's probes check that vectors stay the same.
        tokenizer.padding_side = "right"
        self._model, self._tokenizer, self._limits = model, tokenizer, limits
        self._head = embedding_model.head_of(model)
        self._batch_tokenizer = BatchTokenizer(tokenizer, max_length=limits.max_length)
        self._long_text_tokenizer = long_texts.long_text_tokenizer_for(tokenizer)
        self._windows = PromptedWindows(tokenizer, limits) if limits.truncation == "stride" else None
        # Where windows become one vector, which is not on the device.
        self._host_head = (
            copy.deepcopy(self._head).to("cpu") if self._windows and model.device.type != "cpu" else self._head
        )
        self._recipe_or_error = cache(self._find_recipe)
        self._prompt_length = cache(self._count_prompt_tokens)
        self._encoder = Encoder(
            model,
            tokenizer,
            limits,
            special_tokens.template_for(tokenizer),
            sparse_positions=ONE_TOKEN_MODES.issuperset(self._head.files.pooling.modes),
        )
        self.max_rows, self.uses_packing = self._encoder.max_rows, self._encoder.uses_packing
        self.passes_in_flight = self._encoder.passes_in_flight
        self._check_default_prompt()

    @classmethod
    def complete(cls, model: Any, tokenizer: Any, folder: Path) -> int | None:
        """As `CompletingAdapter`."""
        return embedding_model.complete(model, tokenizer, folder)

    def encode(self, jobs: Sequence[Job]) -> list[list[Row] | JobError]:
        """One row for each job, cut at the limit, or one for each window; JobError for what can't be read."""
        recipes = self._find_recipes(jobs)
        encoded: dict[int, list[Row] | JobError] = {}
        readable: list[int] = []
        keys: list[Recipe] = []
        for index, job in enumerate(jobs):
            recipe = recipes[id(job.lease)]
            if isinstance(recipe, Recipe):
                readable.append(index)
                keys.append(recipe)
            else:
                encoded[index] = recipe
        if readable:
            encode = self._encode_whole if self._windows is None else self._encode_windows
            encoded |= dict(zip(readable, encode([jobs[index] for index in readable], keys), strict=True))
        return self._encoder.reject_unknown_tokens([encoded[index] for index in range(len(jobs))])

    def forward(self, micro_batch: MicroBatch) -> list[Floats]:
        """The vector of each row, float32 `(size,)`, or those of its tokens, `(tokens, size)`."""
        return self.launch(micro_batch).result()

    @torch.inference_mode()
    def launch(self, micro_batch: MicroBatch) -> DevicePass:
        """Begin the pass of `forward`."""
        rows, recipe = micro_batch.rows, self._recipe(micro_batch.rows[0].job)
        skipped = self._skipped_tokens(recipe)
        # Filler rows repeat the last one. They are pooled too, because a deterministic pass has a fixed shape.
        fillers = (rows[0].max_rows or 0) - len(rows)
        lengths = np.array([*[row.length for row in rows], *[rows[-1].length] * fillers], np.int64)
        [lengths_there] = to_device([lengths], self._model.device)

        def compute(tensors: dict[str, torch.Tensor]) -> list[torch.Tensor]:
            states = self._model(**tensors)[0]
            if not recipe.modes:
                return [states[: len(rows)].float()]
            vectors = pool(states, lengths_there, recipe.modes, skipped)
            if self._windows is None:
                vectors = self._head(vectors, recipe.normalize, recipe.dimensions)
            return [vectors[: len(rows)]]

        def split(outputs: Floats) -> list[Floats]:
            if recipe.modes:
                return list(outputs)
            return [states[: row.length] for states, row in zip(outputs, rows, strict=True)]

        return self._encoder.launch(micro_batch, compute, split, _output_positions(recipe, rows, skipped))

    def decode(self, rows: Sequence[Row], raw_outputs: Sequence[Floats]) -> bytes | list[Any]:
        """The vector, or with pooling none `[[[number, …] for each token]]`, one list for each window.

        Raises JobError if its numbers are not finite.
        """
        if not all(np.isfinite(raw).all() for raw in raw_outputs):
            raise non_finite_vector()
        recipe = self._recipe(rows[0].job)
        if not recipe.modes:
            return [states.tolist() for states in raw_outputs]
        vector = raw_outputs[0] if self._windows is None else self._aggregate(recipe, rows, raw_outputs)
        if not np.isfinite(vector).all():
            raise non_finite_vector()
        return vector.astype(VECTOR_DTYPE).tobytes()

    def decode_many(self, jobs: Sequence[DecodableJob]) -> Iterator[str | bytes | Exception]:
        """What `decode` returns, for jobs of any parameters."""
        return decode_in_groups(jobs, self._decode_group)

    def _decode_group(
        self, _parameters: Mapping[str, Any], jobs: Sequence[DecodableJob]
    ) -> Iterator[str | bytes | Exception]:
        if self._windows is not None or not self._recipe(jobs[0][0][0].job).modes:
            yield from (self._decode_alone(*job) for job in jobs)
            return
        vectors = stack([raw_outputs[0] for _, raw_outputs in jobs])
        finite, size = are_finite(vectors), vectors.shape[1] * vectors.itemsize
        data = vectors.astype(VECTOR_DTYPE).tobytes()
        for index, is_finite in enumerate(finite):
            yield data[index * size : (index + 1) * size] if is_finite else non_finite_vector()

    def _decode_alone(self, rows: Sequence[Row], raw_outputs: Sequence[Floats]) -> str | bytes | Exception:
        try:
            output = self.decode(rows, raw_outputs)
            return output if isinstance(output, bytes) else to_valid_json(output)
        except Exception as error:
            return error

    @torch.inference_mode()
    def _aggregate(self, recipe: Recipe, rows: Sequence[Row], raw_outputs: Sequence[Floats]) -> Floats:
        """The vector of a text from the pooled vectors of its windows; no other text can change its bits."""
        pooled = aggregate_windows(
            stack(raw_outputs), self._limits.window_aggregation, lambda: [row.features.window_tokens for row in rows]
        )
        vector: Floats = self._host_head(torch.tensor(pooled[None]), recipe.normalize, recipe.dimensions)[0].numpy()
        return vector

    def _encode_whole(self, jobs: Sequence[Job], recipes: Sequence[Recipe]) -> list[list[Row] | JobError]:
        texts = [recipe.prompt + job.input["text"] for recipe, job in zip(recipes, jobs, strict=True)]
        self._shorten_long_texts(texts)
        features, truncated = self._batch_tokenizer.tokenize(texts)
        encoded = self._encoder.make_single_rows(jobs, features, truncated, recipes)
        for index, (recipe, row, cut) in enumerate(zip(recipes, features, truncated, strict=True)):
            if cut and not self._limits.should_truncate:
                encoded[index] = input_too_long("too many tokens", self._limits.max_length)
            elif len(row["input_ids"]) <= self._skipped_tokens(recipe):
                encoded[index] = _no_tokens(jobs[index])
            elif error := self._size_error(recipe, len(row["input_ids"])):
                encoded[index] = error
        return encoded

    def _encode_windows(self, jobs: Sequence[Job], recipes: Sequence[Recipe]) -> list[list[Row] | JobError]:
        assert self._windows is not None
        prompts, texts = [recipe.prompt for recipe in recipes], [job.input["text"] for job in jobs]
        return [
            windows if isinstance(windows, JobError) else self._make_window_rows(job, recipe, windows)
            for job, recipe, windows in zip(jobs, recipes, self._windows.make_features(prompts, texts), strict=True)
        ]

    def _make_window_rows(self, job: Job, recipe: Recipe, windows: Sequence[Any]) -> list[Row] | JobError:
        # The first window's vector needs no other window.
        read = windows[:1] if self._limits.window_aggregation == "first" and recipe.modes else windows
        rows = [
            self._encoder.make_row(
                job, window, key=recipe, part_index=part, part_count=len(read), window_count=len(windows)
            )
            for part, window in enumerate(read)
        ]
        if min(row.length for row in rows) <= self._skipped_tokens(recipe):
            return _no_tokens(job)
        return self._size_error(recipe, sum(row.length for row in rows)) or rows

    def _size_error(self, recipe: Recipe, tokens: int) -> JobError | None:
        """The error of a text whose tokens have more numbers than an output may hold, None = they fit."""
        numbers = tokens * (self._head.token_size or 1)
        if recipe.modes or numbers <= MAX_TOKEN_NUMBERS:
            return None
        return JobError(
            "output_too_large",
            f"{tokens:,} tokens with pooling none are {numbers:,} numbers; at most {MAX_TOKEN_NUMBERS:,} are stored: "
            "split the text, or take another pooling",
        )

    def _find_recipes(self, jobs: Sequence[Job]) -> dict[int, Recipe | JobError]:
        leases: dict[int, Lease] = {id(job.lease): job.lease for job in jobs}
        return {key: self._recipe_or_error(_hashable(lease.parameters)) for key, lease in leases.items()}

    def _recipe(self, job: Job) -> Recipe:
        """The recipe of a job that was encoded."""
        recipe = self._recipe_or_error(_hashable(job.lease.parameters))
        if isinstance(recipe, JobError):
            raise recipe
        return recipe

    def _find_recipe(self, parameters: tuple[tuple[str, Any], ...]) -> Recipe | JobError:
        try:
            recipe = Recipe.from_parameters(dict(parameters), self._head.files, self._head.token_size)
        except InvalidParameters as error:
            return JobError("invalid_parameters", str(error))
        if self._fills_the_model(recipe.prompt):
            return JobError("invalid_parameters", "the prompt leaves no room for text; take another prompt_name")
        return recipe

    def _fills_the_model(self, prompt: str) -> bool:
        limit = self._limits.max_length
        return limit is not None and bool(prompt) and self._prompt_length(prompt) >= limit - 1

    def _check_default_prompt(self) -> None:
        files = self._head.files
        if self._fills_the_model(files.prompts.get(files.default_prompt_name or "", "")):
            raise ModelError(
                f"the model's default prompt leaves no room for text in {self._limits.max_length} tokens; raise "
                "max_length, or take another model"
            )

    def _skipped_tokens(self, recipe: Recipe) -> int:
        return self._prompt_length(recipe.prompt) if recipe.skips_prompt else 0

    def _count_prompt_tokens(self, prompt: str) -> int:
        """The tokens of the prompt with special ones, except one at the end, as sentence-transformers counts them."""
        [features], _ = self._batch_tokenizer.tokenize([prompt])
        ids = features["input_ids"]
        return len(ids) - (len(ids) > 0 and ids[-1] in self._tokenizer.all_special_ids)

    def _shorten_long_texts(self, texts: list[str]) -> None:
        """Remove most of what the tokenizer would cut of long texts; their tokens stay those of the whole."""
        tokenizer, limit = self._long_text_tokenizer, self._limits.max_length
        if tokenizer is None or limit is None:
            return
        for index, text in enumerate(texts):
            if len(text) > PIECE_CHARACTERS:
                texts[index] = tokenizer.truncate_text(text, limit, self._tokenizer.truncation_side)


def _hashable(parameters: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(parameters.items()))


def _output_positions(recipe: Recipe, rows: Sequence[Row], skipped: int) -> list[tuple[int, ...]] | None:
    """The tokens of each row that the recipe looks at, None = all."""
    if not recipe.modes or not ONE_TOKEN_MODES.issuperset(recipe.modes):
        return None
    return [tuple(sorted({skipped if mode == "cls" else row.length - 1 for mode in recipe.modes})) for row in rows]


def _no_tokens(job: Job) -> JobError:
    if job.input["text"].strip():
        problem = "text has no tokens but those that it shares with the prompt, which do not count"
        return JobError("empty_text", f"{problem}; give it more text, or take another prompt_name")
    return JobError("empty_text", "text has no tokens that the model counts; leave the row out or give it text")
