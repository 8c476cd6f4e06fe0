"""The adapter for text-generation, whose causal language models continue texts and answer conversations."""

import inspect
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from threading import RLock
from typing import Any, ClassVar

import torch
from transformers import AutoModelForCausalLM, TextGenerationPipeline
from transformers.utils.chat_template_utils import Chat

from models.errors import JobError, ModelError
from worker.adapters.control.logits_processors import LogitsProcessors
from worker.adapters.control.output_schemas import OutputSchemas
from worker.adapters.encoding.collation import Collator
from worker.adapters.generation import cache_memory, sampling
from worker.adapters.generation.cache_memory import FIXED_ROWS, RowLimit, RowSize
from worker.adapters.generation.call_settings.causal_settings import CausalSettings
from worker.adapters.generation.call_settings.settings import GenerationSettings, end_token_ids
from worker.adapters.generation.generator import Generator, PrefillRows, RawOutput
from worker.adapters.generation.row_intake import RowIntake
from worker.adapters.interface import FetchMore, Limits, never_interrupted
from worker.adapters.probes import sameness
from worker.adapters.probes.sameness_trials import GenerationTrial, check_can_generate
from worker.adapters.probes.sharing import Sharing
from worker.adapters.rows import MicroBatch, Row
from worker.adapters.tasks.job_errors import input_too_long, non_finite_scores, rows_or_error
from worker.adapters.tokenization import vocabulary
from worker.adapters.tokenization.prompts import PromptTokenizer
from worker.layers.spread_weights import pipeline_device
from worker.leasing.leases import Job

# The tokens, in prompts and new ones of all beams, whose keys and values one run may cache where memory can't be
# measured. More rows than this allows gain nothing on a CPU.
MAX_CACHED_TOKENS = 16_384

# Models with these inputs can be padded on the left. Others (recurrent, or with relative positions) need equal lengths.
PADDING_INPUTS = {"attention_mask", "position_ids"}

POSTPROCESS_PARAMETERS = ("return_full_text", "continue_final_message", "skip_special_tokens")


