"""Small copy: a model of the same kinds of layers as another, of a few random weights, to be tried on long texts.

A model of billions of weights can't read thousands of tokens while it is loaded. What makes its answers depend on a
text's length or on other texts lies in the kinds of its layers and in its configuration, not in its weights. So the
copy keeps the kinds and lets every length at which something changes be a few tokens.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch

# Lengths in tokens at which a model changes what it does, and what they are in the copy.
LENGTHS = {
    "original_max_position_embeddings": 16, "sliding_window": 8, "attention_window": 8, "attention_window_size": 8,
    "local_attention": 8, "window_size": 8, "local_radius": 4, "global_block_size": 4, "block_size": 4,
    "chunk_size": 8, "mamba_chunk_size": 8, "attention_chunk_size": 8, "lsh_attn_chunk_length": 8,
    "local_attn_chunk_length": 8, "expert_capacity": 3, "local_transformer_stride": 8, "index_topk": 8,
    "num_random_blocks": 1, "entity_vocab_size": 8,
}  # fmt: skip

# How many layers of one kind follow each other, and which is the first of the other kind.
PERIODS = {
    "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1,
    "global_attn_every_n_layers": 2, "full_attention_interval": 2, "sliding_window_pattern": 2,
    "encoder_sparse_step": 2, "decoder_sparse_step": 2, "first_k_dense_replace": 1, "no_rope_layer_interval": 2,
}  # fmt: skip

LAYERS = (
    "num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers", "num_encoder_layers",
    "num_decoder_layers", "num_blocks",
)  # fmt: skip
HEADS = (
    "num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads", "decoder_attention_heads",
    "num_encoder_attention_heads", "num_decoder_attention_heads", "attention_heads",
)  # fmt: skip
KEY_HEADS = ("num_key_value_heads", "num_kv_heads")
STATE_HEADS = ("mamba_n_heads", "n_mamba_heads", "mamba_num_heads", "mamba_d_ssm")
GROUPS = {
    "n_groups": 1, "mamba_n_groups": 1, "mamba_ngroups": 1, "linear_num_key_heads": 1, "linear_num_value_heads": 2,
}  # fmt: skip
WIDTHS = ("hidden_size", "n_embd", "d_model", "dim", "emb_dim")
INNER_WIDTHS = (
    "intermediate_size", "n_inner", "d_ff", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "moe_intermediate_size",
    "shared_expert_intermediate_size", "hidden_dim", "d_inner", "ffn_hidden_size",
    "feed_forward_size", "intermediate_size_mlp",
)  # fmt: skip
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")

WORDS = 320
INNER = 64
NARROW = 64  # a model without heads
STEP = 16  # what some products of experts want widths to be a multiple of
WIDE = ("_size", "_dim", "_width")
ENOUGH = 128  # a model of this width is small as it is
SMALL = 30_000_000  # weights that a copy may have


def of(model: Any, *, past_positions: bool = False) -> Iterator[Any]:
    """Copies of a model for a trial in float32 on the CPU, the smallest first, each with all its kinds of layers.

    The first that can be run at all will do. past_positions: let the longest text that the model is made for be a few
    tokens, too.
    """
    kinds = _kinds(model)
    for config in _configs(model, past_positions=past_positions):
        try:
            with torch.device("meta"):
                drawn = _made(model, config)
            if _kinds(drawn) != kinds or sum(weight.numel() for weight in drawn.parameters()) > SMALL:
                continue
            made = _random(_made(model, config))
        except Exception:  # noqa: S112  # whatever a configuration says to numbers that do not fit each other
            continue
        yield made


def _configs(model: Any, *, past_positions: bool) -> Iterator[Any]:
    """Smaller and smaller ideas of what may be left out, the smallest copy first."""
    told = model.config.to_dict()
    for heads in (2, 4, None):
        for layers in (2, 3, 4, 6, 8, 12, 16, None):
            smaller = _smaller(told, layers, heads)
            if past_positions and "max_position_embeddings" in smaller:
                smaller["max_position_embeddings"] = LENGTHS["original_max_position_embeddings"]
            try:
                yield type(model.config).from_dict(smaller)
            except Exception:  # noqa: S112  # as above
                continue


def _smaller(told: Mapping[str, Any], layers: int | None, heads: int | None) -> dict[str, Any]:
    """A configuration of so many layers and heads; None leaves them as they are."""
    whole = {name: value for name, value in told.items() if name != "quantization_config"}
    smaller = {name: _value(name, value, layers, heads) for name, value in whole.items()}
    for name, value in {**LENGTHS, **PERIODS}.items():
        smaller.update({name: _least(smaller[name], value)} if smaller.get(name) else {})
    _cut_layers(smaller, told, layers)
    if heads is not None and _width(told) > ENOUGH:
        _narrow(smaller, told, heads)
    if told.get("vocab_size"):
        _fewer_words(smaller)
    return smaller


def _value(name: str, value: Any, layers: int | None, heads: int | None) -> Any:
    """Configurations within a configuration are made smaller, too."""
    if isinstance(value, Mapping) and name not in ("id2label", "label2id"):
        return _smaller(value, layers, heads)
    return copy.deepcopy(value)


def _least(value: Any, most: int) -> Any:
    """A number, or a list of numbers, of at most so much."""
    if isinstance(value, list):
        return [_least(each, most) for each in value]
    return min(value, most) if isinstance(value, int) and not isinstance(value, bool) else value


def _cut_layers(smaller: dict[str, Any], told: Mapping[str, Any], layers: int | None) -> None:
    """So many layers, with what is said of each of them."""
    if layers is None:
        return
    counts = {told[name] for name in LAYERS if isinstance(told.get(name), int)}
    for name in LAYERS:
        if isinstance(told.get(name), int):
            smaller[name] = min(told[name], layers)
    for name, value in smaller.items():
        if not isinstance(value, list):
            continue
        if len(value) in counts and len(value) > layers:
            smaller[name] = _first_of_each(value, layers)
        elif "layer" in name and "types" not in name and value and all(isinstance(each, int) for each in value):
            # Places of layers of one kind: the last of the copy's, at least.
            smaller[name] = [place for place in value if place < layers] or [layers - 1]


def _first_of_each(kinds: list[Any], count: int) -> list[Any]:
    """As many of a list as there are layers left, with each kind in it where there is room."""
    seen: list[Any] = []
    for kind in kinds:
        if kind not in seen:
            seen.append(kind)
    return (seen + kinds)[:count] if len(seen) <= count else kinds[:count]


def _narrow(smaller: dict[str, Any], told: Mapping[str, Any], count: int) -> None:
    """So many heads, each as wide as it was, and what is as wide as all of them together."""
    heads = next((told[name] for name in HEADS if told.get(name)), None)
    was = _width(told)
    width = NARROW if heads is None else count * -(-was // heads)
    width = -(-width // STEP) * STEP if told.get("head_dim") else width
    most = {
        **dict.fromkeys(HEADS, count), **dict.fromkeys(INNER_WIDTHS, INNER), **GROUPS,
        **{name: 1 if told.get(name) != heads else count for name in KEY_HEADS},
        **dict.fromkeys(EXPERTS, max(4, 2 * (told.get("num_experts_per_tok") or 1))),
    }  # fmt: skip
    for name, value in told.items():
        if not isinstance(value, int) or isinstance(value, bool):
            continue
        if name in most:
            smaller[name] = min(value, most[name])
        elif name in (*WIDTHS, *STATE_HEADS) or (value in (was, 2 * was) and name.endswith(WIDE)):
            smaller[name] = max(1, value * width // was)


def _width(told: Mapping[str, Any]) -> int:
    return next((told[name] for name in WIDTHS if isinstance(told.get(name), int)), 0)


def _fewer_words(smaller: dict[str, Any]) -> None:
    words = smaller["vocab_size"] = min(smaller["vocab_size"], WORDS)
    for name, value in smaller.items():
        if name.endswith("_token_id") and isinstance(value, int) and value >= words:
            smaller[name] = words - 1


def _made(model: Any, config: Any) -> Any:
    attention = model.config._attn_implementation
    usual = attention if attention in ("eager", "sdpa") else None
    return type(model)._from_config(copy.deepcopy(config), dtype=torch.float32, attn_implementation=usual).eval()


def _random(model: Any) -> Any:
    """The model with weights so wide that other texts, and other places in them, get clearly other scores."""
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1 and weight.is_floating_point():
                weight.normal_(0.0, 1.5 * weight[0].numel() ** -0.5)
    return model


def _kinds(model: Any) -> set[str]:
    """The classes that a model is made of, but for what stands in a linear layer's place where it is quantized."""
    names = {type(module).__name__ for module in model.modules()}
    return {name for name in names if not name.startswith(("Linear", "Int8Linear", "DnnLinear", "Dynamic"))}
