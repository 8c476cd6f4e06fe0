"""The state that a run of `generate` keeps per row, and how rows are removed from it and merged into it."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import GenerationMixin
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer, EncoderDecoderCache
from transformers.generation import logits_process, stopping_criteria

# The processors and criteria of transformers, among those that a request or a generation config can ask for, that
# treat each row separately. They remember nothing about a row except the length of its padding.
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

NO_TOKEN = -1  # fills a row up after its end

PADDING_LENGTH_ATTRIBUTE = "prompt_ignore_length"

# Cache layers that hold the keys and values of each row, and nothing else.
SUPPORTED_CACHE_LAYERS = frozenset({DynamicLayer, DynamicSlidingWindowLayer})

# Keyword arguments of a model with one value per token, `(rows, width)`.
PER_ROW_KWARGS = frozenset({"attention_mask", "decoder_attention_mask", "position_ids", "token_type_ids"})


class RowAware(ABC):
    """A processor or stopping criterion that keeps state per row."""

    @abstractmethod
    def select_rows(self, row_indices: torch.Tensor) -> None:
        """Keep only the rows at these indices, int64 `(rows,)`, in this order."""


def supports_row_removal(model_kwargs: Mapping[str, Any], processors: Iterable[Any]) -> bool:
    """Whether rows can be removed from a model's keyword arguments, its processors and its criteria."""
    return (
        bool(model_kwargs.get("use_cache"))
        and all(
            type(cache) is DynamicCache and {type(layer) for layer in cache.layers} <= SUPPORTED_CACHE_LAYERS
            for cache in caches(model_kwargs)
        )
        and all(type(processor) in ROW_INDEPENDENT or isinstance(processor, RowAware) for processor in processors)
        and all(_is_selectable(name, value) for name, value in model_kwargs.items())
    )


def supports_merge(model: Any, model_kwargs: Mapping[str, Any]) -> bool:
    """Whether rows of another run of the model can be merged with these, whatever their width."""
    [cache, *others] = caches(model_kwargs)
    layers = getattr(cache, "layers", ())
    return (
        not others
        and {type(layer) for layer in layers} == {DynamicLayer}
        # An overridden method may look at tokens before the last.
        and type(model).prepare_inputs_for_generation is GenerationMixin.prepare_inputs_for_generation
        and model_kwargs.get("position_ids") is not None
        and all(model_kwargs.get(name) is None for name in PER_ROW_KWARGS - {"attention_mask", "position_ids"})
    )


def next_model_kwargs(model: Any, outputs: Any, model_kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments for the next token, from the current ones and the model's outputs."""
    kwargs: dict[str, Any] = model._update_model_kwargs_for_generation(
        outputs, model_kwargs, is_encoder_decoder=model.config.is_encoder_decoder
    )
    return kwargs


def decode_inputs(model: Any, ids: torch.Tensor, model_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs of the forward pass for the next token after `ids`, `(rows, tokens)`."""
    inputs: dict[str, Any] = model.prepare_inputs_for_generation(ids, next_sequence_length=1, **model_kwargs)
    return inputs


def caches(model_kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the decoder's cache, followed by the cross-attention cache where there is an encoder."""
    cache: Any = model_kwargs.get("past_key_values")
    if type(cache) is EncoderDecoderCache:
        return cache.self_attention_cache, cache.cross_attention_cache
    return (cache,)


def select_rows(model_kwargs: Mapping[str, Any], row_indices: torch.Tensor) -> dict[str, Any]:
    """Return the keyword arguments of the rows at these indices, int64 `(rows,)`; caches stay as they are."""
    return {name: _select_value_rows(name, value, row_indices) for name, value in model_kwargs.items()}


def merge_rows(model_kwargs: Mapping[str, Any], other_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of two runs as one, aligned so that the newest tokens share a column."""
    cache, other_cache = caches(model_kwargs)[0], caches(other_kwargs)[0]
    merged = {
        "attention_mask": _concat_left_padded(_attention_mask(model_kwargs), _attention_mask(other_kwargs)),
        "position_ids": _concat_left_padded(model_kwargs["position_ids"], other_kwargs["position_ids"]),
    }
    for layer, other in zip(cache.layers, other_cache.layers, strict=True):
        if not layer.is_initialized:
            continue  # it reads the cache of another layer
        layer.keys = _concat_left_padded(layer.keys, other.keys, dim=-2)
        layer.values = _concat_left_padded(layer.values, other.values, dim=-2)
        other.reset()
    return {**model_kwargs, **merged}


def trim_left_padding(model_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments without columns that are padding in every row. Requires a single cache."""
    mask = model_kwargs.get("attention_mask")
    if mask is None or (unused := int(mask.argmax(dim=1).min())) == 0:
        return dict(model_kwargs)
    for layer in caches(model_kwargs)[0].layers:
        if layer.is_initialized:
            layer.keys, layer.values = layer.keys[..., unused:, :], layer.values[..., unused:, :]
    return {**model_kwargs, **{name: model_kwargs[name][:, unused:] for name in ("attention_mask", "position_ids")}}


def select_processor_rows(processors: Iterable[Any], row_indices: torch.Tensor) -> None:
    """Keep only the rows at these indices in the state of processors or criteria."""
    for processor in processors:
        if isinstance(processor, RowAware):
            processor.select_rows(row_indices)
        elif isinstance(padding := getattr(processor, PADDING_LENGTH_ATTRIBUTE, None), torch.Tensor):
            setattr(processor, PADDING_LENGTH_ATTRIBUTE, padding[row_indices])


def pad_rows(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return token ids as int64 `(rows, width)`, filled up with NO_TOKEN."""
    width = max(len(ids) for ids in rows)
    return torch.tensor([[*ids, *[NO_TOKEN] * (width - len(ids))] for ids in rows])


def _attention_mask(model_kwargs: Mapping[str, Any]) -> torch.Tensor:
    """Return the mask, which transformers leaves out where no row has padding."""
    mask: torch.Tensor | None = model_kwargs.get("attention_mask")
    return torch.ones_like(model_kwargs["position_ids"]) if mask is None else mask


def _concat_left_padded(tensor: torch.Tensor, other: torch.Tensor, dim: int = -1) -> torch.Tensor:
    """Concatenate rows, zero-padded in front to the same size in `dim`, which is -1 or -2."""
    width = max(tensor.shape[dim], other.shape[dim])
    dims_after = [0, 0] * (-1 - dim)
    return torch.cat([pad(part, [*dims_after, width - part.shape[dim], 0]) for part in (tensor, other)])


def _is_selectable(name: str, value: Any) -> bool:
    if name == "encoder_outputs":
        return all(isinstance(tensor, torch.Tensor) for tensor in value.values())
    if name in PER_ROW_KWARGS:
        return value is None or value.dim() == 2
    return name == "past_key_values" or value is None or isinstance(value, bool | int | float)


def _select_value_rows(name: str, value: Any, row_indices: torch.Tensor) -> Any:
    if value is None:
        return None
    if name == "encoder_outputs":  # of a model that is spread over several GPUs, they may be on another one
        parts = {part: tensor.index_select(0, row_indices.to(tensor.device)) for part, tensor in value.items()}
        return type(value)(**parts)
    return value.index_select(0, row_indices) if name in PER_ROW_KWARGS else value
