"""The loop: many rows are written token by token; those that have ended leave, and others may enter.

The loop inside `generate` computes every row until the last one has ended. But it can be told to prepare a run and hand
it over (`custom_generate`). Here it goes on with transformers' own parts, and in changing company.
"""

from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList
from transformers.generation import GenerationMode

from worker.adapters.generation import beam_search, row_state

# Rows leave as soon as one in so many has ended. Caches are copied for it; but that happens with every token anyway.
EVICT_WHEN_ONE_IN = 8


def custom_generate_for(config: GenerationConfig) -> Callable[..., torch.Tensor] | None:
    """Who goes on with a run that `generate` has prepared; None where that is left to transformers.

    Ours are the runs that take the likeliest token, one after the other, and those that follow the likeliest beams.
    """
    if config.cache_implementation not in (None, "dynamic") or config.token_healing or config.low_memory:
        return None
    ours = {GenerationMode.GREEDY_SEARCH: generate_greedy, GenerationMode.BEAM_SEARCH: beam_search.generate_beams}
    return ours.get(config.get_generation_mode())


def generate_greedy(
    model: Any,
    input_ids: torch.Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    **model_kwargs: Any,
) -> torch.Tensor:
    """Token ids `(rows, longest)`: what the rows began with, and what was written, up to each row's end.

    Behind that stands NOTHING; or a padding token where rows can't leave this model, which is left to transformers.
    """
    party = PrefillGroup(model, input_ids, logits_processor, stopping_criteria, generation_config, **model_kwargs)
    if not party.supports_row_removal:
        return type(model)._sample(
            model, input_ids, logits_processor, stopping_criteria, generation_config, **model_kwargs
        )
    written: dict[int, list[int]] = {}
    crowd = DecodeMicroBatch(model)
    crowd.add(party)
    while crowd:
        written.update(row for _, left in crowd.pop_finished() for row in left)
        if crowd:
            crowd.decode_step()
    return row_state.pad_rows([written[row] for row in sorted(written)])


class PrefillGroup:
    """Rows that `generate` has prepared together. They are told apart from others in the same company.

    Its ids, processors and criteria are those of a run of its own, so that lengths and padding mean what they mean
    there. It is what `custom_generate` takes: a call makes one, with nothing written yet.
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
        filler = generation_config._pad_token_tensor
        self._pad_token_id = 0 if filler is None else int(filler)
        self._row_ids = list(range(len(input_ids)))
        self._end_lengths = input_ids.new_zeros(len(input_ids))  # at a row's end; 0 before

    def __len__(self) -> int:
        return len(self._row_ids)

    @property
    def supports_row_removal(self) -> bool:
        """Whether its rows can leave one by one."""
        return row_state.supports_row_removal(self.model_kwargs, [*self._processors, *self._criteria])

    @property
    def supports_merge(self) -> bool:
        """Whether it may be told to the model beside others."""
        return self.supports_row_removal and row_state.supports_merge(self._model, self.model_kwargs)

    @property
    def ended_mask(self) -> torch.Tensor:
        """Booleans `(rows,)`."""
        return self._end_lengths > 0

    def prefill(self) -> None:
        """Read the prompts, and write each row's first token."""
        outputs = self._model._prefill(self.ids, self._config, self.model_kwargs)
        self.model_kwargs = next_model_kwargs(self._model, outputs, self.model_kwargs)
        self.append_tokens(outputs.logits[:, -1])

    def append_tokens(self, logits: torch.Tensor) -> None:
        """Write each row's next token, by the model's scores `(rows, tokens)`."""
        # A copy: the logits of a whole prompt may hang on it, and processors may write into it.
        scores = self._processors(self.ids, logits.to(dtype=torch.float32, copy=True))
        tokens = scores.argmax(dim=-1).masked_fill(self.ended_mask, self._pad_token_id)
        self.ids = torch.cat([self.ids, tokens[:, None]], dim=-1)
        now = self._criteria(self.ids, None) & ~self.ended_mask
        self._end_lengths.masked_fill_(now, self.ids.shape[1])

    def remove_finished(self, ended_mask: torch.Tensor) -> list[tuple[int, list[int]]]:
        """Take leave of the rows that have ended: the place that each had at first, and its token ids."""
        going, staying = ended_mask.nonzero()[:, 0], (~ended_mask).nonzero()[:, 0]
        written = zip(going.tolist(), self.ids[going].tolist(), self._end_lengths[going].tolist(), strict=True)
        left = [(self._row_ids[place], ids[:length]) for place, ids, length in written]
        self._row_ids = [self._row_ids[place] for place in staying.tolist()]
        self.ids, self._end_lengths = self.ids[staying], self._end_lengths[staying]
        if self._row_ids:
            row_state.select_processor_rows((*self._processors, *self._criteria), staying)
        return left


