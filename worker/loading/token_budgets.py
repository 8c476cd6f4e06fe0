"""The longest input of a loaded model, and its first and largest token budgets, by device and geometry. Pure.

A good budget to begin with saves the first jobs of a worker a search for one.
"""

from typing import Any

from models.errors import ModelError
from models.pipelines.pipeline import Pipeline
from worker.adapters.rows import MAX_MICRO_BATCH_TOKENS

# A large budget fills a GPU and hides the time in which its kernels are launched. The tokens of a base-sized encoder
# take far less than a gigabyte. Generation keeps its caches beside them.
GPU_TOKENS, GPU_GENERATION_TOKENS = 32_768, 16_384

# On a CPU the best budget is where each layer's widest output still fits into the caches. Processor time for a text of
# 55 tokens, in milliseconds, on two cores with AVX-512 at 512, 1,024, 2,048 and 4,096 tokens: 0.67, 0.49, 0.43 and 0.36
# with layers of 512, 7.9, 7.1, 6.9 and 7.3 with 1,536, 22.6, 21.6, 21.5 and 23.1 with 3,072; with 4,096 it was 25.4,
# 23.2 and 23.7. Where MKL multiplies, the same sizes took the same time. In a thread, as in a worker, layers of 3,072
# computed 4,650 tokens/s at 1,024 tokens and 4,270 at 2,048: outputs of 25 MB fit badly into its heaps of 64 MB.
CPU_TOKENS_BY_WIDTH = ((512, 4_096), (1_536, 2_048), (4_096, 1_024))
MIN_CPU_TOKENS = 512  # for wider layers, and for generation

# Upper bounds of the token budget on a CPU, where larger passes gain nothing and no memory error would stop the growth.
# The second bounds the widest output of a layer; a pass holds a few outputs of that size.
MAX_CPU_TOKENS, MAX_LAYER_OUTPUT_BYTES = 8_192, 32 * 2**20
WIDTH_CONFIG_KEYS = (
    "intermediate_size",
    "ffn_dim",
    "encoder_ffn_dim",
    "hidden_dim",
    "d_ff",
    "n_inner",
    "hidden_size",
    "d_model",
)


def initial_tokens(config: Any, device_type: str, *, is_generator: bool) -> int:
    """Return the token budget to begin with.

    config: the model's, of transformers.
    is_generator: whether the model writes text.
    """
    if device_type != "cpu":
        return GPU_GENERATION_TOKENS if is_generator else GPU_TOKENS
    if is_generator:
        return MIN_CPU_TOKENS
    width = _widest_layer(config)
    return next((tokens for max_width, tokens in CPU_TOKENS_BY_WIDTH if width <= max_width), MIN_CPU_TOKENS)


def max_tokens(config: Any, device_type: str) -> int:
    """Return the largest token budget for this model, at least the initial one."""
    if device_type != "cpu":
        return MAX_MICRO_BATCH_TOKENS
    return max(MIN_CPU_TOKENS, min(MAX_CPU_TOKENS, MAX_LAYER_OUTPUT_BYTES // (4 * _widest_layer(config))))


def max_length(pipeline: Pipeline, model: Any, tokenizer: Any, default: int | None = None) -> int | None:
    """Return the smallest limit of the catalogue, the tokenizer and the model's positions; None = no limit.

    default: the limit if the catalogue names none, which may exceed the tokenizer's, None = there is no such limit.
    """
    names = ("max_encoder_position_embeddings", "max_position_embeddings")
    positions = next((size for name in names if (size := getattr(model.config, name, None))), None)
    embeddings: Any = getattr(getattr(model.base_model, "embeddings", None), "position_embeddings", None)
    padding = getattr(embeddings, "padding_idx", None)
    if positions and padding is not None:
        positions -= padding + 1  # RoBERTa models number positions from after the padding index
    model_max_length = tokenizer.model_max_length
    if not isinstance(model_max_length, (int, float)):
        raise ModelError(
            f"the tokenizer's model_max_length is {model_max_length!r}, which is no number; mend tokenizer_config.json"
        )
    # transformers represents a missing limit as an astronomical number.
    all_limits = (pipeline.max_length or default, max(model_max_length, default or 0), positions)
    limits = [limit for limit in all_limits if limit and 0 < limit < 1e9]
    return min(int(limit) for limit in limits) if limits else None


def _widest_layer(config: Any) -> int:
    text = config.get_text_config()
    widths = (getattr(text, name, None) for name in WIDTH_CONFIG_KEYS)
    return max((width for width in widths if isinstance(width, int) and width > 0), default=1)
