"""Reproducible sampling: the same tokens are drawn for a row, whatever else is in the micro-batch.

transformers draws for all rows from one generator, so a row's text would depend on the number of rows before it. Here
each row has its own random numbers, one for each token that it may generate.
"""

import hashlib
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from models.errors import JobError
from worker.adapters.generation.row_state import RowAware

# The sampling parameters of a generation config, in the order in which transformers applies them.
FILTER_PARAMETERS = ("temperature", "top_h", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")

Noise = np.ndarray[Any, np.dtype[np.float64]]


def noise(seed: int | None, prompt_ids: Sequence[int], sequence_index: int, count: int) -> Noise:
    """Return `count` float64 numbers in [0, 1) that depend on seed, prompt and sequence alone; random without a seed.

    They come from a hash, because a library's generator may change from one version to the next.
    """
    material = secrets.token_bytes(32) if seed is None else seed.to_bytes(8, "big") + sequence_index.to_bytes(8, "big")
    material += np.asarray(prompt_ids, dtype="<i8").tobytes()
    words = np.frombuffer(hashlib.shake_256(material).digest(8 * count), dtype="<u8")
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def stack_noise(
    sources: Sequence[tuple[int | None, Sequence[int], Sequence[int]]], row_count: int, steps: int
) -> Noise:
    """Return noise `(row_count × sequences, steps)`; filler rows repeat that of the last row.

    sources: seed, prompt and sequence indices of each row.
    """
    row_noise = [[noise(seed, ids, index, steps) for index in indices] for seed, ids, indices in sources]
    row_noise += row_noise[-1:] * (row_count - len(row_noise))
    return np.stack(list(chain.from_iterable(row_noise)))


def to_device(noise: Noise, device: torch.device) -> torch.Tensor:
    """Copy noise to a device, in float64, or in float32 on Metal, which has no float64."""
    return torch.from_numpy(noise).to(torch.float32 if device.type == "mps" else torch.float64).to(device)


@contextmanager
def seed_generators(seed: int | None, prompt_ids: Sequence[int], device: torch.device) -> Iterator[None]:
    """Seed torch's own generators by seed and prompt, and restore them afterwards; do nothing without a seed.

    For beam search with sampling, which transformers draws itself. Such a row must run alone.
    """
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(noise(seed, prompt_ids, 0, 1)[0] * 2**53))
        yield


def filters_for(model: Any, config: GenerationConfig) -> LogitsProcessorList:
    """Return the processors that transformers would apply to the scores before it samples with this config."""
    parameters = {
        name: value for name in FILTER_PARAMETERS if not is_filter_off(name, value := getattr(config, name, None))
    }
    processors: LogitsProcessorList = model._get_logits_processor(
        GenerationConfig(do_sample=True, **parameters), input_ids_seq_length=1, device=model.device
    )
    return processors


def is_greedy(config: GenerationConfig) -> bool:
    """Whether a config takes the likeliest token; a temperature of 0 means that as well."""
    return not config.do_sample or (config.temperature is not None and config.temperature <= 0)


def is_filter_off(name: str, value: Any) -> bool:
    """Whether a value means no filter. Some configs write -1 or 0 for that, which transformers rejects."""
    return value is None or (name in ("temperature", "top_k", "typical_p") and value <= 0)


def check_sequence_count(num_sequences: int, num_beams: int, *, do_sample: bool) -> None:
    """Raise JobError `invalid_parameters` when a search can't return that many sequences."""
    if num_sequences > num_beams and (num_beams > 1 or not do_sample):
        problem = f"num_return_sequences is {num_sequences}, num_beams {num_beams}"
        raise JobError("invalid_parameters", f"{problem}; set num_beams as high, or do_sample with a single beam")


class Sampler(LogitsProcessor, RowAware):
    """Draws a token for each row and leaves it as the only possible one, so that greedy search takes it.

    filters: what shapes the scores before the draw.
    uniform: numbers in [0, 1), `(rows, steps)`, on the device of the scores.

    It must be the last processor.
    """

    def __init__(self, filters: LogitsProcessorList, uniform: torch.Tensor) -> None:
        self._filters = filters
        self._uniform = uniform
        self._step = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return scores `(rows, tokens)`: 0 for the token drawn, minus infinity for every other."""
        tokens = draw_tokens(self._filters(input_ids, scores), self._uniform[:, self._step, None])
        self._step += 1
        return torch.full_like(scores, -torch.inf).scatter_(1, tokens, 0.0)

    def select_rows(self, row_indices: torch.Tensor) -> None:
        """Keep the numbers of these rows."""
        self._uniform = self._uniform[row_indices]


def draw_tokens(scores: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Return the token `(rows, 1)` at which the cumulative probability first exceeds `uniform`, `(rows, 1)`.

    Sums have the precision of `uniform`. In float32, sums over a large vocabulary miss 1 by as much as the probability
    of many tokens, and a GPU does not add them up in the same order every time; hence float64.
    """
    cumulative = scores.softmax(dim=-1, dtype=uniform.dtype).cumsum(dim=-1)
    total = cumulative[:, -1:]
    # Always below the total, which no sum exceeds.
    thresholds = torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, thresholds, right=True).clamp_(max=scores.shape[-1] - 1)
