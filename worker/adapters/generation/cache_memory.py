"""The memory that a generation takes, and so how many rows may run at once.

A row keeps the keys and values of all its tokens in every layer, and the scores of the whole vocabulary for its next
token.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig

from worker.adapters.generation import row_state
from worker.adapters.generation.continuous_batching import PrefillGroup
from worker.adapters.tokenization import vocabulary
from worker.layers import spread_weights

# The share of the free memory that caches and scores may take. The rest is for the activations of prompts that enter,
# and for the copy that a cache makes of one layer while it grows.
USABLE_SHARE = 0.8

# For each token of the vocabulary: the logits and their float32 copy; and to draw one, sorted scores with their
# indices, probabilities, and float64 sums.
SCORE_BYTES, SAMPLING_SCORE_BYTES = 12, 56

MAX_ROWS_ON_CUDA = 2_048

# Rows of a fixed shape, which seeds and `deterministic` promise. Another shape may draw another word, so their number
# must not depend on free memory: only on the model, its dtype, the row, and the process's share of the device. A GPU
# computes a step of 128 rows in about the time of 8. FIXED_BYTES bounds their caches and scores, for large models and
# long texts.
FIXED_ROWS, MAX_FIXED_ROWS, FIXED_BYTES = 8, 128, 4 * 2**30

# Of what the weights leave of a process's share, for rows of a fixed shape. Such a pass can't be made smaller when
# memory runs out.
FIXED_SHARE = 0.25

PROBE_TOKENS = 3


@dataclass(frozen=True, slots=True)
class CacheLayer:
    """One layer's cache.

    token_bytes: of the key and the value of one token, all heads together.
    max_tokens: the tokens that it keeps of a row, None = all.
    """

    token_bytes: int
    max_tokens: int | None = None

    def row_bytes(self, tokens: int) -> int:
        """Return the bytes of a row of this many tokens."""
        return self.token_bytes * (tokens if self.max_tokens is None else min(tokens, self.max_tokens))


@dataclass(frozen=True, slots=True)
class CacheLayout:
    """The caches of a model.

    decoder: layers that keep the tokens of each text, in a causal model those of the prompt too.
    encoder: cross-attention layers, which keep the tokens of each input.
    state_bytes: what a row keeps whatever its length.
    vocabulary_size: scores per row.
    """

    decoder: Sequence[CacheLayer]
    encoder: Sequence[CacheLayer]
    state_bytes: int
    vocabulary_size: int

    def cache_bytes(self, decoder_tokens: int, encoder_tokens: int = 0) -> int:
        """Return the bytes that one sequence keeps: a row, or one of its beams."""
        decoder_bytes = sum(layer.row_bytes(decoder_tokens) for layer in self.decoder)
        return decoder_bytes + sum(layer.row_bytes(encoder_tokens) for layer in self.encoder) + self.state_bytes

    def score_bytes(self, *, samples: bool) -> int:
        """Return the bytes in which the next token of one sequence is chosen."""
        return self.vocabulary_size * (SAMPLING_SCORE_BYTES if samples else SCORE_BYTES)


@dataclass(frozen=True, slots=True)
class RowSize:
    """The tokens of one row of a run.

    decoder_tokens: the most tokens of a text, in a causal model with its prompt.
    encoder_tokens: the tokens of the input of an encoder-decoder.
    sequences: beams, or texts, that the row runs at once.
    """

    decoder_tokens: int
    encoder_tokens: int = 0
    sequences: int = 1


class RowLimit:
    """Decides how many rows run at once, by memory on CUDA and by tokens elsewhere.

    layout: the model's caches, None = count tokens.
    max_tokens: the tokens in all sequences, where they are counted.
    read_available: returns the bytes that may still be taken.
    share_bytes: the process's share of the device without the weights, whatever is free of it.
    """

    def __init__(
        self,
        layout: CacheLayout | None,
        max_tokens: int,
        read_available: Callable[[], int],
        share_bytes: float = math.inf,
    ) -> None:
        self._layout = layout
        self.max_tokens = max_tokens
        self._read_available = read_available
        self._share_bytes = share_bytes

    @classmethod
    def for_model(cls, model: Any, max_tokens: int) -> "RowLimit":
        """The limit for a model on its device."""
        device = model.device
        if device.type != "cuda":
            return cls(None, max_tokens, lambda: 0)
        share_bytes = total_share_bytes(device) - spread_weights.bytes_on(model, device)
        return cls(measure_cache_layout(model), max_tokens, lambda: available_bytes(device), share_bytes)

    def begin_run(self, *, samples: bool) -> Callable[[RowSize], int]:
        """Return a function from the size of rows to how many fit, at least 1.

        It reads the free memory now, when no row of the run has any yet.
        """
        layout, max_tokens = self._layout, self.max_tokens
        if layout is None:
            return lambda size: max(1, max_tokens // max(1, size.decoder_tokens * size.sequences))
        capacity, score_bytes = int(USABLE_SHARE * self._read_available()), layout.score_bytes(samples=samples)

        def count_fitting(size: RowSize) -> int:
            sequence_bytes = layout.cache_bytes(size.decoder_tokens, size.encoder_tokens) + score_bytes
            return max(1, capacity // (sequence_bytes * size.sequences))

        return count_fitting

    def fixed_rows(self, size: RowSize, *, samples: bool) -> int:
        """Return the rows of a pass of fixed shape, a power of two."""
        if self._layout is None:
            return FIXED_ROWS
        sequence_bytes = self._layout.cache_bytes(size.decoder_tokens, size.encoder_tokens)
        row_bytes = (sequence_bytes + self._layout.score_bytes(samples=samples)) * size.sequences
        rows = max(FIXED_ROWS, min(MAX_FIXED_ROWS, FIXED_BYTES // max(1, row_bytes)))
        fitting = min(rows, FIXED_SHARE * self._share_bytes // max(1, row_bytes))
        return 1 << max(0, int(fitting).bit_length() - 1) if fitting > 0 else 1


@torch.inference_mode()
def measure_cache_layout(model: Any) -> CacheLayout | None:
    """Measure what the model keeps of a short prompt; None if it keeps no caches by layer.

    That holds for every architecture, whatever its config calls its heads.
    """
    ids = torch.ones((1, PROBE_TOKENS), dtype=torch.long, device=model.device)
    config = GenerationConfig(max_new_tokens=2, do_sample=False, pad_token_id=0)
    config.decoder_start_token_id = 0 if model.config.is_encoder_decoder else None
    original, model.generation_config = model.generation_config, GenerationConfig()
    try:
        group = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config, custom_generate=PrefillGroup
        )
        group.prefill()
    finally:
        model.generation_config = original
    caches = row_state.caches(group.model_kwargs)
    if not all(hasattr(cache, "layers") for cache in caches):
        return None
    decoder, *encoder = (_cache_layers(cache) for cache in caches)
    state_bytes = sum(_state_bytes(layer) for cache in caches for layer in cache.layers)
    return CacheLayout(decoder, encoder[0] if encoder else (), state_bytes, vocabulary.size(model) or 0)


def available_bytes(device: torch.device) -> int:
    """Return the memory of a GPU that this process may still take.

    That is the free memory and what the allocator holds unused, within the process's share of the device.
    """
    free, _ = torch.cuda.mem_get_info(device)
    allocated, reserved = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
    return max(0, min(free + reserved - allocated, total_share_bytes(device) - allocated))


def total_share_bytes(device: torch.device) -> int:
    """Return the memory of a GPU that this process may have in all."""
    total = torch.cuda.mem_get_info(device)[1]
    return int(torch.cuda.get_per_process_memory_fraction(device) * total)


def max_rows_on(device: torch.device, max_rows: int) -> int:
    """Return the most rows at once on this device, given the most that any other device takes."""
    return MAX_ROWS_ON_CUDA if device.type == "cuda" and max_rows > 1 else max_rows


def _cache_layers(cache: Any) -> list[CacheLayer]:
    return [
        CacheLayer((layer.keys.nbytes + layer.values.nbytes) // layer.keys.shape[-2], _window(layer))
        for layer in cache.layers
        # Others read the cache of another layer, or keep a state of fixed size.
        if isinstance(getattr(layer, "keys", None), torch.Tensor) and layer.keys.numel()
    ]


def _window(layer: Any) -> int | None:
    window: int | None = getattr(layer, "sliding_window", None)
    return window


def _state_bytes(layer: Any) -> int:
    """The bytes of convolution and recurrent states, which layers with linear attention keep in dictionaries."""
    states = [state for value in vars(layer).values() if isinstance(value, dict) for state in value.values()]
    return sum(state.nbytes for state in states if isinstance(state, torch.Tensor))
