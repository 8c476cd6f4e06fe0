"""The loop: many rows are written token by token, and those that have ended leave.

The loop inside `generate` computes every row until the last one has ended. But it can be told to prepare a run and hand
it over (`custom_generate`). Here it goes on with transformers' own parts, and in ever smaller company.
"""

from collections.abc import Callable
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList
from transformers.generation import GenerationMode

from worker.adapters import beams, company

# Rows leave as soon as one in so many has ended. Caches are copied for it; but that happens with every token anyway.
ONE_IN = 8


def handed_over(config: GenerationConfig) -> Callable[..., torch.Tensor] | None:
    """Who goes on with a run that `generate` has prepared; None where that is left to transformers.

    Ours are the runs that take the likeliest token, one after the other, and those that follow the likeliest beams.
    """
    if config.cache_implementation not in (None, "dynamic") or config.token_healing or config.low_memory:
        return None
    ours = {GenerationMode.GREEDY_SEARCH: write, GenerationMode.BEAM_SEARCH: beams.write}
    return ours.get(config.get_generation_mode())


def write(
    model: Any, input_ids: torch.Tensor, logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList, generation_config: GenerationConfig, **told: Any,
) -> torch.Tensor:  # fmt: skip
    """Token ids `(rows, longest)`: what the rows began with, and what was written, up to each row's end.

    Behind that stands NOTHING; or a padding token where rows can't leave this model, which is left to transformers.
    """
    if not company.may_leave(told, [*logits_processor, *stopping_criteria]):
        return type(model)._sample(model, input_ids, logits_processor, stopping_criteria, generation_config, **told)
    filler = generation_config._pad_token_tensor
    crowd = Crowd(model, input_ids, logits_processor, stopping_criteria, told, 0 if filler is None else int(filler))
    outputs = model._prefill(input_ids, generation_config, told)
    with model._optimize_model_for_decode():
        while crowd.go_on(outputs):
            outputs = model(**crowd.next(), return_dict=True)
    return crowd.written()


class Crowd:
    """The rows of a run that have not left yet."""

    def __init__(
        self, model: Any, ids: torch.Tensor, processors: LogitsProcessorList, criteria: StoppingCriteriaList,
        told: dict[str, Any], filler: int,
    ) -> None:  # fmt: skip
        self._model = model
        self._ids = ids
        self._processors = processors
        self._criteria = criteria
        self._told = told
        self._filler = filler
        self._rows = list(range(len(ids)))
        self._lengths = ids.new_zeros(len(ids))  # at a row's end; 0 before
        self._left: dict[int, list[int]] = {}

    def go_on(self, outputs: Any) -> bool:
        """Give each row its next token by the model's outputs; false when the last one has ended."""
        encodes = self._model.config.is_encoder_decoder
        self._told = self._model._update_model_kwargs_for_generation(outputs, self._told, is_encoder_decoder=encodes)
        # A copy: the logits of a whole prompt may hang on it, and processors may write into it.
        scores = outputs.logits[:, -1].to(dtype=torch.float32, copy=True)
        tokens = self._processors(self._ids, scores).argmax(dim=-1).masked_fill(self._lengths > 0, self._filler)
        self._ids = torch.cat([self._ids, tokens[:, None]], dim=-1)
        now = self._criteria(self._ids, None) & (self._lengths == 0)
        self._lengths.masked_fill_(now, self._ids.shape[1])
        ended = self._lengths > 0
        count = int(ended.sum())
        if count and count * ONE_IN >= len(self._rows):
            self._leave(ended, last=count == len(self._rows))
        return bool(self._rows)

    def next(self) -> dict[str, Any]:
        """What the model is told for the next token."""
        inputs: dict[str, Any] = self._model.prepare_inputs_for_generation(
            self._ids, next_sequence_length=1, **self._told
        )
        return inputs

    def written(self) -> torch.Tensor:
        """All rows, in their first order, when they have left."""
        return company.filled([self._left[row] for row in sorted(self._left)])

    def _leave(self, ended: torch.Tensor, *, last: bool) -> None:
        going = ended.nonzero()[:, 0]
        for place, ids, length in zip(
            going.tolist(), self._ids[going].tolist(), self._lengths[going].tolist(), strict=True
        ):
            self._left[self._rows[place]] = ids[:length]
        if last:
            self._rows = []
            return
        staying = (~ended).nonzero()[:, 0]
        self._rows = [self._rows[place] for place in staying.tolist()]
        self._ids, self._lengths = self._ids[staying], self._lengths[staying]
        self._told = company.kept(self._told, staying)
        for cache in company.caches(self._told):
            cache.reorder_cache(staying)
        company.keep((*self._processors, *self._criteria), staying)
