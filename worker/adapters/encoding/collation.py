"""Collation: rows of token ids become the tensors of one forward pass."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch

from worker.adapters.rows import MicroBatch, Row
from worker.leasing.leases import Job

MAX_ROWS = 512

# A matrix product of another shape may add up in another order. So where the same bits are promised in any company,
# the shape of a row's pass depends on that row alone: a width in steps, and as many rows as make up so many tokens,
# filled up where there are fewer. Wider steps for longer texts, which are few. A power of two, since threads share a
# product out evenly: of 5 rows one lies across the border between two threads, and came out otherwise than the rest.
WIDTH_STEPS = ((128, 16), (256, 32), (10**9, 64))
DETERMINISTIC_TOKENS = {"cpu": 256, "cuda": 8_192, "mps": 2_048}
DETERMINISTIC_ROWS = 8  # where a pass writes text: what it holds grows with every token, whatever the prompt's width


class Collator:
    """Pads the rows of a micro-batch to one width, on the side where the model wants it.

    `fillers` names what a feature is padded with where the tokenizer does not say, 0 otherwise. `longest` is the width
    that the model can't go past. `fixed_rows` is for deterministic passes that have as many rows at every width.
    """

    def __init__(
        self,
        tokenizer: Any,
        device: Any,
        *,
        deterministic: bool = False,
        padding_side: Literal["left", "right"] = "right",
        pad_values: Mapping[str, int] | None = None,
        max_width: int | None = None,
        fixed_rows: int | None = None,
    ) -> None:
        self._device = device
        self._deterministic = deterministic
        self._padding_side = padding_side
        self._max_width = max_width
        self._fixed_rows = fixed_rows
        self._pad_values = {
            "input_ids": tokenizer.pad_token_id or 0,
            "token_type_ids": tokenizer.pad_token_type_id,
            **(pad_values or {}),
        }
        # Without a padding token rows can't share a pass, unless the caller knows what may stand in its place.
        self._cannot_pad = tokenizer.pad_token_id is None and "input_ids" not in (pad_values or {})
        self.max_rows = 1 if self._cannot_pad else MAX_ROWS

    def make_row(
        self,
        job: Job,
        features: Mapping[str, Any],
        *,
        truncated: bool = False,
        key: Hashable = None,
        part_index: int = 0,
        part_count: int = 1,
        equal_lengths: bool = False,
        packed: bool = False,
    ) -> Row:
        """A row of these features (lists of integers, one for each token).

        With `equal_lengths` it is never padded; `packed` is for passes that take the padding out again.
        """
        length = len(features["input_ids"])
        if not self._deterministic or self._cannot_pad:
            key = (key, length) if equal_lengths else key
            return Row(job, features, length, truncated, key, part_index, part_count, packed=packed)
        width = length if equal_lengths else self._round_width(length)
        return Row(
            job,
            features,
            length,
            truncated,
            (key, width),
            part_index,
            part_count,
            width,
            self._deterministic_rows(width),
        )

    def collate(self, micro_batch: MicroBatch) -> dict[str, torch.Tensor]:
        """int64 `(rows, width)` for each feature, with an `attention_mask`; rows that only fill up come last."""
        rows: Sequence[Row] = micro_batch.rows
        rows = (*rows, *[rows[-1]] * ((rows[0].max_rows or 0) - len(rows)))
        width = micro_batch.width
        names = [name for name in rows[0].features if name != "attention_mask"]
        tensors = {name: self._pad([row.features[name] for row in rows], width, name) for name in names}
        tensors["attention_mask"] = self._pad([[1] * row.length for row in rows], width, "attention_mask")
        return tensors

    def _round_width(self, length: int) -> int:
        step = next(step for most, step in WIDTH_STEPS if length <= most)
        width = -(-length // step) * step
        return width if self._max_width is None else max(length, min(width, self._max_width))

    def _deterministic_rows(self, width: int) -> int:
        if self._fixed_rows is not None:
            return self._fixed_rows
        room = DETERMINISTIC_TOKENS.get(self._device.type, DETERMINISTIC_TOKENS["cuda"]) // max(1, width)
        return 1 << max(0, room.bit_length() - 1)

    def _pad(self, values: Sequence[Sequence[int]], width: int, feature: str) -> torch.Tensor:
        array = np.full((len(values), width), self._pad_values.get(feature, 0), dtype=np.int64)
        for line, row in zip(array, values, strict=True):
            if self._padding_side == "left":
                line[width - len(row) :] = row
            else:
                line[: len(row)] = row
        tensor = torch.from_numpy(array)
        if self._device.type == "cuda":
            return tensor.pin_memory().to(self._device, non_blocking=True)
        return tensor.to(self._device)
