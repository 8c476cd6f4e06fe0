"""Continuous batching: many rows are decoded together, finished ones leave, and new ones may join.

The loop inside `generate` computes every row until the last one ends. Its `custom_generate` hook prepares a run and
leaves the loop to us, so this one is made of transformers' own parts.
"""

import time
from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList
from transformers.generation import GenerationMode
from transformers.generation.stopping_criteria import MaxLengthCriteria

from worker.adapters.generation import beam_search, row_state
from worker.adapters.generation.decode_mask import with_known_padding
from worker.adapters.generation.end_check import EndCheck
from worker.adapters.generation.row_controls import ProcessorRun
from worker.adapters.generation.stopping import FiniteScoreCheck, InterruptCriteria
from worker.adapters.generation.time_limit import RowTimeLimit

# Remove finished rows once they are one in so many. Removal copies the caches, but so does every token.
EVICT_WHEN_ONE_IN = 8


def custom_generate_for(config: GenerationConfig) -> Callable[..., torch.Tensor] | None:
    """Return the `custom_generate` of a greedy or beam search config; None where transformers' own loop must run."""
    if config.cache_implementation not in (None, "dynamic") or config.token_healing or config.low_memory:
        return None
    loops = {GenerationMode.GREEDY_SEARCH: generate_greedy, GenerationMode.BEAM_SEARCH: beam_search.generate_beams}
    return loops.get(config.get_generation_mode())


def generate_greedy(
    model: Any,
    input_ids: torch.Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    **model_kwargs: Any,
) -> torch.Tensor:
    """Return token ids `(rows, width)`: each row's prompt and new tokens, up to its end.

    Shorter rows are filled up with NO_TOKEN. A model whose rows can't be removed runs in transformers' own loop, which
    fills up with the padding token.
    """
    group = PrefillGroup(model, input_ids, logits_processor, stopping_criteria, generation_config, **model_kwargs)
    if not group.supports_row_removal:
        return type(model)._sample(
            model, input_ids, logits_processor, stopping_criteria, generation_config, **model_kwargs
        )
    texts: dict[int, list[int]] = {}
    micro_batch = DecodeMicroBatch(model)
    micro_batch.add(group)
    while micro_batch:
        texts.update(row for _, finished in micro_batch.pop_finished() for row in finished)
        if micro_batch:
            micro_batch.decode_step()
    return row_state.pad_rows([texts[row] for row in sorted(texts)])


