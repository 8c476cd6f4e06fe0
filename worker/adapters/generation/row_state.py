"""Company: what a run of `generate` holds of each of its rows, and how rows are taken out of it and put in."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import GenerationMixin
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer, EncoderDecoderCache
from transformers.generation import logits_process, stopping_criteria

# Those of transformers' processors and criteria, of all that can be asked for or stand in a generation config, which
# look at each row by itself. What they remember of it is how much padding it has, if anything.
ROW_INDEPENDENT = frozenset(
    getattr(module, name)
    for module, names in {
        logits_process: (
            "ExponentialDecayLengthPenalty",
            "ForcedBOSTokenLogitsProcessor",
            "ForcedEOSTokenLogitsProcessor",
            "InfNanRemoveLogitsProcessor",
            "LogitNormalization",
            "MinLengthLogitsProcessor",
            "MinNewTokensLengthLogitsProcessor",
            "NoBadWordsLogitsProcessor",
            "NoRepeatNGramLogitsProcessor",
            "RepetitionPenaltyLogitsProcessor",
            "SequenceBiasLogitsProcessor",
            "SuppressTokensAtBeginLogitsProcessor",
            "SuppressTokensLogitsProcessor",
        ),
        stopping_criteria: ("EosTokenCriteria", "MaxLengthCriteria", "MaxTimeCriteria", "StopStringCriteria"),
    }.items()
    for name in names
)

# What fills a row up behind its end: no token.
NO_TOKEN = -1

PADDING_LENGTH_ATTRIBUTE = "prompt_ignore_length"

# Keys and values of one row beside those of the next, and nothing else.
SUPPORTED_CACHE_LAYERS = frozenset({DynamicLayer, DynamicSlidingWindowLayer})

# What a model may be told of each row beside its tokens, `(rows, width)`.
PER_ROW_KWARGS = frozenset({"attention_mask", "decoder_attention_mask", "position_ids", "token_type_ids"})


class RowAware(ABC):
    """A processor or criterion of ours that tells rows apart."""

    @abstractmethod
    def select_rows(self, row_indices: torch.Tensor) -> None:
        """From now on it gets the rows that are now at these places, int64 `(rows,)`, in this order."""


def supports_row_removal(model_kwargs: Mapping[str, Any], processors: Iterable[Any]) -> bool:
    """Whether rows can be taken out of all that a model is told, and of the processors and criteria that watch them."""
    return (
        bool(model_kwargs.get("use_cache"))
        and all(
            type(each) is DynamicCache and {type(layer) for layer in each.layers} <= SUPPORTED_CACHE_LAYERS
            for each in caches(model_kwargs)
        )
        and all(type(each) in ROW_INDEPENDENT or isinstance(each, RowAware) for each in processors)
        and all(_is_selectable(name, what) for name, what in model_kwargs.items())
    )


def supports_merge(model: Any, model_kwargs: Mapping[str, Any]) -> bool:
    """Whether the rows of another run of the model can be put beside these, whatever their width."""
    [cache, *others] = caches(model_kwargs)
    layers = getattr(cache, "layers", ())
    return (
        not others
        and {type(layer) for layer in layers} == {DynamicLayer}
        # One of its own may look at tokens that are not the last.
        and type(model).prepare_inputs_for_generation is GenerationMixin.prepare_inputs_for_generation
        and model_kwargs.get("position_ids") is not None
        and all(model_kwargs.get(name) is None for name in PER_ROW_KWARGS - {"attention_mask", "position_ids"})
    )


def caches(model_kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a model remembers: of its own tokens, and if there is an encoder of that."""
    cache: Any = model_kwargs.get("past_key_values")
    if type(cache) is EncoderDecoderCache:
        return cache.self_attention_cache, cache.cross_attention_cache
    return (cache,)


def select_rows(model_kwargs: Mapping[str, Any], row_indices: torch.Tensor) -> dict[str, Any]:
    """What a model is told from now on, but for its caches, if only the rows at these places, int64 `(rows,)`, stay."""
    return {name: _select_value_rows(name, what, row_indices) for name, what in model_kwargs.items()}


def merge_rows(model_kwargs: Mapping[str, Any], other_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """What a model is told of two runs at once: the newest tokens of all rows stand in one column."""
    ours, theirs = caches(model_kwargs)[0], caches(other_kwargs)[0]
    both = {
        "attention_mask": _concat_left_padded(_attention_mask(model_kwargs), _attention_mask(other_kwargs)),
        "position_ids": _concat_left_padded(model_kwargs["position_ids"], other_kwargs["position_ids"]),
    }
    for layer, other in zip(ours.layers, theirs.layers, strict=True):
        if not layer.is_initialized:
            continue  # it reads another layer's
        layer.keys = _concat_left_padded(layer.keys, other.keys, dim=-2)
        layer.values = _concat_left_padded(layer.values, other.values, dim=-2)
        other.reset()
    return {**model_kwargs, **both}


def trim_left_padding(model_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """What a model is told, without the columns in which no row has a token. There must be a cache of one kind."""
    mask = model_kwargs.get("attention_mask")
    if mask is None or (spare := int(mask.argmax(dim=1).min())) == 0:
        return dict(model_kwargs)
    for layer in caches(model_kwargs)[0].layers:
        if layer.is_initialized:
            layer.keys, layer.values = layer.keys[..., spare:, :], layer.values[..., spare:, :]
    return {**model_kwargs, **{name: model_kwargs[name][:, spare:] for name in ("attention_mask", "position_ids")}}


def select_processor_rows(processors: Iterable[Any], row_indices: torch.Tensor) -> None:
    """Has processors or criteria know that only the rows at these places stay."""
    for each in processors:
        if isinstance(each, RowAware):
            each.select_rows(row_indices)
        elif isinstance(padding := getattr(each, PADDING_LENGTH_ATTRIBUTE, None), torch.Tensor):
            setattr(each, PADDING_LENGTH_ATTRIBUTE, padding[row_indices])


def pad_rows(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """Token ids, int64 `(rows, longest)`."""
    longest = max(len(ids) for ids in rows)
    return torch.tensor([[*ids, *[NO_TOKEN] * (longest - len(ids))] for ids in rows])


def _attention_mask(model_kwargs: Mapping[str, Any]) -> torch.Tensor:
    """There is none where no row has padding."""
    mask: torch.Tensor | None = model_kwargs.get("attention_mask")
    return torch.ones_like(model_kwargs["position_ids"]) if mask is None else mask


def _concat_left_padded(tensor: torch.Tensor, other: torch.Tensor, dim: int = -1) -> torch.Tensor:
    """All rows in one tensor, with zeros in front up to the same size in a dimension: the last, or the one before."""
    widest = max(tensor.shape[dim], other.shape[dim])
    after = [0, 0] * (-1 - dim)
    return torch.cat([pad(each, [*after, widest - each.shape[dim], 0]) for each in (tensor, other)])


def _is_selectable(name: str, value: Any) -> bool:
    if name == "encoder_outputs":
        return all(isinstance(each, torch.Tensor) for each in value.values())
    if name in PER_ROW_KWARGS:
        return value is None or value.dim() == 2
    return name == "past_key_values" or value is None or isinstance(value, bool | int | float)


def _select_value_rows(name: str, value: Any, row_indices: torch.Tensor) -> Any:
    if value is None:
        return None
    if name == "encoder_outputs":
        return type(value)(**{part: tensor.index_select(0, row_indices) for part, tensor in value.items()})
    return value.index_select(0, row_indices) if name in PER_ROW_KWARGS else value
