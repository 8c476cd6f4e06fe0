"""Small copies of a model, with the same kinds of layers and few random weights, that probes run on long texts.

A model of billions of weights can't read thousands of tokens while it is loaded. Its layer classes and configuration,
not its weights, decide whether an answer depends on the text's length or on other texts. A copy therefore keeps the
classes, and reduces every length at which the model changes its behaviour to a few tokens.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from worker.adapters.probes.probe_scores import reraise_machine_problem

# Lengths in tokens at which a model changes its behaviour, and their values in the copy.
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

# Periods and offsets with which kinds of layers alternate.
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
HEADLESS_WIDTH = 64  # of a model without attention heads
WIDTH_MULTIPLE = 16  # some kernels of expert layers need widths that are a multiple of this
WIDTH_SUFFIXES = ("_size", "_dim", "_width")
SMALL_ENOUGH_WIDTH = 128  # models up to this width keep it
MAX_WEIGHTS = 30_000_000  # of a copy

ADDED_HEAD = "embedding_head"  # the part of a model that its own class does not make
ADAPTER_MARK = ".lora_"  # in the paths of an adapter's parts, which compute each position for itself


def small_copies(model: Any, *, exceeds_positions: bool = False) -> Iterator[Any]:
    """Copies of a model in float32 on the CPU, the smallest first, each with all of the model's layer classes.

    exceeds_positions: also reduce the longest text that the model is made for to a few tokens.
    """
    classes = _layer_classes(model)
    for config in _shrunk_configs(model, exceeds_positions=exceeds_positions):
        try:
            with torch.device("meta"):
                outline = _make_model(model, config)
            if _layer_classes(outline) != classes or sum(map(torch.numel, outline.parameters())) > MAX_WEIGHTS:
                continue
            small_copy = _randomize_weights(_make_model(model, config))
        except Exception as error:  # a configuration whose numbers don't fit each other may raise anything
            reraise_machine_problem(error)
            continue
        yield small_copy


def _shrunk_configs(model: Any, *, exceeds_positions: bool) -> Iterator[Any]:
    full = model.config.to_dict()
    for heads in (2, 4, None):
        for layers in (2, 3, 4, 6, 8, 12, 16, None):
            shrunk = _shrink_config(full, layers, heads)
            if exceeds_positions and "max_position_embeddings" in shrunk:
                shrunk["max_position_embeddings"] = MAX_LENGTHS["original_max_position_embeddings"]
            try:
                yield type(model.config).from_dict(shrunk)
            except Exception as error:  # as above
                reraise_machine_problem(error)
                continue


def _shrink_config(config: Mapping[str, Any], max_layers: int | None, max_heads: int | None) -> dict[str, Any]:
    """A configuration with at most these numbers of layers and heads, None = unchanged."""
    values = {name: value for name, value in config.items() if name != "quantization_config"}
    shrunk = {name: _shrink_value(name, value, max_layers, max_heads) for name, value in values.items()}
    for name, maximum in {**MAX_LENGTHS, **MAX_PERIODS}.items():
        if shrunk.get(name):
            shrunk[name] = _cap(shrunk[name], maximum)
    _cap_layers(shrunk, config, max_layers)
    if max_heads is not None and _hidden_width(config) > SMALL_ENOUGH_WIDTH:
        _cap_widths(shrunk, config, max_heads)
    if config.get("vocab_size"):
        _cap_vocabulary(shrunk)
    return shrunk


def _shrink_value(name: str, value: Any, max_layers: int | None, max_heads: int | None) -> Any:
    """A copy of the value; a nested configuration is shrunk as well."""
    if isinstance(value, Mapping) and name not in ("id2label", "label2id"):
        return _shrink_config(value, max_layers, max_heads)
    return copy.deepcopy(value)


def _cap(value: Any, maximum: int) -> Any:
    """A number, or each number of a list, limited to the maximum."""
    if isinstance(value, list):
        return [_cap(item, maximum) for item in value]
    return min(value, maximum) if isinstance(value, int) and not isinstance(value, bool) else value


def _cap_layers(shrunk: dict[str, Any], config: Mapping[str, Any], max_layers: int | None) -> None:
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
        elif "layer" in name and "types" not in name and value and all(isinstance(index, int) for index in value):
            # Indices of the layers of one kind: the copy has at least one of them.
            shrunk[name] = [index for index in value if index < max_layers] or [max_layers - 1]


def _keep_each_kind(kinds: list[Any], count: int) -> list[Any]:
    """The first entries of the list, with every distinct kind among them if there is room."""
    distinct: list[Any] = []
    for kind in kinds:  # kinds need not be hashable
        if kind not in distinct:
            distinct.append(kind)
    return (distinct + kinds)[:count] if len(distinct) <= count else kinds[:count]


def _cap_widths(shrunk: dict[str, Any], config: Mapping[str, Any], max_heads: int) -> None:
    """Limit the number of heads, each as wide as before, and scale the widths that depend on their number."""
    heads = next((config[name] for name in HEAD_COUNT_KEYS if config.get(name)), None)
    full_width = _hidden_width(config)
    scaled_widths = (full_width, 2 * full_width)
    width = HEADLESS_WIDTH if heads is None else max_heads * -(-full_width // heads)
    width = -(-width // WIDTH_MULTIPLE) * WIDTH_MULTIPLE if config.get("head_dim") else width
    maxima = {
        **dict.fromkeys(HEAD_COUNT_KEYS, max_heads),
        **dict.fromkeys(INNER_WIDTH_KEYS, MAX_INNER_WIDTH),
        **MAX_GROUPS,
        **{name: 1 if config.get(name) != heads else max_heads for name in KEY_VALUE_HEAD_KEYS},
        **dict.fromkeys(EXPERT_COUNT_KEYS, max(4, 2 * (config.get("num_experts_per_tok") or 1))),
    }
    for name, value in config.items():
        if not isinstance(value, int) or isinstance(value, bool):
            continue
        if name in maxima:
            shrunk[name] = min(value, maxima[name])
        elif name in (*WIDTH_KEYS, *STATE_HEAD_KEYS) or (value in scaled_widths and name.endswith(WIDTH_SUFFIXES)):
            shrunk[name] = max(1, value * width // full_width)


def _hidden_width(config: Mapping[str, Any]) -> int:
    return next((config[name] for name in WIDTH_KEYS if isinstance(config.get(name), int)), 0)


def _cap_vocabulary(shrunk: dict[str, Any]) -> None:
    size = shrunk["vocab_size"] = min(shrunk["vocab_size"], MAX_VOCABULARY_SIZE)
    for name, value in shrunk.items():
        if name.endswith("_token_id") and isinstance(value, int) and value >= size:
            shrunk[name] = size - 1


def _make_model(model: Any, config: Any) -> Any:
    attention = model.config._attn_implementation
    attention = attention if attention in ("eager", "sdpa") else None
    return type(model)._from_config(copy.deepcopy(config), dtype=torch.float32, attn_implementation=attention).eval()


def _randomize_weights(model: Any) -> Any:
    """Draw weights so wide that different texts, and different positions, get clearly different scores."""
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1 and weight.is_floating_point():
                weight.normal_(0.0, 1.5 * weight[0].numel() ** -0.5)
    return model


def _layer_classes(model: Any) -> set[str]:
    """The classes of a model's modules, except linear layers and what replaces them to quantize or to be faster."""
    names = {
        type(module).__name__
        for path, module in model.named_modules()
        if not path.startswith(ADDED_HEAD) and ADAPTER_MARK not in path
    }
    return {name for name in names if not name.startswith(("Linear", "Conv1D", "Int8Linear", "OneDnn", "Dynamic"))}