class PrefillGroup:
    """Rows that one `generate` call prepared.

    A group keeps its own ids, processors and criteria while the model decodes it together with other groups. Lengths
    and padding therefore mean the same as in a separate run. The class itself is a `custom_generate`.
    """

    def __init__(
        self,
        model: Any,
        input_ids: torch.Tensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        **model_kwargs: Any,
    ) -> None:
        self._model = model
        self.ids = input_ids
        self._processors, self._criteria, self._config = logits_processor, stopping_criteria, generation_config
        self.model_kwargs = model_kwargs
        self._end_criteria = [criterion for criterion in stopping_criteria if not _is_known_to_host(criterion)]
        limits = [criterion.max_length for criterion in stopping_criteria if type(criterion) is MaxLengthCriteria]
        self._max_length = min(limits, default=None)
        self._time_limit = next((check for check in stopping_criteria if isinstance(check, RowTimeLimit)), None)
        if self._time_limit is not None and self.supports_row_removal:
            self._time_limit.share_time()
        pad_token = generation_config._pad_token_tensor
        self._pad_token_id = 0 if pad_token is None else int(pad_token)
        self._row_ids = list(range(len(input_ids)))
        self.ended_mask = input_ids.new_zeros(len(input_ids), dtype=torch.bool)  # `(rows,)`
        self._lengths = input_ids.new_full((len(input_ids),), input_ids.shape[1])  # up to the end of each row
        self._share_ended_mask()

    def __len__(self) -> int:
        return len(self._row_ids)

    @property
    def supports_row_removal(self) -> bool:
        """Whether rows can be removed one by one."""
        return row_state.supports_row_removal(self.model_kwargs, [*self._processors, *self._criteria])

    @property
    def supports_merge(self) -> bool:
        """Whether the group can be decoded together with others."""
        return self.supports_row_removal and row_state.supports_merge(self._model, self.model_kwargs)

    @property
    def is_at_limit(self) -> bool:
        """Whether all rows have as many tokens, or as much time, as they may have."""
        is_out_of_time = self._time_limit is not None and self._time_limit.is_over
        return is_out_of_time or (self._max_length is not None and self.ids.shape[1] >= self._max_length)

    @property
    def can_end(self) -> bool:
        """Whether any row may have ended."""
        return bool(self._end_criteria) or self.is_at_limit

    def prefill(self) -> None:
        """Process the prompts and append the first token of each row."""
        started = time.monotonic()
        outputs = self._model._prefill(self.ids, self._config, self.model_kwargs)
        self.count_time((time.monotonic() - started) / len(self))
        self.model_kwargs = row_state.next_model_kwargs(self._model, outputs, self.model_kwargs)
        self.append_tokens(outputs.logits[:, -1])

    def count_time(self, seconds: float) -> None:
        """Count the time of a token for each of its sequences."""
        if self._time_limit is not None:
            self._time_limit.add(seconds)

    def append_tokens(self, logits: torch.Tensor) -> None:
        """Append the next token of each row, chosen by `logits`, `(rows, tokens)`."""
        # A copy, because processors may write into it, and a view would keep the logits of the whole prompt alive.
        scores = logits.to(dtype=torch.float32, copy=True)
        for processor in self._processors:  # their list would look up each one's signature for every token
            scores = processor(self.ids, scores)
        tokens = scores.argmax(dim=-1).masked_fill(self.ended_mask, self._pad_token_id)
        self.ids = torch.cat([self.ids, tokens[:, None]], dim=-1)
        self._lengths += ~self.ended_mask
        self._find_ended()

    def remove_finished(self, ended_mask: torch.Tensor) -> list[tuple[int, list[int]]]:
        """Remove the rows that have ended; return each one's original index and token ids."""
        ended, remaining = ended_mask.nonzero()[:, 0], (~ended_mask).nonzero()[:, 0]
        rows = zip(ended.tolist(), self.ids[ended].tolist(), self._lengths[ended].tolist(), strict=True)
        finished = [(self._row_ids[index], ids[:length]) for index, ids, length in rows]
        self._row_ids = [self._row_ids[index] for index in remaining.tolist()]
        self.ids, self._lengths = self.ids[remaining], self._lengths[remaining]
        self.ended_mask = self.ended_mask[remaining]
        if self._row_ids:
            row_state.select_processor_rows((*self._processors, *self._criteria), remaining)
            self._share_ended_mask()
        return finished

    def _find_ended(self) -> None:
        for criterion in self._criteria:
            if isinstance(criterion, InterruptCriteria):
                criterion.check()
        for criterion in self._end_criteria:
            self.ended_mask |= criterion(self.ids, None)
        if self.is_at_limit:
            self.ended_mask.fill_(True)

    def _share_ended_mask(self) -> None:
        """Let processors leave out the rows that have ended, whose scores count no more."""
        for processor in self._processors:
            if isinstance(processor, FiniteScoreCheck | ProcessorRun):
                processor.ended_mask = self.ended_mask


def _is_known_to_host(criterion: Any) -> bool:
    """Whether a criterion ends no row, or all rows at a known length or time."""
    return isinstance(criterion, InterruptCriteria | RowTimeLimit) or type(criterion) is MaxLengthCriteria


FinishedRows = tuple[PrefillGroup, list[tuple[int, list[int]]]]


