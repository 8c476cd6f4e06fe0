"""The loop: many rows are written token by token, and those that have ended leave.

The loop inside `generate` computes every row until the last one has ended. But it can be told to prepare a run and hand
it over (`custom_generate`). Here it goes on with transformers' own parts, and in ever smaller company.
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer, EncoderDecoderCache
from transformers.generation import GenerationMode, logits_process, stopping_criteria

# Rows leave as soon as one in so many has ended. Caches are copied for it; but that happens with every token anyway.
ONE_IN = 8

# What fills a row up behind its end: no token.
NOTHING = -1

# Those of transformers' processors and criteria, of all that can be asked for or stand in a generation config, which
# look at each row by itself. What they remember of it is how much padding it has, if anything.
BY_THEMSELVES = frozenset(
    getattr(module, name)
    for module, names in {
        logits_process: (
            "ExponentialDecayLengthPenalty", "ForcedBOSTokenLogitsProcessor", "ForcedEOSTokenLogitsProcessor",
            "InfNanRemoveLogitsProcessor", "LogitNormalization", "MinLengthLogitsProcessor",
            "MinNewTokensLengthLogitsProcessor", "NoBadWordsLogitsProcessor", "NoRepeatNGramLogitsProcessor",
            "RepetitionPenaltyLogitsProcessor", "SequenceBiasLogitsProcessor",
            "SuppressTokensAtBeginLogitsProcessor", "SuppressTokensLogitsProcessor",
        ),
        stopping_criteria: ("EosTokenCriteria", "MaxLengthCriteria", "MaxTimeCriteria", "StopStringCriteria"),
    }.items()
    for name in names
)  # fmt: skip

PADDING = "prompt_ignore_length"

# Keys and values of one row beside those of the next, and nothing else.
LAYERS = frozenset({DynamicLayer, DynamicSlidingWindowLayer})

# What a model may be told of each row beside its tokens, `(rows, width)`.
OF_ROWS = frozenset({"attention_mask", "decoder_attention_mask", "position_ids", "token_type_ids"})


class ByRow(ABC):
    """A processor or criterion of ours that tells rows apart."""

    @abstractmethod
    def keep(self, places: torch.Tensor) -> None:
        """From now on it gets the rows that are now at these places, int64 `(rows,)`, in this order."""


def serves(config: GenerationConfig) -> bool:
    """Whether a run with this config may be handed over: where the likeliest token is taken, one after the other."""
    plain = config.cache_implementation in (None, "dynamic") and not config.token_healing
    return plain and config.get_generation_mode() == GenerationMode.GREEDY_SEARCH


def write(
    model: Any, input_ids: torch.Tensor, logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList, generation_config: GenerationConfig, **told: Any,
) -> torch.Tensor:  # fmt: skip
    """Token ids `(rows, longest)`: what the rows began with, and what was written, up to each row's end.

    Behind that stands NOTHING; or a padding token where rows can't leave this model, which is left to transformers.
    """
    if not _may_leave(told, [*logits_processor, *stopping_criteria]):
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
        longest = max(len(ids) for ids in self._left.values())
        rows = [self._left[row] + [NOTHING] * (longest - len(self._left[row])) for row in sorted(self._left)]
        return torch.tensor(rows)

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
        self._told = {name: _kept(name, what, staying) for name, what in self._told.items()}
        for each in (*self._processors, *self._criteria):
            if isinstance(each, ByRow):
                each.keep(staying)
            elif isinstance(padding := getattr(each, PADDING, None), torch.Tensor):
                setattr(each, PADDING, padding[staying])


def _may_leave(told: dict[str, Any], company: list[Any]) -> bool:
    cache: Any = told.get("past_key_values")
    caches = (
        (cache.self_attention_cache, cache.cross_attention_cache) if type(cache) is EncoderDecoderCache else (cache,)
    )
    return (
        bool(told.get("use_cache"))
        and all(type(each) is DynamicCache and {type(layer) for layer in each.layers} <= LAYERS for each in caches)
        and all(type(each) in BY_THEMSELVES or isinstance(each, ByRow) for each in company)
        and all(_selectable(name, what) for name, what in told.items())
    )


def _selectable(name: str, what: Any) -> bool:
    if name == "encoder_outputs":
        return all(isinstance(each, torch.Tensor) for each in what.values())
    if name in OF_ROWS:
        return what is None or what.dim() == 2
    return name == "past_key_values" or what is None or isinstance(what, bool | int | float)


def _kept(name: str, what: Any, places: torch.Tensor) -> Any:
    if what is None:
        return None
    if name == "past_key_values":
        what.reorder_cache(places)
        return what
    if name == "encoder_outputs":
        return type(what)(**{part: tensor.index_select(0, places) for part, tensor in what.items()})
    return what.index_select(0, places) if name in OF_ROWS else what