class TextGeneration:
    """Encodes jobs in one tokenizer call, and generates what transformers' own pipeline generates for each alone.

    Sampling with a seed is reproducible whatever else is in the micro-batch: the shape of its passes depends on the row
    alone.
    """

    auto_model_class: ClassVar[Any] = AutoModelForCausalLM
    uses_packing = False

    def __init__(self, model: Any, tokenizer: Any, limits: Limits, task: str) -> None:
        if not model.can_generate():
            raise ModelError(
                f"{type(model).__name__} can't generate text; text-generation takes a causal language model"
            )
        self._tokenizer = tokenizer
        # A call changes the tokenizer's state, and one thread encodes while another decodes.
        self._tokenizer_lock = RLock()
        self._limits = limits
        self._pipeline = TextGenerationPipeline(
            model=model, tokenizer=tokenizer, device=pipeline_device(model), task=task
        )
        self._prompts = PromptTokenizer(tokenizer, self._pipeline._preprocess_params.get("prefix", ""))
        self.should_interrupt: Callable[[], bool] = never_interrupted
        self._cannot_pad = not set(inspect.signature(model.forward).parameters) >= PADDING_INPUTS
        self._sharing_policy = sameness.decide_sharing(
            model, GenerationTrial(can_pad=not self._cannot_pad), limits.max_length
        )
        state = self._sharing_policy.state_to_restore(model)
        self._schemas = OutputSchemas(tokenizer, end_token_ids(model.generation_config))
        self._settings = CausalSettings(self._pipeline, self._schemas, limits.generation)
        processors = LogitsProcessors.load(limits.logits_processors, model, tokenizer)
        self._generator = Generator(model, tokenizer, lambda: self.should_interrupt(), state, processors, self._schemas)
        check_can_generate(model)
        self._collators = {fixed: self._make_collator(model, deterministic=fixed) for fixed in (False, True)}
        self.max_rows = cache_memory.max_rows_on(model.device, self._collators[False].max_rows)
        self._vocabulary_size = vocabulary.size(model)
        self._row_limit = RowLimit.for_model(model, MAX_CACHED_TOKENS)

    def encode(self, jobs: Sequence[Job]) -> list[list[Row] | JobError]:
        """One row for each job, or with sampling one for each sequence that the job requests.

        JobError: `input_too_long` if prompt and new tokens together don't fit, `no_chat_template`,
        `invalid_messages`, `unknown_token`, and `invalid_parameters` if they don't fit this model.
        """
        with self._tokenizer_lock:
            prompts = self._prompts.encode([(job.input, job.lease.parameters) for job in jobs])
        return [
            prompt if isinstance(prompt, JobError) else rows_or_error(self._make_rows, job, prompt)
            for job, prompt in zip(jobs, prompts, strict=True)
        ]

    def forward(self, micro_batch: MicroBatch) -> list[RawOutput]:
        """Each row's sequences of new token ids. Raises Interrupted."""
        indices = {id(row): index for index, row in enumerate(micro_batch.rows)}
        raw_outputs: list[Any] = [None] * len(micro_batch.rows)
        for finished in self.generate(micro_batch.rows, lambda _count: (), len(micro_batch.rows)):
            for row, sequences in finished:
                raw_outputs[indices[id(row)]] = sequences
        return raw_outputs

    @torch.inference_mode()
    def generate(self, rows: Sequence[Row], fetch_more: FetchMore, max_rows: int) -> Iterator[list[tuple[Row, Any]]]:
        """Finished rows, each with its raw output, while further rows enter. Raises Interrupted."""
        settings = self._settings.resolve(rows[0].job.lease.parameters)
        new_tokens = settings.new_token_limits(rows[0].length)
        settings = settings.with_new_tokens(new_tokens)
        count_fitting = self._row_limit.begin_run(samples=settings.samples_per_token)

        @cache  # asked for every token
        def count_fitting_rows(width: int) -> int:
            return min(max_rows, count_fitting(RowSize(width + new_tokens[0], sequences=settings.num_beams)))

        sharing = self._sharing_policy.sharing_for(rows[0].length + new_tokens[0])
        can_merge = sharing is Sharing.TOGETHER and not self._cannot_pad
        can_evict = can_merge or self._sharing_policy.supports_continuous
        if rows[0].max_rows is None and can_evict and self._generator.supports_continuous(settings):
            intake = RowIntake(rows, fetch_more, count_fitting_rows, partial(self._prefill_rows, settings=settings))
            yield from self._generator.generate_continuous(settings, intake, can_merge=can_merge)
        else:
            part_rows = rows[0].max_rows or count_fitting_rows(max(row.padded_length for row in rows))
            for start in range(0, len(rows), part_rows):
                part = rows[start : start + part_rows]
                yield list(zip(part, self._generate_rows(part, settings, can_evict_rows=can_evict), strict=True))

    def decode(self, rows: Sequence[Row], raw_outputs: Sequence[list[list[int]] | None]) -> Any:
        """`[{"generated_text"}]`, one for each sequence.

        Raises JobError if scores are not finite, and `schema_unmet` if a text does not meet its output schema.
        """
        job, prompt = rows[0].job, rows[0].features["input_ids"]
        prompt_text = job.input["text"] if "text" in job.input else Chat(job.input["messages"])
        parameters = {name: value for name, value in job.lease.parameters.items() if name in POSTPROCESS_PARAMETERS}
        options = self._pipeline._sanitize_parameters(**parameters)[2]
        schema, records = job.lease.parameters.get("output_schema"), []
        for sequences in raw_outputs:
            if sequences is None:
                raise non_finite_scores()
            for ids in sequences:
                if schema is not None:
                    records.append({"generated_text": self._schemas.read_text(schema, ids)})
                    continue
                output = {
                    "generated_sequence": torch.tensor([[[*prompt, *ids]]]),
                    "input_ids": torch.tensor([list(prompt)]),
                    "prompt_text": prompt_text,
                }
                with self._tokenizer_lock:
                    records += self._pipeline.postprocess(output, **options)
        return records

    def _make_collator(self, model: Any, *, deterministic: bool) -> Collator:
        pad = self._tokenizer.pad_token_id
        return Collator(
            self._tokenizer,
            model.device,
            self._limits,
            deterministic=deterministic or self._limits.deterministic,
            padding_side="left",
            pad_values={"input_ids": 0 if pad is None or vocabulary.lacks_padding(model, self._tokenizer) else pad},
            fixed_rows=FIXED_ROWS,
        )

    def _make_rows(self, job: Job, prompt: "array[int]") -> list[Row]:
        if self._limits.generation is not None:  # a repair, or settings that changed since, may exceed it
            self._limits.generation.check_prompt(job.input)
        parameters = job.lease.parameters
        settings = self._settings.resolve(parameters)
        if not prompt:
            raise JobError("empty_text", "the tokenizer makes no tokens of this text; send another text")
        vocabulary.check_token_ids(prompt, self._vocabulary_size)
        fitted = self._fit_prompt(prompt, settings, can_cut_start=parameters.get("handle_long_generation") == "hole")
        new_tokens = settings.new_token_limits(len(fitted))
        seeded = settings.do_sample and parameters.get("seed") is not None
        parts = settings.num_sequences if settings.samples_per_token else 1
        fixed = seeded or self._limits.deterministic
        sharing = self._sharing_policy.sharing_for(len(fitted) + new_tokens[0], fixed_shape=fixed)
        equal_lengths = self._cannot_pad or settings.forbids_padding or sharing is not Sharing.TOGETHER
        rows = [
            self._collators[seeded].make_row(
                job,
                {"input_ids": fitted},
                truncated=len(fitted) < len(prompt),
                key=(settings.key, new_tokens, seeded, sharing),
                part_index=part,
                part_count=parts,
                equal_lengths=equal_lengths,
            )
            for part in range(parts)
        ]
        if settings.needs_single_row or sharing is Sharing.ALONE:
            return [replace(row, width=None, max_rows=1) for row in rows]
        return [self._fix_shape(row, settings, new_tokens[0]) for row in rows]

    def _fit_prompt(self, prompt: "array[int]", settings: GenerationSettings, *, can_cut_start: bool) -> "array[int]":
        max_new_tokens, _ = settings.new_token_limits(len(prompt))
        limit = self._limits.max_length
        if max_new_tokens < 1:
            total = len(prompt) + max_new_tokens
            raise JobError("input_too_long", f"{len(prompt):,} tokens; this model generates up to {total:,} in all")
        if limit is None or len(prompt) + max_new_tokens <= limit:
            return prompt
        # A prompt's end matters most, so its start is cut only if the batch's parameters ask for that.
        if can_cut_start and self._limits.truncation != "error" and max_new_tokens < limit:
            return prompt[-(limit - max_new_tokens) :]
        size = f"{len(prompt):,} tokens and {max_new_tokens:,} new ones"
        raise input_too_long(size, limit, "cut the text or lower max_new_tokens")

    def _fix_shape(self, row: Row, settings: GenerationSettings, max_new_tokens: int) -> Row:
        """A row of a fixed shape with its width and its number of rows; any other row unchanged."""
        if row.width is None:
            return row
        # Some models can't exceed their positions even with padding.
        limit = self._limits.max_length
        width = row.width if limit is None else min(row.width, limit - max_new_tokens)
        size = RowSize(width + max_new_tokens, sequences=settings.num_beams)
        max_rows = self._row_limit.fixed_rows(size, samples=settings.samples_per_token)
        return replace(row, width=width, max_rows=max_rows, key=(row.key, width))

    def _generate_rows(
        self, rows: Sequence[Row], settings: GenerationSettings, *, can_evict_rows: bool
    ) -> list[RawOutput]:
        """Generate in one run that no further row enters."""
        prefill = self._prefill_rows(rows, settings)
        if settings.do_sample and not settings.samples_per_token:
            [row] = rows
            with sampling.seed_generators(_seed(row), row.features["input_ids"], self._pipeline.model.device):
                return self._generator.run(prefill, settings)
        return self._generator.run(prefill, settings, fixed_shape=rows[0].max_rows is not None or not can_evict_rows)

    def _prefill_rows(self, rows: Sequence[Row], settings: GenerationSettings) -> PrefillRows:
        tensors = self._collators[rows[0].max_rows is not None].collate(MicroBatch(tuple(rows)))
        if not settings.samples_per_token:
            return PrefillRows(rows, tensors, None)
        sources = [(_seed(row), row.features["input_ids"], [row.part_index]) for row in rows]
        steps = settings.config.max_new_tokens
        return PrefillRows(rows, tensors, sampling.stack_noise(sources, len(tensors["input_ids"]), steps))


def _seed(row: Row) -> int | None:
    seed: int | None = row.job.lease.parameters.get("seed")
    return seed