FinishedRows = tuple[PrefillGroup, list[tuple[int, list[int]]]]


class DecodeMicroBatch:
    """The rows that have not left yet, of one party or several, which the model computes together."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._groups: list[PrefillGroup] = []
        self._model_kwargs: dict[str, Any] = {}
        self.accepts_new = True  # whether others may enter

    def __len__(self) -> int:
        return sum(len(party) for party in self._groups)

    def add(self, group: PrefillGroup) -> None:
        """Let a party in that may leave; beside others only one that may join, and only where all may."""
        self.accepts_new = group.supports_merge
        group.prefill()
        self._model_kwargs = (
            row_state.merge_rows(self._model_kwargs, group.model_kwargs) if self._groups else group.model_kwargs
        )
        group.model_kwargs = {}
        self._groups.append(group)

    def pop_finished(self) -> list[FinishedRows]:
        """Take leave of the rows that have ended, if they are enough for it to pay."""
        ended = [party.ended_mask for party in self._groups]
        if not self._groups or not self._should_evict(torch.cat(ended).tolist()):
            return []
        staying = (~torch.cat(ended)).nonzero()[:, 0]
        left = [(party, party.remove_finished(theirs)) for party, theirs in zip(self._groups, ended, strict=True)]
        self._groups = [party for party in self._groups if len(party)]
        if self._groups:
            self._model_kwargs = row_state.select_rows(self._model_kwargs, staying)
            for cache in row_state.caches(self._model_kwargs):
                cache.reorder_cache(staying)
            if self.accepts_new:
                self._model_kwargs = row_state.trim_left_padding(self._model_kwargs)
        return [(party, rows) for party, rows in left if rows]

    def decode_step(self) -> None:
        """Write everybody's next token."""
        with self._model._optimize_model_for_decode():
            outputs = self._model(**self._next_inputs(), return_dict=True)
        self._model_kwargs = next_model_kwargs(self._model, outputs, self._model_kwargs)
        scores = outputs.logits[:, -1].split([len(party) for party in self._groups])
        for party, logits in zip(self._groups, scores, strict=True):
            party.append_tokens(logits)

    def _should_evict(self, ended_flags: list[bool]) -> bool:
        """A whole party is: so nothing ever gets longer than the longest of its rows."""
        bounds = [0, *accumulate(len(party) for party in self._groups)]
        whole = any(all(ended_flags[start:end]) for start, end in pairwise(bounds))
        return whole or sum(ended_flags) * EVICT_WHEN_ONE_IN >= len(ended_flags)

    def _next_inputs(self) -> dict[str, Any]:
        """What the model is told for the next token."""
        [first, *others] = self._groups
        ids = torch.cat([party.ids[:, -1:] for party in self._groups]) if others else first.ids
        inputs: dict[str, Any] = self._model.prepare_inputs_for_generation(
            ids, next_sequence_length=1, **self._model_kwargs
        )
        return inputs


def next_model_kwargs(model: Any, outputs: Any, model_kwargs: dict[str, Any]) -> dict[str, Any]:
    """What a model is told for the next token, by what it was told before and its outputs."""
    encodes = model.config.is_encoder_decoder
    following: dict[str, Any] = model._update_model_kwargs_for_generation(
        outputs, model_kwargs, is_encoder_decoder=encodes
    )
    return following
