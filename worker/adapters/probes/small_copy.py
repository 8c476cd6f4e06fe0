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
MAX_LENGTHS = {
    "original_max_position_embeddings": 16,
    "sliding_window": 8,
    "attention_window": 8,
    "attention_window_size": 8,
    "local_attention": 8,
    "window_size": 8,
    "local_radius": 4,
    "global_block_size": 4,
    "block_size": 4,
    "chunk_size": 8,
    "mamba_chunk_size": 8,
    "attention_chunk_size": 8,
    "lsh_attn_chunk_length": 8,
    "local_attn_chunk_length": 8,
    "expert_capacity": 3,
    "local_transformer_stride": 8,
    "index_topk": 8,
    "num_random_blocks": 1,
    "entity_vocab_size": 8,
}

# How many layers of one kind follow each other, and which is the first of the other kind.
MAX_PERIODS = {
    "attn_layer_period": 2,
    "attn_layer_offset": 1,
    "expert_layer_period": 2,
    "expert_layer_offset": 1,
    "global_attn_every_n_layers": 2,
    "full_attention_interval": 2,
    "sliding_window_pattern": 2,
    "encoder_sparse_step": 2,
    "decoder_sparse_step": 2,
    "first_k_dense_replace": 1,
    "no_rope_layer_interval": 2,
}

LAYER_COUNT_KEYS = (
    "num_hidden_layers",
    "n_layer",
    "n_layers",
    "num_layers",
    "encoder_layers",
    "decoder_layers",
    "num_encoder_layers",
    "num_decoder_layers",
    "num_blocks",
)
HEAD_COUNT_KEYS = (
    "num_attention_heads",
    "n_head",
    "n_heads",
    "num_heads",
    "encoder_attention_heads",
    "decoder_attention_heads",
    "num_encoder_attention_heads",
    "num_decoder_attention_heads",
    "attention_heads",
)
KEY_VALUE_HEAD_KEYS = ("num_key_value_heads", "num_kv_heads")
STATE_HEAD_KEYS = ("mamba_n_heads", "n_mamba_heads", "mamba_num_heads", "mamba_d_ssm")
MAX_GROUPS = {
    "n_groups": 1,
    "mamba_n_groups": 1,
    "mamba_ngroups": 1,
    "linear_num_key_heads": 1,
    "linear_num_value_heads": 2,
}
WIDTH_KEYS = ("hidden_size", "n_embd", "d_model", "dim", "emb_dim")
INNER_WIDTH_KEYS = (
    "intermediate_size",
    "n_inner",
    "d_ff",
    "ffn_dim",
    "encoder_ffn_dim",
    "decoder_ffn_dim",
    "moe_intermediate_size",
    "shared_expert_intermediate_size",
    "hidden_dim",
    "d_inner",
    "ffn_hidden_size",
    "feed_forward_size",
    "intermediate_size_mlp",
)
EXPERT_COUNT_KEYS = ("num_experts", "num_local_experts", "n_routed_experts")

MAX_VOCABULARY_SIZE = 320
MAX_INNER_WIDTH = 64
HEADLESS_WIDTH = 64  # a model without heads
WIDTH_MULTIPLE = 16  # what some products of experts want widths to be a multiple of
WIDTH_SUFFIXES = ("_size", "_dim", "_width")
SMALL_ENOUGH_WIDTH = 128  # a model of this width is small as it is
MAX_WEIGHTS = 30_000_000  # weights that a copy may have


def small_copies(model: Any, *, exceeds_positions: bool = False) -> Iterator[Any]:
    """Copies of a model for a trial in float32 on the CPU, the smallest first, each with all its kinds of layers.

    The first that can be run at all will do. past_positions: let the longest text that the model is made for be a few
    tokens, too.
    """
    kinds = _layer_classes(model)
    for config in _shrunk_configs(model, exceeds_positions=exceeds_positions):
        try:
            with torch.device("meta"):
                drawn = _make_model(model, config)
            if _layer_classes(drawn) != kinds or sum(weight.numel() for weight in drawn.parameters()) > MAX_WEIGHTS:
                continue
            made = _randomize_weights(_make_model(model, config))
        except Exception:  # noqa: S112  # whatever a configuration says to numbers that do not fit each other
            continue
        yield made


def _shrunk_configs(model: Any, *, exceeds_positions: bool) -> Iterator[Any]:
    """Smaller and smaller ideas of what may be left out, the smallest copy first."""
    told = model.config.to_dict()
    for heads in (2, 4, None):
        for layers in (2, 3, 4, 6, 8, 12, 16, None):
            smaller = _shrink_config(told, layers, heads)
            if exceeds_positions and "max_position_embeddings" in smaller:
                smaller["max_position_embeddings"] = MAX_LENGTHS["original_max_position_embeddings"]
            try:
                yield type(model.config).from_dict(smaller)
            except Exception:  # noqa: S112  # as above
                continue


