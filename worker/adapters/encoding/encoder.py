"""Encoder: how rows share the passes of a model that reads texts, which trials at loading settle.

Packed, without any padding, where each row comes out of such a pass as it does alone; padded to the longest elsewhere;
only with rows of the same length where padding shows; and alone where other rows show.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch

from worker.adapters.encoding.collation import Collation
from worker.adapters.interface import Limits
from worker.adapters.probes import packing, padding, probe_rows, sameness
from worker.adapters.probes.sameness import Sharing
from worker.adapters.probes.sameness_trials import ReadingTrial
from worker.adapters.rows import Encoded, MicroBatch
from worker.adapters.tokenization import vocabulary
from worker.adapters.tokenization.special_tokens import Frame
from worker.layers import int8_linear
from worker.layers.packed_attention import Layout, Places
from worker.layers.packed_layers import PackedLayers, possible
from worker.leasing.leases import Job

FIRST = ((0,),)  # where a head looks that reads a row's first state


class Encoder:
    """A model's passes. `frame` is None where the tokenizer's is not known, so that nothing can be tried.

    With `few` the head looks at few positions of a row, and `tensors` is told which.
    """

    def __init__(self, model: Any, tokenizer: Any, limits: Limits, frame: Frame | None, *, few: bool = False) -> None:
        self._model = model
        self._collation = Collation(
            tokenizer, model.device, deterministic=limits.deterministic, longest=limits.max_length
        )
        self.most_rows = self._collation.most_rows
        self._deterministic = limits.deterministic
        self._sameness = sameness.settle(model, ReadingTrial(), limits.max_length)
        self._state = self._sameness.state(model)
        self._words = vocabulary.size(model)
        self.apart = frame is None or padding.matters(model, tokenizer, frame, limits.max_length)
        self._layers: PackedLayers | None = None
        self._few = False
        shares = self.most_rows > 1 and not self.apart and self._sameness.sharing is Sharing.TOGETHER
        if frame is not None and shares and not limits.deterministic and possible(model):
            self._settle(probe_rows.rows(tokenizer, frame), tokenizer.pad_token_id, few=few)

    @property
    def packs(self) -> bool:
        """Whether rows share their passes without padding."""
        return self._layers is not None

    def row(self, job: Job, features: Mapping[str, Any], **other: Any) -> Encoded:
        """As `Collation.row`. Raises JobError `unknown_token` where the model lacks one of its tokens."""
        vocabulary.check(features["input_ids"], self._words)
        sharing = self._sameness.of_row(len(features["input_ids"]), fixed=self._deterministic)
        equal = self.apart or sharing is not Sharing.TOGETHER
        row = self._collation.row(job, features, equal_lengths=equal, packed=self.packs, **other)
        return replace(row, width=None, most=1) if sharing is Sharing.ALONE else row

    @contextmanager
    def tensors(self, batch: MicroBatch, looked_at: Places | None = None) -> Iterator[dict[str, torch.Tensor]]:
        """What to call the model with in here; `looked_at` are the positions of each row that its head needs."""
        tensors = self._collation.tensors(batch)
        if self._state is not None:
            self._state.restore()
        with self._pass([row.length for row in batch.rows], batch.width, looked_at):
            yield tensors

    def _pass(self, lengths: Sequence[int], width: int, looked_at: Places | None) -> AbstractContextManager[None]:
        kept = looked_at if self._few else None
        if self._layers is None or (kept is None and min(lengths) == width):
            return nullcontext()
        return self._layers.over(Layout(lengths, width, self._model.device, kept))

    @torch.inference_mode()
    def _settle(self, rows: Sequence[probe_rows.Row], pad: int, *, few: bool) -> None:
        """Pack from here on, if rows come out as they do alone, whoever else is in the pass."""
        try:
            self._layers = PackedLayers(self._model)
        except ValueError:
            return
        with int8_linear.unrounded(self._model):
            for self._few in (True, False) if few else (False,):
                if packing.harmless(self._model, rows, pad, self._pass, few=self._few):
                    return
        self._layers.remove()
        self._layers = None
