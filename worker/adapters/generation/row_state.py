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

# What fills a row up behind its end: no token.
NOTHING = -1

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


def may_leave(told: Mapping[str, Any], watching: Iterable[Any]) -> bool:
    """Whether rows can be taken out of all that a model is told, and of the processors and criteria that watch them."""
    return (
        bool(told.get("use_cache"))
        and all(
            type(each) is DynamicCache and {type(layer) for layer in each.layers} <= LAYERS for each in caches(told)
        )
        and all(type(each) in BY_THEMSELVES or isinstance(each, ByRow) for each in watching)
        and all(_selectable(name, what) for name, what in told.items())
    )


def may_join(model: Any, told: Mapping[str, Any]) -> bool:
    """Whether the rows of another run of the model can be put beside these, whatever their width."""
    [cache, *others] = caches(told)
    layers = getattr(cache, "layers", ())
    return (
        not others
        and {type(layer) for layer in layers} == {DynamicLayer}
        # One of its own may look at tokens that are not the last.
        and type(model).prepare_inputs_for_generation is GenerationMixin.prepare_inputs_for_generation
        and told.get("position_ids") is not None
        and all(told.get(name) is None for name in OF_ROWS - {"attention_mask", "position_ids"})
    )


def caches(told: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a model remembers: of its own tokens, and if there is an encoder of that."""
    cache: Any = told.get("past_key_values")
    if type(cache) is EncoderDecoderCache:
        return cache.self_attention_cache, cache.cross_attention_cache
    return (cache,)


def kept(told: Mapping[str, Any], places: torch.Tensor) -> dict[str, Any]:
    """What a model is told from now on, but for its caches, if only the rows at these places, int64 `(rows,)`, stay."""
    return {name: _kept(name, what, places) for name, what in told.items()}


def joined(told: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """What a model is told of two runs at once: the newest tokens of all rows stand in one column."""
    ours, theirs = caches(told)[0], caches(others)[0]
    both = {
        "attention_mask": _aligned(_mask(told), _mask(others)),
        "position_ids": _aligned(told["position_ids"], others["position_ids"]),
    }
    for layer, other in zip(ours.layers, theirs.layers, strict=True):
        if not layer.is_initialized:
            continue  # it reads another layer's
        layer.keys = _aligned(layer.keys, other.keys, dim=-2)
        layer.values = _aligned(layer.values, other.values, dim=-2)
        other.reset()
    return {**told, **both}


def trimmed(told: Mapping[str, Any]) -> dict[str, Any]:
    """What a model is told, without the columns in which no row has a token. There must be a cache of one kind."""
    mask = told.get("attention_mask")
    if mask is None or (spare := int(mask.argmax(dim=1).min())) == 0:
        return dict(told)
    for layer in caches(told)[0].layers:
        if layer.is_initialized:
            layer.keys, layer.values = layer.keys[..., spare:, :], layer.values[..., spare:, :]
    return {**told, **{name: told[name][:, spare:] for name in ("attention_mask", "position_ids")}}


def keep(watching: Iterable[Any], places: torch.Tensor) -> None:
    """Has processors or criteria know that only the rows at these places stay."""
    for each in watching:
        if isinstance(each, ByRow):
            each.keep(places)
        elif isinstance(padding := getattr(each, PADDING, None), torch.Tensor):
            setattr(each, PADDING, padding[places])


def filled(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """Token ids, int64 `(rows, longest)`."""
    longest = max(len(ids) for ids in rows)
    return torch.tensor([[*ids, *[NOTHING] * (longest - len(ids))] for ids in rows])


def _mask(told: Mapping[str, Any]) -> torch.Tensor:
    """There is none where no row has padding."""
    mask: torch.Tensor | None = told.get("attention_mask")
    return torch.ones_like(told["position_ids"]) if mask is None else mask


def _aligned(some: torch.Tensor, others: torch.Tensor, dim: int = -1) -> torch.Tensor:
    """All rows in one tensor, with zeros in front up to the same size in a dimension: the last, or the one before."""
    widest = max(some.shape[dim], others.shape[dim])
    after = [0, 0] * (-1 - dim)
    return torch.cat([pad(each, [*after, widest - each.shape[dim], 0]) for each in (some, others)])


def _selectable(name: str, what: Any) -> bool:
    if name == "encoder_outputs":
        return all(isinstance(each, torch.Tensor) for each in what.values())
    if name in OF_ROWS:
        return what is None or what.dim() == 2
    return name == "past_key_values" or what is None or isinstance(what, bool | int | float)


def _kept(name: str, what: Any, places: torch.Tensor) -> Any:
    if what is None:
        return None
    if name == "encoder_outputs":
        return type(what)(**{part: tensor.index_select(0, places) for part, tensor in what.items()})
    return what.index_select(0, places) if name in OF_ROWS else what
