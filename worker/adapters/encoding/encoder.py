"""The encoder, which decides by probes at load time how rows share the passes of a model that reads texts.

Rows are packed without padding if packed scores equal those of each row alone, and padded to the longest otherwise. If
padding changes scores, only rows of equal length share a pass. If other rows change scores, each row runs alone.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from itertools import product
from typing import Any

import structlog
import torch

from models.errors import JobError
from worker.adapters.encoding.collation import Collator
from worker.adapters.encoding.device_pass import DevicePass, passes_in_flight, record_event
from worker.adapters.generation.decode_mask import with_kept_masks
from worker.adapters.interface import Limits
from worker.adapters.probes import probe_scores, row_passes, sameness
from worker.adapters.probes.probe_scores import ProbeRow
from worker.adapters.probes.sameness_trials import ScoringTrial
from worker.adapters.probes.sharing import Sharing
from worker.adapters.rows import MicroBatch, Row
from worker.adapters.tokenization import vocabulary
from worker.adapters.tokenization.special_tokens import Template
from worker.layers import int8_linear
from worker.layers.packed_attention import PackedLayout, Positions
from worker.layers.packed_layers import PackedLayers, unsupported_reason
from worker.leasing.leases import Job

log = structlog.get_logger(__name__)

FIRST_POSITION = ((0,),)  # the position that a head over a row's first state reads


class Encoder:
    """The forward passes of one model.

    template: the tokenizer's special tokens, None = unknown, so that no probe can run and rows are never padded.
    sparse_positions: the head looks at few positions of a row, which `prepare_inputs` receives.
    """

    def __init__(
        self, model: Any, tokenizer: Any, limits: Limits, template: Template | None, *, sparse_positions: bool = False
    ) -> None:
        self._model = model
        self._collator = Collator(tokenizer, model.device, limits)
        self.max_rows = self._collator.max_rows
        self.passes_in_flight = passes_in_flight(model.device)
        self._deterministic = limits.deterministic
        self._sharing_policy = sameness.decide_sharing(model, ScoringTrial(), limits.max_length)
        self._state_to_restore = self._sharing_policy.state_to_restore(model)
        self._vocabulary_size, self._type_count = vocabulary.size(model), vocabulary.type_count(model)
        self.needs_equal_lengths = template is None or row_passes.padding_changes_scores(
            model, tokenizer, template, limits.max_length
        )
        self._layers: PackedLayers | None = None
        self._sparse_positions = False
        self._needs_mask = True
        problem = self._sharing_problem(template) or unsupported_reason(model)
        if problem is None and template is not None:
            rows = probe_scores.make_rows(tokenizer, template, self._vocabulary_size)
            problem = self._try_packing(rows, tokenizer.pad_token_id, sparse_positions=sparse_positions)
        if problem is not None:
            log.info("model.padded", pipeline=limits.pipeline, model=type(model).__name__, reason=problem)

    @property
    def uses_packing(self) -> bool:
        """Whether rows share their passes without padding."""
        return self._layers is not None

    def make_row(
        self,
        job: Job,
        features: Mapping[str, Any],
        *,
        truncated: bool = False,
        key: Hashable = None,
        part_index: int = 0,
        part_count: int = 1,
        window_count: int = 1,
    ) -> Row:
        """As `Collator.make_row`; `reject_unknown_tokens` must see the rows before they run."""
        if self._layers is not None:  # most models; this function runs for every row
            if truncated:
                self._collator.log_truncation()
            length = len(features["input_ids"])
            return Row(
                job, features, length, truncated, key, part_index, part_count, packed=True, window_count=window_count
            )
        sharing = self._sharing_policy.sharing_for(len(features["input_ids"]), fixed_shape=self._deterministic)
        row = self._collator.make_row(
            job,
            features,
            truncated=truncated,
            key=key,
            part_index=part_index,
            part_count=part_count,
            equal_lengths=self.needs_equal_lengths or sharing is not Sharing.TOGETHER,
            window_count=window_count,
        )
        return replace(row, width=None, max_rows=1) if sharing is Sharing.ALONE else row

    def make_single_rows(
        self,
        jobs: Sequence[Job],
        features: Sequence[Mapping[str, Any]],
        truncated: Sequence[bool],
        keys: Sequence[Hashable] | None = None,
    ) -> list[list[Row] | JobError]:
        """As `make_row`, for jobs of one row each."""
        return [
            [self.make_row(job, row, truncated=cut, key=key)]
            for job, row, cut, key in zip(jobs, features, truncated, keys or [None] * len(jobs), strict=True)
        ]

    def reject_unknown_tokens(self, encoded: list[list[Row] | JobError]) -> list[list[Row] | JobError]:
        """Put a JobError in place of the rows of each job with a token, or a token type, that the model lacks."""
        known = vocabulary.reject_unknown_tokens(encoded, self._vocabulary_size)
        return vocabulary.reject_unknown_types(known, self._type_count)

    def launch(
        self,
        micro_batch: MicroBatch,
        compute: Callable[[dict[str, torch.Tensor]], Sequence[torch.Tensor]],
        make_raw_outputs: Callable[..., list[Any]],
        output_positions: Positions | None = None,
    ) -> DevicePass:
        """Launch a pass, and the copy of its outputs to the host.

        compute: calls the model with these inputs; returns the outputs to copy, without filler rows.
        make_raw_outputs: turns the copies, NumPy arrays, into one raw output for each row.
        output_positions: as in `prepare_inputs`.
        """
        with self.prepare_inputs(micro_batch, output_positions) as tensors:
            started = record_event(self._model.device)
            return DevicePass(compute(tensors), started, make_raw_outputs)

    @contextmanager
    def prepare_inputs(
        self, micro_batch: MicroBatch, output_positions: Positions | None = None
    ) -> Iterator[dict[str, torch.Tensor]]:
        """The tensors to call the model with inside this context.

        output_positions: the positions of each row that the head needs, None = all.
        """
        lengths, width = [row.length for row in micro_batch.rows], micro_batch.width
        # A model that packs without a mask needs none for rows without padding either. transformers would look at its
        # numbers, and wait for the device.
        tensors = self._collator.collate(micro_batch, with_mask=self._needs_mask)
        if self._state_to_restore is not None:
            self._state_to_restore.restore()
        has_fixed_width = micro_batch.rows[0].width is not None
        with self._packed_pass(lengths, width, output_positions), with_kept_masks(keeps_masks=has_fixed_width):
            yield tensors

    def _is_packed(self, lengths: Sequence[int], width: int, output_positions: Positions | None) -> bool:
        """Whether the pass has padding to remove, or positions that the last layer need not compute."""
        has_positions = self._sparse_positions and output_positions is not None
        return self._layers is not None and (has_positions or min(lengths) < width)

    def _packed_pass(
        self, lengths: Sequence[int], width: int, output_positions: Positions | None
    ) -> AbstractContextManager[None]:
        if self._layers is None or not self._is_packed(lengths, width, output_positions):
            return nullcontext()
        positions = output_positions if self._sparse_positions else None
        return self._layers.activate(PackedLayout(lengths, width, self._model.device, positions))

    def _sharing_problem(self, template: Template | None) -> str | None:
        """The reason why rows must not be packed, whatever the model's layers are; None if they may be."""
        if template is None:
            return "its tokenizer adds special tokens in a way that probes do not know"
        if self.max_rows == 1:
            return "its tokenizer has no padding token"
        if self.needs_equal_lengths:
            return "padding changes its scores"
        if self._sharing_policy.sharing is not Sharing.TOGETHER:
            return "other rows change its scores"
        return "deterministic passes have a fixed shape" if self._deterministic else None

    @torch.inference_mode()
    def _try_packing(self, rows: Sequence[ProbeRow], pad_token_id: int, *, sparse_positions: bool) -> str | None:
        """Pack from here on, if packed scores equal those of each row alone; otherwise return the reason."""
        try:
            self._layers = PackedLayers(self._model)
        except ValueError as error:
            return str(error)
        problem = None
        # Packed attention needs no mask, but some embeddings and heads do.
        ways = product((True, False) if sparse_positions else (False,), (False, True))
        try:
            with int8_linear.float32_fallback(self._model):
                for self._sparse_positions, self._needs_mask in ways:
                    problem = row_passes.packing_problem(
                        self._model,
                        rows,
                        pad_token_id,
                        self._packed_pass,
                        sparse_positions=self._sparse_positions,
                        with_mask=self._needs_mask,
                    )
                    if problem is None:
                        return None
        except BaseException:
            self._layers.remove()
            raise
        self._layers.remove()
        self._layers = None
        return problem
