"""Text generation: causal language models continue texts and answer conversations."""

import inspect
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from threading import RLock
from typing import Any, ClassVar

import numpy as np
import torch
from transformers import AutoModelForCausalLM, TextGenerationPipeline
from transformers.utils.chat_template_utils import Chat

from models.errors import JobError, ModelError
from worker.adapters.encoding.collation import DETERMINISTIC_ROWS, Collator
from worker.adapters.generation import sampling
from worker.adapters.generation.causal_lm import CausalGenerator, GenerationSettings, PrefillRows
from worker.adapters.interface import FetchMore, Limits, never_interrupted
from worker.adapters.probes import sameness
from worker.adapters.probes.sameness import Sharing
from worker.adapters.probes.sameness_trials import GenerationTrial, check_can_generate
from worker.adapters.rows import MicroBatch, Row
from worker.adapters.tokenization import vocabulary
from worker.adapters.tokenization.prompts import PromptTokenizer
from worker.leasing.leases import Job

# The tokens, prompts and new ones of all beams, whose keys and values one run may keep. An 8-billion model with grouped
# heads keeps 128 KiB for each: 8 GiB on a GPU. A CPU gains nothing from more rows than this allows.
MAX_CACHED_TOKENS = {"cpu": 16_384, "cuda": 65_536, "mps": 16_384}

# A model that is told these can be padded on the left. Others (by relative places, or recurrent) go by equal lengths.
PADDING_INPUTS = {"attention_mask", "position_ids"}

POSTPROCESS_PARAMETERS = ("return_full_text", "continue_final_message", "skip_special_tokens")