def _shrink_config(config: Mapping[str, Any], max_layers: int | None, max_heads: int | None) -> dict[str, Any]:
    """A configuration of so many layers and heads; None leaves them as they are."""
    whole = {name: value for name, value in config.items() if name != "quantization_config"}
    smaller = {name: _shrink_value(name, value, max_layers, max_heads) for name, value in whole.items()}
    for name, value in {**MAX_LENGTHS, **MAX_PERIODS}.items():
        smaller.update({name: _cap(smaller[name], value)} if smaller.get(name) else {})
    _cap_layers(smaller, config, max_layers)
    if max_heads is not None and _hidden_width(config) > SMALL_ENOUGH_WIDTH:
        _cap_widths(smaller, config, max_heads)
    if config.get("vocab_size"):
        _cap_vocabulary(smaller)
    return smaller


def _shrink_value(name: str, value: Any, max_layers: int | None, max_heads: int | None) -> Any:
    """Configurations within a configuration are made smaller, too."""
    if isinstance(value, Mapping) and name not in ("id2label", "label2id"):
        return _shrink_config(value, max_layers, max_heads)
    return copy.deepcopy(value)


def _cap(value: Any, maximum: int) -> Any:
    """A number, or a list of numbers, of at most so much."""
    if isinstance(value, list):
        return [_cap(each, maximum) for each in value]
    return min(value, maximum) if isinstance(value, int) and not isinstance(value, bool) else value


def _cap_layers(shrunk: dict[str, Any], config: Mapping[str, Any], max_layers: int | None) -> None:
    """So many layers, with what is said of each of them."""
    if max_layers is None:
        return
    counts = {config[name] for name in LAYER_COUNT_KEYS if isinstance(config.get(name), int)}
    for name in LAYER_COUNT_KEYS:
        if isinstance(config.get(name), int):
            shrunk[name] = min(config[name], max_layers)
    for name, value in shrunk.items():
        if not isinstance(value, list):
            continue
        if len(value) in counts and len(value) > max_layers:
            shrunk[name] = _keep_each_kind(value, max_layers)
        elif "layer" in name and "types" not in name and value and all(isinstance(each, int) for each in value):
            # Places of layers of one kind: the last of the copy's, at least.
            shrunk[name] = [place for place in value if place < max_layers] or [max_layers - 1]


def _keep_each_kind(kinds: list[Any], count: int) -> list[Any]:
    """As many of a list as there are layers left, with each kind in it where there is room."""
    seen: list[Any] = []
    for kind in kinds:
        if kind not in seen:
            seen.append(kind)
    return (seen + kinds)[:count] if len(seen) <= count else kinds[:count]


def _cap_widths(shrunk: dict[str, Any], config: Mapping[str, Any], max_heads: int) -> None:
    """So many heads, each as wide as it was, and what is as wide as all of them together."""
    heads = next((config[name] for name in HEAD_COUNT_KEYS if config.get(name)), None)
    was = _hidden_width(config)
    width = HEADLESS_WIDTH if heads is None else max_heads * -(-was // heads)
    width = -(-width // WIDTH_MULTIPLE) * WIDTH_MULTIPLE if config.get("head_dim") else width
    most = {
        **dict.fromkeys(HEAD_COUNT_KEYS, max_heads),
        **dict.fromkeys(INNER_WIDTH_KEYS, MAX_INNER_WIDTH),
        **MAX_GROUPS,
        **{name: 1 if config.get(name) != heads else max_heads for name in KEY_VALUE_HEAD_KEYS},
        **dict.fromkeys(EXPERT_COUNT_KEYS, max(4, 2 * (config.get("num_experts_per_tok") or 1))),
    }
    for name, value in config.items():
        if not isinstance(value, int) or isinstance(value, bool):
            continue
        if name in most:
            shrunk[name] = min(value, most[name])
        elif name in (*WIDTH_KEYS, *STATE_HEAD_KEYS) or (value in (was, 2 * was) and name.endswith(WIDTH_SUFFIXES)):
            shrunk[name] = max(1, value * width // was)


def _hidden_width(config: Mapping[str, Any]) -> int:
    return next((config[name] for name in WIDTH_KEYS if isinstance(config.get(name), int)), 0)


def _cap_vocabulary(shrunk: dict[str, Any]) -> None:
    words = shrunk["vocab_size"] = min(shrunk["vocab_size"], MAX_VOCABULARY_SIZE)
    for name, value in shrunk.items():
        if name.endswith("_token_id") and isinstance(value, int) and value >= words:
            shrunk[name] = words - 1


def _make_model(model: Any, config: Any) -> Any:
    attention = model.config._attn_implementation
    usual = attention if attention in ("eager", "sdpa") else None
    return type(model)._from_config(copy.deepcopy(config), dtype=torch.float32, attn_implementation=usual).eval()


def _randomize_weights(model: Any) -> Any:
    """The model with weights so wide that other texts, and other places in them, get clearly other scores."""
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1 and weight.is_floating_point():
                weight.normal_(0.0, 1.5 * weight[0].numel() ** -0.5)
    return model


def _layer_classes(model: Any) -> set[str]:
    """The classes that a model is made of, but for what stands in a linear layer's place where it is quantized."""
    names = {type(module).__name__ for module in model.modules()}
    return {name for name in names if not name.startswith(("Linear", "Int8Linear", "OneDnnLinear", "Dynamic"))}
