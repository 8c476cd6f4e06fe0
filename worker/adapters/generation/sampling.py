"""Sampling: tokens drawn at random, the same whatever else is in the micro-batch.

transformers draws for all rows from one generator, so a row's text would depend on how many rows stand before it. Here
each row brings its own random numbers, one for each token that it may write.
"""

import hashlib
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from worker.adapters.generation.row_state import RowAware

# What a generation config says about sampling, in the order in which transformers applies it.
FILTER_PARAMETERS = ("temperature", "top_h", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")


def noise(
    seed: int | None, prompt_ids: Sequence[int], sequence_index: int, count: int
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """`count` numbers in [0, 1), float64, that depend on seed, prompt and sequence alone; without a seed on nothing.

    A hash, read as far as it is needed: no library's generator, which another version of it may change.
    """
    material = secrets.token_bytes(32) if seed is None else seed.to_bytes(8, "big") + sequence_index.to_bytes(8, "big")
    material += np.asarray(prompt_ids, dtype="<i8").tobytes()
    words = np.frombuffer(hashlib.shake_256(material).digest(8 * count), dtype="<u8")
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


@contextmanager
def seed_generators(seed: int | None, prompt_ids: Sequence[int], device: torch.device) -> Iterator[None]:
    """Has torch's own generators draw by this seed and prompt; without a seed by chance. They are put back after.

    For beams, which transformers draws itself; whoever runs so must run alone.
    """
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(noise(seed, prompt_ids, 0, 1)[0] * 2**53))
        yield


def filters_for(model: Any, config: GenerationConfig) -> LogitsProcessorList:
    """What transformers itself would apply to the scores before it draws, by this config."""
    wanted = {
        name: value for name in FILTER_PARAMETERS if not is_filter_off(name, value := getattr(config, name, None))
    }
    made: LogitsProcessorList = model._get_logits_processor(
        GenerationConfig(do_sample=True, **wanted), input_ids_seq_length=1, device=model.device
    )
    return made


def is_greedy(config: GenerationConfig) -> bool:
    """Whether a config takes the likeliest token; many write a temperature of 0 for that."""
    return not config.do_sample or (config.temperature is not None and config.temperature <= 0)


def is_filter_off(name: str, value: Any) -> bool:
    """Whether a config means no filter: some write -1 or 0 for that, which transformers refuses."""
    return value is None or (name in ("temperature", "top_k", "typical_p") and value <= 0)


class Sampler(LogitsProcessor, RowAware):
    """Draws a token for each row and leaves it as the only one possible, so that taking the likeliest takes it.

    `uniform` is `(rows, steps)` on the device of the scores. The last of all processors.
    """

    def __init__(self, filters: LogitsProcessorList, uniform: torch.Tensor) -> None:
        self._filters = filters
        self._uniform = uniform
        self._step = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores `(rows, tokens)`: 0 for the token drawn, minus infinity for every other."""
        drawn = draw_tokens(self._filters(input_ids, scores), self._uniform[:, self._step, None])
        self._step += 1
        return torch.full_like(scores, -torch.inf).scatter_(1, drawn, 0.0)

    def select_rows(self, row_indices: torch.Tensor) -> None:
        """Each row keeps its own numbers."""
        self._uniform = self._uniform[row_indices]


def draw_tokens(scores: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """The token, `(rows, 1)`, at which the summed probability first exceeds the row's uniform number `(rows, 1)`.

    Summed in the precision of `uniform`: in float64, since in float32 sums over a large vocabulary miss 1 by as much as
    many a token's probability, and a GPU doesn't add them up in the same order every time.
    """
    summed = scores.softmax(dim=-1, dtype=uniform.dtype).cumsum(dim=-1)
    total = summed[:, -1:]
    # Never the total itself, which nothing exceeds.
    wanted = torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(summed, wanted, right=True).clamp_(max=scores.shape[-1] - 1)
