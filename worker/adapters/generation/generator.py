"""The generator, which runs a model's `generate` for rows that share their settings."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from models.errors import JobError
from worker.adapters.control.logits_processors import LogitsProcessors
from worker.adapters.control.output_schemas import OutputSchemas
from worker.adapters.generation import continuous_batching, sampling
from worker.adapters.generation.call_settings.settings import GenerationSettings, end_token_ids
from worker.adapters.generation.continuous_batching import DecodeMicroBatch, PrefillGroup
from worker.adapters.generation.decode_mask import with_kept_masks, with_known_padding
from worker.adapters.generation.row_controls import ControlledRow, ProcessorRun, RowControls
from worker.adapters.generation.sampling import Noise
from worker.adapters.generation.schema_run import SchemaRun
from worker.adapters.generation.stopping import FiniteScoreCheck, GenerationHooks, InterruptCriteria, StopStringTracker
from worker.adapters.generation.text_ends import TextEnds
from worker.adapters.generation.time_limit import RowTimeLimit
from worker.adapters.rows import GeneratedTexts
from worker.layers.model_state import ModelState

# A row's texts, the error of an operator's code, or None = the model's scores were not finite.
RawOutput = GeneratedTexts | JobError | None

NO_PROCESSORS = LogitsProcessors(())


class Intake(Protocol):
    """Where rows come from that enter a running generation."""

    def has_room(self, running_rows: int, running_width: int) -> bool:
        """Whether rows should enter beside so many running ones, the longest of this width."""

    def next_rows(self, running_rows: int, running_width: int) -> "PrefillRows | None":
        """Return rows that enter beside the running ones; None if there are none, or none fits."""


@dataclass(frozen=True, slots=True)
class PrefillRows:
    """Rows that join a run together.

    tensors: `(rows, width)`; prompts are padded on the left, and filler rows come last.
    noise: `(rows × sequences, new tokens)`, None = nothing is sampled.
    """

    rows: Sequence[Any]
    tensors: Mapping[str, torch.Tensor]
    noise: Noise | None

    @property
    def width(self) -> int:
        """The width that every row is padded to."""
        return self.tensors["input_ids"].shape[1]


class Generator:
    """Runs a causal language model or an encoder-decoder.

    should_interrupt: asked between two tokens.
    state: restored before each run, None = the model has no state that changes.
    processors: the operator's own.
    schemas: those that texts may have to meet, None = the task has none.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        should_interrupt: Callable[[], bool],
        state: ModelState | None = None,
        processors: LogitsProcessors = NO_PROCESSORS,
        schemas: OutputSchemas | None = None,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._state = state
        self._processors = processors
        self._schemas = schemas
        self._interrupt_criteria = InterruptCriteria(should_interrupt)
        self._has_encoder = bool(model.config.is_encoder_decoder)

    def run(self, prefill: PrefillRows, settings: GenerationSettings, *, fixed_shape: bool = False) -> list[RawOutput]:
        """Return each row's sequences of tokens.

        Sequences of a causal model are the new tokens up to their ends. Those of an encoder-decoder include its start
        and padding tokens.

        fixed_shape: keep rows that have ended in the pass.

        Raises Interrupted.
        """
        self._restore_state()
        rows = prefill.tensors["input_ids"].shape[0]
        hooks = self._make_hooks(prefill, settings)
        custom_generate = None if fixed_shape else continuous_batching.custom_generate_for(settings.config)
        prompt_width = 0 if self._has_encoder else prefill.width
        has_padding, has_fixed_width = self._has_padding(prefill, settings.config), prefill.rows[0].width is not None
        with with_known_padding(has_padding), with_kept_masks(keeps_masks=has_fixed_width):
            output_ids = self._generate(prefill, settings, hooks, custom_generate)
        ids = output_ids[:, prompt_width:].tolist()
        if settings.num_beams == 1 and (lengths := hooks.lengths_at_end(prompt_width)):
            ids = [row[:length] for row, length in zip(ids, lengths, strict=True)]
        sequences = [self._cut_at_end(row, settings.config) for row in ids]
        per_row = len(sequences) // rows
        texts = [(row, sequences[row * per_row : (row + 1) * per_row]) for row in range(len(prefill.rows))]
        return self._raw_outputs(texts, hooks, rows, TextEnds.of_run(settings, has_encoder=self._has_encoder))

    def supports_continuous(self, settings: GenerationSettings) -> bool:
        """Whether rows can leave and join a run with these settings."""
        return continuous_batching.custom_generate_for(settings.config) is continuous_batching.generate_greedy

    def generate_continuous(
        self, settings: GenerationSettings, intake: Intake, *, can_merge: bool
    ) -> Iterator[list[tuple[Any, RawOutput]]]:
        """Yield rows with their output, as in `run`, when they end; others join in their place.

        For causal models without beam search.

        intake: the rows; they enter as many at a time as it says.
        can_merge: whether rows may enter before all others have left.
        """
        micro_batch, ends = DecodeMicroBatch(self._model), TextEnds.of_run(settings, has_encoder=self._has_encoder)
        prefills: dict[PrefillGroup, tuple[PrefillRows, GenerationHooks]] = {}
        while True:
            running = len(micro_batch), max((prefill.width for prefill, _ in prefills.values()), default=0)
            can_refill = can_merge and micro_batch.accepts_new and intake.has_room(*running)
            if finished := micro_batch.pop_finished():
                for group, rows in finished:
                    prefill, hooks = prefills[group] if len(group) else prefills.pop(group)
                    texts = [(row, [ids[prefill.width :]]) for row, ids in rows]
                    outputs = self._raw_outputs(texts, hooks, len(prefill.rows), ends)
                    yield [(prefill.rows[row], output) for (row, _), output in zip(rows, outputs, strict=True)]
            elif (can_refill or not micro_batch) and (joining := intake.next_rows(*running)):
                if not micro_batch:
                    self._restore_state()
                hooks = self._make_hooks(joining, settings)
                group = self._generate(joining, settings, hooks, PrefillGroup)
                if group.supports_row_removal:
                    micro_batch.add(group)
                    prefills[group] = joining, hooks
                else:
                    yield list(zip(joining.rows, self.run(joining, settings), strict=True))
            elif micro_batch:
                micro_batch.decode_step()
            else:
                return

    def _has_padding(self, prefill: PrefillRows, config: GenerationConfig) -> bool | None:
        """Whether any row of a causal model has padding; None where masks mean more than padding."""
        if self._has_encoder or config.cache_implementation not in (None, "dynamic"):
            return None
        return any(row.length < prefill.width for row in prefill.rows)

    def _restore_state(self) -> None:
        if self._state is not None:
            self._state.restore()

    def _raw_outputs(
        self, texts: Sequence[tuple[int, list[list[int]]]], hooks: GenerationHooks, row_count: int, ends: TextEnds
    ) -> list[RawOutput]:
        """Return the output of each row, given its index and its sequences."""
        finite = hooks.finite_scores.finite_rows(row_count)
        errors = hooks.controls.errors(row_count) if hooks.controls else [None] * row_count
        ended = hooks.ended()
        is_out_of_time = hooks.time_limit is not None and hooks.time_limit.is_over
        return [
            None
            if not finite[row]
            else errors[row]
            or ends.read(
                sequences, ended[row * len(sequences) : (row + 1) * len(sequences)], is_out_of_time=is_out_of_time
            )
            for row, sequences in texts
        ]

    def _make_hooks(self, prefill: PrefillRows, settings: GenerationSettings) -> GenerationHooks:
        time_limit = None
        if settings.max_seconds is not None:
            repeats = 1 if prefill.noise is None else len(prefill.noise) // len(prefill.tensors["input_ids"])
            per_row = settings.num_sequences if settings.samples_per_token else 1
            time_limit = RowTimeLimit(settings.max_seconds, repeats * len(prefill.rows), per_row)
        controls = self._make_controls(prefill, settings)
        if settings.stop_criteria is None:
            return GenerationHooks(FiniteScoreCheck(), self._interrupt_criteria, None, time_limit, controls)
        padding = prefill.width - prefill.tensors["attention_mask"].sum(dim=1)
        if self._has_encoder:  # the decoder's input has no padding, and sampled sequences are rows
            padding = torch.zeros_like(padding) if prefill.noise is None else padding.new_zeros(len(prefill.noise))
        tracker = StopStringTracker(settings.stop_criteria, padding)
        return GenerationHooks(FiniteScoreCheck(), self._interrupt_criteria, tracker, time_limit, controls)

    def _make_controls(self, prefill: PrefillRows, settings: GenerationSettings) -> RowControls | None:
        schema, schema_run = settings.schema, None
        if schema is not None:
            assert self._schemas is not None
            schema_run = SchemaRun(self._schemas, schema, len(prefill.rows), len(prefill.tensors["input_ids"]))
        elif not self._processors:
            return None
        processors = self._make_processor_run(prefill, settings) if self._processors else None
        return RowControls(processors, schema_run, ends_rows=settings.num_beams == 1)

    def _make_processor_run(self, prefill: PrefillRows, settings: GenerationSettings) -> ProcessorRun:
        device = self._model.device
        rows = [
            ControlledRow(torch.tensor(list(row.features["input_ids"]), device=device), row.job.lease.parameters)
            for row in prefill.rows
        ]
        return ProcessorRun(
            self._processors,
            rows,
            len(prefill.tensors["input_ids"]),
            1 if self._has_encoder else prefill.width,  # a decoder's start token
            end_token_ids(settings.config),
        )

    def _generate(
        self,
        prefill: PrefillRows,
        settings: GenerationSettings,
        hooks: GenerationHooks,
        custom_generate: Callable[..., Any] | None,
    ) -> Any:
        controls = hooks.controls.processors if hooks.controls else ()
        processors: list[LogitsProcessor] = [hooks.finite_scores, *controls]
        tensors, noise = prefill.tensors, prefill.noise
        if noise is not None:
            repeats = len(noise) // len(tensors["input_ids"])
            tensors = {name: tensor.repeat_interleave(repeats, dim=0) for name, tensor in tensors.items()}
            processors.append(sampling.Sampler(settings.filters, sampling.to_device(noise, self._model.device)))
        return self._model.generate(
            **tensors,
            generation_config=settings.config,
            tokenizer=self._tokenizer,
            logits_processor=LogitsProcessorList(processors),
            stopping_criteria=hooks.stopping_criteria,
            custom_generate=custom_generate,
        )

    def _cut_at_end(self, ids: list[int], config: GenerationConfig) -> list[int]:
        # Negative ids fill up rows that left early, and beams of a model without an end token.
        if self._has_encoder:
            return [token for token in ids if token >= 0]
        end_ids = end_token_ids(config)
        for index, token in enumerate(ids):
            if token in end_ids:
                return ids[: index + 1]
            if token < 0:
                return ids[:index]
        return ids