class DecodeMicroBatch:
    """The unfinished rows of one or more groups, which the model decodes together."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._groups: list[PrefillGroup] = []
        self._model_kwargs: dict[str, Any] = {}
        self._end_check = EndCheck(model.device)
        self._has_padding: bool | None = None  # before any row's newest token, None = not known
        self.accepts_new = True
        self._unshared_seconds = 0.0  # that the host waited for the device since the last token

    def __len__(self) -> int:
        return sum(len(group) for group in self._groups)

    def add(self, group: PrefillGroup) -> None:
        """Prefill a group that supports row removal and add it; beside other groups, all must support merging."""
        self.accepts_new = group.supports_merge
        group.prefill()
        self._model_kwargs = (
            row_state.merge_rows(self._model_kwargs, group.model_kwargs) if self._groups else group.model_kwargs
        )
        group.model_kwargs = {}
        self._groups.append(group)
        self._look_at_padding()

    def pop_finished(self) -> list[FinishedRows]:
        """Remove and return the finished rows, once there are enough to be worth a copy of the caches."""
        started = time.monotonic()
        ended_flags = self._ended_flags()
        self._unshared_seconds += time.monotonic() - started
        if ended_flags is None or not self._should_evict(ended_flags):
            return []
        masks = [group.ended_mask for group in self._groups]
        remaining = (~torch.cat(masks)).nonzero()[:, 0]
        self._end_check.forget()
        finished = [(group, group.remove_finished(mask)) for group, mask in zip(self._groups, masks, strict=True)]
        self._groups = [group for group in self._groups if len(group)]
        if self._groups:
            self._model_kwargs = row_state.select_rows(self._model_kwargs, remaining)
            for cache in row_state.caches(self._model_kwargs):
                cache.reorder_cache(remaining)
            if self.accepts_new:
                self._model_kwargs = row_state.trim_left_padding(self._model_kwargs)
            self._look_at_padding()
        return [(group, rows) for group, rows in finished if rows]

    def decode_step(self) -> None:
        """Append the next token of every row."""
        [first, *others] = self._groups
        started = time.monotonic()
        ids = torch.cat([group.ids[:, -1:] for group in self._groups]) if others else first.ids
        inputs = row_state.decode_inputs(self._model, ids, self._model_kwargs)
        with self._model._optimize_model_for_decode(), with_known_padding(self._has_padding):
            outputs = self._model(**inputs, return_dict=True)
        self._model_kwargs = row_state.next_model_kwargs(self._model, outputs, self._model_kwargs)
        group_logits = outputs.logits[:, -1].split([len(group) for group in self._groups])
        seconds = (self._unshared_seconds + time.monotonic() - started) / len(self)
        self._unshared_seconds = 0.0
        for group, logits in zip(self._groups, group_logits, strict=True):
            group.count_time(seconds)
            group.append_tokens(logits)
        self._end_check.count_token()

    def _look_at_padding(self) -> None:
        """Look once for all tokens until other rows run. An encoder-decoder has two masks, so it looks for itself."""
        mask = self._model_kwargs.get("attention_mask")
        if mask is not None and not self._model.config.is_encoder_decoder:
            self._has_padding = not bool(mask.all())

    def _ended_flags(self) -> list[bool] | None:
        if not any(group.can_end for group in self._groups):
            return None
        # A row never gets longer than its limit, beyond which a model may have no positions.
        must_look = any(group.is_at_limit for group in self._groups)
        return self._end_check.ended_flags([group.ended_mask for group in self._groups], must_look=must_look)

    def _should_evict(self, ended_flags: list[bool]) -> bool:
        """A finished group leaves at once, so that the cache never gets longer than its longest row."""
        bounds = [0, *accumulate(len(group) for group in self._groups)]
        has_finished_group = any(all(ended_flags[start:end]) for start, end in pairwise(bounds))
        return has_finished_group or sum(ended_flags) * EVICT_WHEN_ONE_IN >= len(ended_flags)
