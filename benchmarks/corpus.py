"""A corpus of texts whose token lengths follow a distribution exactly, for any number of texts."""

import math
import random
from collections.abc import Callable
from functools import cache
from statistics import NormalDist
from typing import Any

SPECIAL_TOKENS = 2
# A worker's speed is measured after so many tokens, when the shapes of its products are compiled.
WARM_UP_TOKENS, WARM_UP_SEED = 25_000, 1
MAX_TOKENS, MIN_TOKENS = 512, 3

# Median and spread (sigma of the logarithm). Both have a mean of about 55 tokens. `mixed` resembles reviews and
# tickets; `even` gains little from sorting.
MEAN_TOKENS = 55
DISTRIBUTIONS = {"mixed": (36.0, 0.95), "even": (52.0, 0.35)}


def token_lengths(count: int, distribution: str = "mixed", seed: int = 0) -> list[int]:
    """Return log-normal token lengths, special tokens included, in random order; quantiles, so no draw is lucky."""
    median, spread = DISTRIBUTIONS[distribution]
    quantile = NormalDist().inv_cdf
    drawn = [median * math.exp(spread * quantile((place + 0.5) / count)) for place in range(count)]
    made = [min(MAX_TOKENS, max(MIN_TOKENS, round(length))) for length in drawn]
    random.Random(seed).shuffle(made)
    return made


def random_texts(tokenizer: Any, count: int, distribution: str = "mixed", seed: int = 0) -> list[str]:
    """Return texts of random words, each word one token."""
    words, source = _single_token_words(tokenizer), random.Random(seed)
    return [
        " ".join(source.choices(words, k=length - SPECIAL_TOKENS))
        for length in token_lengths(count, distribution, seed)
    ]


def warm_up_texts(tokenizer: Any, distribution: str = "mixed", forward_passes: int = 1) -> list[str]:
    """Return other texts of the same kind to warm up a worker; each takes this many passes."""
    count = WARM_UP_TOKENS // (MEAN_TOKENS * forward_passes)
    return random_texts(tokenizer, count, distribution, WARM_UP_SEED)


@cache
def _single_token_words(tokenizer: Any) -> list[str]:
    candidates = sorted(word for word in tokenizer.get_vocab() if word.isalpha() and len(word) > 2)
    whole: Callable[[str], bool] = lambda word: len(tokenizer.tokenize(word)) == 1  # noqa: E731
    return [word for word in candidates if whole(word)]