class TextGeneration:
    """Encodes jobs in one tokenizer call; writes as transformers' own pipeline does with one input.

    What is sampled with a seed is the same in any company: it runs in passes whose shape depends on the row alone.
    """

    auto_model_class: ClassVar[Any] = AutoModelForCausalLM
    uses_packing = False

    def __init__(self, model: Any, tokenizer: Any, limits: Limits, task: str) -> None:
        if not model.can_generate():
            raise ModelError(f"{type(model).__name__} can't write text; text-generation takes a causal language model")
        self._tokenizer = tokenizer
        # A call changes the tokenizer's state, and one thread encodes while another decodes.
        self._tokenizer_lock = RLock()
        self._limits = limits
        self._pipeline = TextGenerationPipeline(model=model, tokenizer=tokenizer, device=model.device, task=task)
        self._prompts = PromptTokenizer(tokenizer, self._pipeline._preprocess_params.get("prefix", ""))
        self.should_interrupt: Callable[[], bool] = never_interrupted
        self._cannot_pad = not set(inspect.signature(model.forward).parameters) >= PADDING_INPUTS
        self._sharing_policy = sameness.decide_sharing(
            model, GenerationTrial(can_pad=not self._cannot_pad), limits.max_length
        )
        state = self._sharing_policy.state_to_restore(model)
        self._generator = CausalGenerator(self._pipeline, lambda: self.should_interrupt(), state)
        check_can_generate(model)
        self._collators = {fixed: self._make_collator(model, deterministic=fixed) for fixed in (False, True)}
        self.max_rows = self._collators[False].max_rows
        self._vocabulary_size = vocabulary.size(model)
        self._max_cached_tokens = MAX_CACHED_TOKENS.get(model.device.type, MAX_CACHED_TOKENS["cuda"])

    def encode(self, jobs: Sequence[Job]) -> list[list[Row] | JobError]:
        """A row for each job, or where tokens are drawn one for each sequence that it asks for.

        JobError: `input_too_long` where prompt and new tokens together don't fit, `no_chat_template`,
        `invalid_messages`, `unknown_token`, and `invalid_parameters` where they don't fit this model.
        """
        with self._tokenizer_lock:
            prompts = self._prompts.encode([(job.input, job.lease.parameters) for job in jobs])
        encoded: list[list[Row] | JobError] = []
        for job, prompt in zip(jobs, prompts, strict=True):
            try:
                if isinstance(prompt, JobError):
                    raise prompt
                encoded.append(self._make_rows(job, prompt))
            except JobError as error:
                encoded.append(error)
        return encoded

    def forward(self, micro_batch: MicroBatch) -> list[list[list[int]] | None]:
        """For each row its sequences of new token ids; None where scores were not numbers. Raises Interrupted."""
        places = {id(row): place for place, row in enumerate(micro_batch.rows)}
        raw: list[Any] = [None] * len(micro_batch.rows)
        for answered in self.generate(micro_batch.rows, lambda _count: (), len(micro_batch.rows)):
            for row, texts in answered:
                raw[places[id(row)]] = texts
        return raw

    @torch.inference_mode()
    def generate(self, rows: Sequence[Row], fetch_more: FetchMore, max_rows: int) -> Iterator[list[tuple[Row, Any]]]:
        """Rows with what each came to, as `forward` has it, as they end; others enter. Raises Interrupted."""
        waiting = list(rows)
        settings = self._generator.settings_for(rows[0].job.lease.parameters)
        new_tokens = settings.new_token_limits(rows[0].length)
        width = max(row.padded_length for row in rows)
        room = max(1, self._max_cached_tokens // ((width + new_tokens[0]) * settings.num_beams))
        at_once = rows[0].max_rows or min(room, max_rows)

        def entering(count: int) -> PrefillRows | None:
            drawn, waiting[:count] = waiting[:count] or fetch_more(count), []
            return self._prefill_rows(drawn, settings, new_tokens[0]) if drawn else None

        sharing = self._sharing_policy.sharing_for(rows[0].length + new_tokens[0])
        together = sharing is Sharing.TOGETHER and not self._cannot_pad
        loops = together or self._sharing_policy.supports_continuous
        if rows[0].max_rows is None and loops and self._generator.supports_continuous(settings):
            yield from self._generator.generate_continuous(settings, new_tokens, at_once, entering, can_merge=together)
        else:
            for start in range(0, len(rows), at_once):
                part = rows[start : start + at_once]
                yield list(zip(part, self._generate_rows(part, settings, can_evict_rows=loops), strict=True))

    def decode(self, rows: Sequence[Row], raw_outputs: Sequence[list[list[int]] | None]) -> Any:
        """`[{"generated_text"}]`, one for each sequence. Raises JobError on scores that are not numbers."""
        job, prompt = rows[0].job, rows[0].features["input_ids"]
        said = job.input["text"] if "text" in job.input else Chat(job.input["messages"])
        shown = {name: value for name, value in job.lease.parameters.items() if name in POSTPROCESS_PARAMETERS}
        how = self._pipeline._sanitize_parameters(**shown)[2]
        records: list[Any] = []
        for sequences in raw_outputs:
            if sequences is None:
                raise JobError("invalid_output", "the model gave scores that are not numbers; try dtype float32")
            for ids in sequences:
                written = {
                    "generated_sequence": torch.tensor([[[*prompt, *ids]]]),
                    "input_ids": torch.tensor([list(prompt)]),
                    "prompt_text": said,
                }
                with self._tokenizer_lock:
                    records += self._pipeline.postprocess(written, **how)
        return records

    def _make_collator(self, model: Any, *, deterministic: bool) -> Collator:
        pad = self._tokenizer.pad_token_id
        return Collator(
            self._tokenizer,
            model.device,
            deterministic=deterministic or self._limits.deterministic,
            padding_side="left",
            pad_values={"input_ids": 0 if pad is None or pad >= (vocabulary.size(model) or pad + 1) else pad},
            fixed_rows=DETERMINISTIC_ROWS,
        )

    def _make_rows(self, job: Job, prompt: "array[int]") -> list[Row]:
        parameters = job.lease.parameters
        settings = self._generator.settings_for(parameters)
        if not prompt:
            raise JobError("empty_text", "the tokenizer leaves nothing of this text; give it other text")
        vocabulary.check_token_ids(prompt, self._vocabulary_size)
        kept = self._fit_prompt(prompt, settings, can_cut_start=parameters.get("handle_long_generation") == "hole")
        new_tokens = settings.new_token_limits(len(kept))
        seeded = settings.do_sample and parameters.get("seed") is not None
        parts = settings.num_sequences if settings.samples_per_token else 1
        fixed = seeded or self._limits.deterministic
        sharing = self._sharing_policy.sharing_for(len(kept) + new_tokens[0], fixed_shape=fixed)
        equal = self._cannot_pad or settings.forbids_padding or sharing is not Sharing.TOGETHER
        made = [
            self._collators[seeded].make_row(
                job,
                {"input_ids": kept},
                truncated=len(kept) < len(prompt),
                key=(settings.key, new_tokens, seeded, sharing),
                part_index=part,
                part_count=parts,
                equal_lengths=equal,
            )
            for part in range(parts)
        ]
        if settings.needs_single_row or sharing is Sharing.ALONE:
            return [replace(row, width=None, max_rows=1) for row in made]
        return [self._cap_width(row, new_tokens[0]) for row in made]

    def _fit_prompt(self, prompt: "array[int]", settings: GenerationSettings, *, can_cut_start: bool) -> "array[int]":
        most, _ = settings.new_token_limits(len(prompt))
        limit = self._limits.max_length
        if most < 1:
            raise JobError(
                "input_too_long",
                f"{len(prompt):,} tokens; this model writes up to {settings.max_total_tokens:,} in all",
            )
        if limit is None or len(prompt) + most <= limit:
            return prompt
        # A prompt's end matters most, so nothing but the user's own word has its beginning cut.
        if can_cut_start and self._limits.truncation != "error" and most < limit:
            return prompt[-(limit - most) :]
        room = f"{len(prompt):,} tokens and {most:,} new ones are past the {limit:,} that this pipeline takes"
        raise JobError("input_too_long", f"{room}; cut the text or lower max_new_tokens")

    def _cap_width(self, row: Row, max_new_tokens: int) -> Row:
        if row.width is None or self._limits.max_length is None:
            return row
        # Some models can't go past their positions even with padding.
        width = min(row.width, self._limits.max_length - max_new_tokens)
        return replace(row, width=width, key=(row.key, width))

    def _generate_rows(
        self, rows: Sequence[Row], settings: GenerationSettings, *, can_evict_rows: bool
    ) -> list[list[list[int]] | None]:
        """In one run that nobody enters."""
        new_tokens = settings.new_token_limits(rows[0].length)
        entering = self._prefill_rows(rows, settings, new_tokens[0])
        tensors, noise, fixed = entering.tensors, entering.noise, rows[0].max_rows is not None or not can_evict_rows
        if settings.do_sample and not settings.samples_per_token:
            [row] = rows
            with sampling.seed_generators(
                row.job.lease.parameters.get("seed"), row.features["input_ids"], tensors["input_ids"].device
            ):
                return self._generator.run(tensors, settings, new_tokens)
        return self._generator.run(tensors, settings, new_tokens, noise, fixed)[: len(rows)]

    def _prefill_rows(self, rows: Sequence[Row], settings: GenerationSettings, max_new_tokens: int) -> PrefillRows:
        tensors = self._collators[rows[0].max_rows is not None].collate(MicroBatch(tuple(rows)))
        if not settings.samples_per_token:
            return PrefillRows(rows, tensors, None)
        noise = [
            sampling.noise(
                row.job.lease.parameters.get("seed"), row.features["input_ids"], row.part_index, max_new_tokens
            )
            for row in rows
        ]
        noise += [noise[-1]] * (len(tensors["input_ids"]) - len(rows))
        return PrefillRows(rows, tensors, np.stack(noise))
