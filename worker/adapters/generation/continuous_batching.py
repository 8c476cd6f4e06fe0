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
ONE_IN = 8


def handed_over(config: GenerationConfig) -> Callable[..., torch.Tensor] | None:
    """Who goes on with a run that `generate` has prepared; None where that is left to transformers.

    Ours are the runs that take the likeliest token, one after the other, and those that follow the likeliest beams.
    """
    if config.cache_implementation not in (None, "dynamic") or config.token_healing or config.low_memory:
        return None
    ours = {GenerationMode.GREEDY_SEARCH: write, GenerationMode.BEAM_SEARCH: beam_search.write}
    return ours.get(config.get_generation_mode())


def write(
    model: Any, input_ids: torch.Tensor, logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList, generation_config: GenerationConfig, **told: Any,
) -> torch.Tensor:  # fmt: skip
    """Token ids `(rows, longest)`: what the rows began with, and what was written, up to each row's end.

    Behind that stands NOTHING; or a padding token where rows can't leave this model, which is left to transformers.
    """
    party = Party(model, input_ids, logits_processor, stopping_criteria, generation_config, **told)
    if not party.may_leave:
        return type(model)._sample(model, input_ids, logits_processor, stopping_criteria, generation_config, **told)
    written: dict[int, list[int]] = {}
    crowd = Crowd(model)
    crowd.enter(party)
    while crowd:
        written.update(row for _, left in crowd.leave() for row in left)
        if crowd:
            crowd.go_on()
    return row_state.filled([written[row] for row in sorted(written)])


class Party:
    """Rows that `generate` has prepared together. They are told apart from others in the same company.

    Its ids, processors and criteria are those of a run of its own, so that lengths and padding mean what they mean
    there. It is what `custom_generate` takes: a call makes one, with nothing written yet.
    """

    def __init__(
        self, model: Any, input_ids: torch.Tensor, logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList, generation_config: GenerationConfig, **told: Any,
    ) -> None:  # fmt: skip
        self._model = model
        self.ids = input_ids
        self._processors, self._criteria, self._config = logits_processor, stopping_criteria, generation_config
        self.told = told
        filler = generation_config._pad_token_tensor
        self._filler = 0 if filler is None else int(filler)
        self._rows = list(range(len(input_ids)))
        self._lengths = input_ids.new_zeros(len(input_ids))  # at a row's end; 0 before

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def may_leave(self) -> bool:
        """Whether its rows can leave one by one."""
        return row_state.may_leave(self.told, [*self._processors, *self._criteria])

    @property
    def may_join(self) -> bool:
        """Whether it may be told to the model beside others."""
        return self.may_leave and row_state.may_join(self._model, self.told)

    @property
    def ended(self) -> torch.Tensor:
        """Booleans `(rows,)`."""
        return self._lengths > 0

    def begin(self) -> None:
        """Read the prompts, and write each row's first token."""
        outputs = self._model._prefill(self.ids, self._config, self.told)
        self.told = told_next(self._model, outputs, self.told)
        self.choose(outputs.logits[:, -1])

    def choose(self, logits: torch.Tensor) -> None:
        """Write each row's next token, by the model's scores `(rows, tokens)`."""
        # A copy: the logits of a whole prompt may hang on it, and processors may write into it.
        scores = self._processors(self.ids, logits.to(dtype=torch.float32, copy=True))
        tokens = scores.argmax(dim=-1).masked_fill(self.ended, self._filler)
        self.ids = torch.cat([self.ids, tokens[:, None]], dim=-1)
        now = self._criteria(self.ids, None) & ~self.ended
        self._lengths.masked_fill_(now, self.ids.shape[1])

    def part(self, ended: torch.Tensor) -> list[tuple[int, list[int]]]:
        """Take leave of the rows that have ended: the place that each had at first, and its token ids."""
        going, staying = ended.nonzero()[:, 0], (~ended).nonzero()[:, 0]
        written = zip(going.tolist(), self.ids[going].tolist(), self._lengths[going].tolist(), strict=True)
        left = [(self._rows[place], ids[:length]) for place, ids, length in written]
        self._rows = [self._rows[place] for place in staying.tolist()]
        self.ids, self._lengths = self.ids[staying], self._lengths[staying]
        if self._rows:
            row_state.keep((*self._processors, *self._criteria), staying)
        return left


Left = tuple[Party, list[tuple[int, list[int]]]]


class Crowd:
    """The rows that have not left yet, of one party or several, which the model computes together."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._parties: list[Party] = []
        self._told: dict[str, Any] = {}
        self.open = True  # whether others may enter

    def __len__(self) -> int:
        return sum(len(party) for party in self._parties)

    def enter(self, party: Party) -> None:
        """Let a party in that may leave; beside others only one that may join, and only where all may."""
        self.open = party.may_join
        party.begin()
        self._told = row_state.joined(self._told, party.told) if self._parties else party.told
        party.told = {}
        self._parties.append(party)

    def leave(self) -> list[Left]:
        """Take leave of the rows that have ended, if they are enough for it to pay."""
        ended = [party.ended for party in self._parties]
        if not self._parties or not self._enough(torch.cat(ended).tolist()):
            return []
        staying = (~torch.cat(ended)).nonzero()[:, 0]
        left = [(party, party.part(theirs)) for party, theirs in zip(self._parties, ended, strict=True)]
        self._parties = [party for party in self._parties if len(party)]
        if self._parties:
            self._told = row_state.kept(self._told, staying)
            for cache in row_state.caches(self._told):
                cache.reorder_cache(staying)
            if self.open:
                self._told = row_state.trimmed(self._told)
        return [(party, rows) for party, rows in left if rows]

    def go_on(self) -> None:
        """Write everybody's next token."""
        with self._model._optimize_model_for_decode():
            outputs = self._model(**self._next(), return_dict=True)
        self._told = told_next(self._model, outputs, self._told)
        scores = outputs.logits[:, -1].split([len(party) for party in self._parties])
        for party, logits in zip(self._parties, scores, strict=True):
            party.choose(logits)

    def _enough(self, ended: list[bool]) -> bool:
        """A whole party is: so nothing ever gets longer than the longest of its rows."""
        bounds = [0, *accumulate(len(party) for party in self._parties)]
        whole = any(all(ended[start:end]) for start, end in pairwise(bounds))
        return whole or sum(ended) * ONE_IN >= len(ended)

    def _next(self) -> dict[str, Any]:
        """What the model is told for the next token."""
        [first, *others] = self._parties
        ids = torch.cat([party.ids[:, -1:] for party in self._parties]) if others else first.ids
        inputs: dict[str, Any] = self._model.prepare_inputs_for_generation(ids, next_sequence_length=1, **self._told)
        return inputs


def told_next(model: Any, outputs: Any, told: dict[str, Any]) -> dict[str, Any]:
    """What a model is told for the next token, by what it was told before and its outputs."""
    encodes = model.config.is_encoder_decoder
    following: dict[str, Any] = model._update_model_kwargs_for_generation(outputs, told, is_encoder_decoder=encodes)
    return following
