"""The positions that a model's configuration allows, and whether they change with a text's length."""

from collections.abc import Iterator
from typing import Any

# Types of rotary positions that change with a text's length.
LENGTH_DEPENDENT_ROTARY = ("longrope", "dynamic")


def _rotary_settings(config: Any) -> Iterator[dict[str, Any]]:
    """The settings of rotary positions, for each kind of layer."""
    parameters = getattr(config.get_text_config(), "rope_parameters", None) or {}
    for settings in (parameters, *parameters.values()):
        if isinstance(settings, dict) and isinstance(settings.get("rope_type"), str):
            yield settings


def switch_length(config: Any) -> int | None:
    """The number of tokens beyond which a model's positions change; None if they never do."""
    text = config.get_text_config()
    lengths = [
        rotary.get("original_max_position_embeddings")
        or getattr(text, "original_max_position_embeddings", None)
        or text.max_position_embeddings
        for rotary in _rotary_settings(config)
        if rotary["rope_type"] in LENGTH_DEPENDENT_ROTARY
    ]
    return min(lengths, default=None)


def can_exceed_positions(config: Any, max_length: int | None) -> bool:
    """Whether texts may be longer than positions with dynamic scaling were trained for."""
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    dynamic = any(rotary["rope_type"] == "dynamic" for rotary in _rotary_settings(config))
    return dynamic and (max_length is None or positions is None or max_length > positions)


def has_sparse_attention(config: Any) -> bool:
    """Whether short texts are read with another attention than long ones."""
    return getattr(config, "attention_type", None) == "block_sparse"


def max_positions(config: Any) -> int:
    """How many tokens a copy can read; rotary positions set no limit."""
    text = config.get_text_config()
    names = ("max_encoder_position_embeddings", "max_position_embeddings", "n_positions", "max_seq_len")
    limit = next((size for name in names if isinstance(size := getattr(text, name, None), int) and size > 0), 10**6)
    return 10**6 if any(_rotary_settings(config)) else limit
