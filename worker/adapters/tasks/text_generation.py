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
from worker.adapters.encoding.collation import FIXED_ROWS, Collation
from worker.adapters.generation import sampling
from worker.adapters.generation.causal_lm import Entering, Generation, Settings
from worker.adapters.interface import Limits, More, never
from worker.adapters.probes import sameness
from worker.adapters.probes.sameness import Sharing
from worker.adapters.probes.sameness_trials import WritingTrial, write_a_little
from worker.adapters.rows import Encoded, MicroBatch
from worker.adapters.tokenization import vocabulary
from worker.adapters.tokenization.prompts import Prompts
from worker.leasing.leases import Job

# The tokens, prompts and new ones of all beams, whose keys and values one run may keep. An 8-billion model with grouped
# heads keeps 128 KiB for each: 8 GiB on a GPU. A CPU gains nothing from more rows than this allows.
CACHED_TOKENS = {"cpu": 16_384, "cuda": 65_536, "mps": 16_384}

# A model that is told these can be padded on the left. Others (by relative places, or recurrent) go by equal lengths.
PADDED_BY = {"attention_mask", "position_ids"}

SHOWN = ("return_full_text", "continue_final_message", "skip_special_tokens")


class TextGeneration:
    """Encodes jobs in one tokenizer call; writes as transformers' own pipeline does with one input.

    What is sampled with a seed is the same in any company: it runs in passes whose shape depends on the row alone.
    """

    head: ClassVar[Any] = AutoModelForCausalLM
    packs = False

    def __init__(self, model: Any, tokenizer: Any, limits: Limits, task: str) -> None:
        if not model.can_generate():
            raise ModelError(f"{type(model).__name__} can't write text; text-generation takes a causal language model")
        self._tokenizer = tokenizer
        # A call changes the tokenizer's state, and one thread encodes while another decodes.
        self._tokenizing = RLock()
        self._limits = limits
        self._pipeline = TextGenerationPipeline(model=model, tokenizer=tokenizer, device=model.device, task=task)
        self._prompts = Prompts(tokenizer, self._pipeline._preprocess_params.get("prefix", ""))
        self.interrupt: Callable[[], bool] = never
        self._unpadded = not set(inspect.signature(model.forward).parameters) >= PADDED_BY
        self._sameness = sameness.settle(model, WritingTrial(pads=not self._unpadded), limits.max_length)
        state = self._sameness.state(model)
        self._generation = Generation(self._pipeline, lambda: self.interrupt(), state)
        write_a_little(model)
        self._collations = {fixed: self._collation(model, fixed=fixed) for fixed in (False, True)}
        self.most_rows = self._collations[False].most_rows
        self._words = vocabulary.size(model)
        self._room = CACHED_TOKENS.get(model.device.type, CACHED_TOKENS["cuda"])

    def encode(self, jobs: Sequence[Job]) -> list[list[Encoded] | JobError]:
        """A row for each job, or where tokens are drawn one for each sequence that it asks for.

        JobError: `input_too_long` where prompt and new tokens together don't fit, `no_chat_template`,
        `invalid_messages`, `unknown_token`, and `invalid_parameters` where they don't fit this model.
        """
        with self._tokenizing:
            prompts = self._prompts.encode([(job.input, job.lease.parameters) for job in jobs])
        encoded: list[list[Encoded] | JobError] = []
        for job, prompt in zip(jobs, prompts, strict=True):
            try:
                if isinstance(prompt, JobError):
                    raise prompt
                encoded.append(self._rows(job, prompt))
            except JobError as error:
                encoded.append(error)
        return encoded

    def forward(self, batch: MicroBatch) -> list[list[list[int]] | None]:
        """For each row its sequences of new token ids; None where scores were not numbers. Raises Interrupted."""
        places = {id(row): place for place, row in enumerate(batch.rows)}
        raw: list[Any] = [None] * len(batch.rows)
        for answered in self.flow(batch.rows, lambda _count: (), len(batch.rows)):
            for row, texts in answered:
                raw[places[id(row)]] = texts
        return raw

    @torch.inference_mode()
    def flow(self, rows: Sequence[Encoded], more: More, most: int) -> Iterator[list[tuple[Encoded, Any]]]:
        """Rows with what each came to, as `forward` has it, as they end; others enter. Raises Interrupted."""
        waiting = list(rows)
        settings = self._generation.settings(rows[0].job.lease.parameters)
        new_tokens = settings.new_tokens(rows[0].length)
        width = max(row.padded for row in rows)
        room = max(1, self._room // ((width + new_tokens[0]) * settings.beams))
        at_once = rows[0].most or min(room, most)

        def entering(count: int) -> Entering | None:
            drawn, waiting[:count] = waiting[:count] or more(count), []
            return self._entering(drawn, settings, new_tokens[0]) if drawn else None

        sharing = self._sameness.of_row(rows[0].length + new_tokens[0])
        together = sharing is Sharing.TOGETHER and not self._unpadded
        loops = together or self._sameness.loops
        if rows[0].most is None and loops and self._generation.flows(settings):
            yield from self._generation.flow(settings, new_tokens, at_once, entering, together=together)
        else:
            for start in range(0, len(rows), at_once):
                part = rows[start : start + at_once]
                yield list(zip(part, self._written(part, settings, loops=loops), strict=True))

    def decode(self, rows: Sequence[Encoded], raw: Sequence[list[list[int]] | None]) -> Any:
        """`[{"generated_text"}]`, one for each sequence. Raises JobError on scores that are not numbers."""
        job, prompt = rows[0].job, rows[0].features["input_ids"]
        said = job.input["text"] if "text" in job.input else Chat(job.input["messages"])
        shown = {name: value for name, value in job.lease.parameters.items() if name in SHOWN}
        how = self._pipeline._sanitize_parameters(**shown)[2]
        records: list[Any] = []
        for sequences in raw:
            if sequences is None:
                raise JobError("invalid_output", "the model gave scores that are not numbers; try dtype float32")
            for ids in sequences:
                written = {
                    "generated_sequence": torch.tensor([[[*prompt, *ids]]]),
                    "input_ids": torch.tensor([list(prompt)]),
                    "prompt_text": said,
                }
                with self._tokenizing:
                    records += self._pipeline.postprocess(written, **how)
        return records

    def _collation(self, model: Any, *, fixed: bool) -> Collation:
        pad = self._tokenizer.pad_token_id
        return Collation(
            self._tokenizer, model.device, deterministic=fixed or self._limits.deterministic, side="left",
            fillers={"input_ids": 0 if pad is None or pad >= (vocabulary.size(model) or pad + 1) else pad},
            fixed_rows=FIXED_ROWS,
        )  # fmt: skip

    def _rows(self, job: Job, prompt: "array[int]") -> list[Encoded]:
        parameters = job.lease.parameters
        settings = self._generation.settings(parameters)
        if not prompt:
            raise JobError("empty_text", "the tokenizer leaves nothing of this text; give it other text")
        vocabulary.check(prompt, self._words)
        kept = self._fitting(prompt, settings, hole=parameters.get("handle_long_generation") == "hole")
        new_tokens = settings.new_tokens(len(kept))
        seeded = settings.samples and parameters.get("seed") is not None
        parts = settings.sequences if settings.draws else 1
        fixed = seeded or self._limits.deterministic
        sharing = self._sameness.of_row(len(kept) + new_tokens[0], fixed=fixed)
        equal = self._unpadded or settings.unpadded or sharing is not Sharing.TOGETHER
        made = [
            self._collations[seeded].row(
                job, {"input_ids": kept}, truncated=len(kept) < len(prompt),
                key=(settings.key, new_tokens, seeded, sharing), part=part, parts=parts, equal_lengths=equal,
            )
            for part in range(parts)
        ]  # fmt: skip
        if settings.alone or sharing is Sharing.ALONE:
            return [replace(row, width=None, most=1) for row in made]
        return [self._shaped(row, new_tokens[0]) for row in made]

    def _fitting(self, prompt: "array[int]", settings: Settings, *, hole: bool) -> "array[int]":
        most, _ = settings.new_tokens(len(prompt))
        limit = self._limits.max_length
        if most < 1:
            raise JobError(
                "input_too_long", f"{len(prompt):,} tokens; this model writes up to {settings.most_in_all:,} in all"
            )
        if limit is None or len(prompt) + most <= limit:
            return prompt
        # A prompt's end matters most, so nothing but the user's own word has its beginning cut.
        if hole and self._limits.truncation != "error" and most < limit:
            return prompt[-(limit - most) :]
        room = f"{len(prompt):,} tokens and {most:,} new ones are past the {limit:,} that this pipeline takes"
        raise JobError("input_too_long", f"{room}; cut the text or lower max_new_tokens")

    def _shaped(self, row: Encoded, most: int) -> Encoded:
        if row.width is None or self._limits.max_length is None:
            return row
        # Some models can't go past their positions even with padding.
        width = min(row.width, self._limits.max_length - most)
        return replace(row, width=width, key=(row.key, width))

    def _written(self, rows: Sequence[Encoded], settings: Settings, *, loops: bool) -> list[list[list[int]] | None]:
        """In one run that nobody enters."""
        new_tokens = settings.new_tokens(rows[0].length)
        entering = self._entering(rows, settings, new_tokens[0])
        tensors, noise, fixed = entering.tensors, entering.noise, rows[0].most is not None or not loops
        if settings.samples and not settings.draws:
            [row] = rows
            with sampling.seeded(
                row.job.lease.parameters.get("seed"), row.features["input_ids"], tensors["input_ids"].device
            ):
                return self._generation.run(tensors, settings, new_tokens)
        return self._generation.run(tensors, settings, new_tokens, noise, fixed)[: len(rows)]

    def _entering(self, rows: Sequence[Encoded], settings: Settings, most: int) -> Entering:
        tensors = self._collations[rows[0].most is not None].tensors(MicroBatch(tuple(rows)))
        if not settings.draws:
            return Entering(rows, tensors, None)
        noise = [
            sampling.noise(row.job.lease.parameters.get("seed"), row.features["input_ids"], row.part, most)
            for row in rows
        ]
        noise += [noise[-1]] * (len(tensors["input_ids"]) - len(rows))
        return Entering(rows, tensors, np.stack(noise))
