"""Attention masks made without a look at the padding.

transformers leaves the mask out where no row has padding. To find out, it reads the mask from the device for every
token, and waits. Padding only changes when rows enter or leave, so the loop looks then and tells it here.

Without a mask, sdpa takes another kernel on CUDA, which rounds otherwise. So passes of a fixed shape always have one.

Importing this module replaces the mask that transformers makes for `sdpa`; outside of `with_known_padding` and
`with_kept_masks` it is the same function.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

_known = threading.local()


@contextmanager
def with_known_padding(has_padding: bool | None) -> Iterator[None]:
    """Let masks be made in this thread for rows with, or without, padding; None = it is not known."""
    before = getattr(_known, "has_padding", None)
    _known.has_padding = has_padding
    try:
        yield
    finally:
        _known.has_padding = before


@contextmanager
def with_kept_masks(*, keeps_masks: bool = True) -> Iterator[None]:
    """Let masks be made in this thread for rows without padding too, as beside a row with padding."""
    before = getattr(_known, "keeps_masks", False)
    _known.keeps_masks = keeps_masks
    try:
        yield
    finally:
        _known.keeps_masks = before


def make_sdpa_mask(
    *args: Any,
    attention_mask: torch.Tensor | None = None,
    allow_is_causal_skip: bool = True,
    allow_is_bidirectional_skip: bool = False,
    local_size: int | None = None,
    **options: Any,
) -> torch.Tensor | None:
    """As `sdpa_mask` of transformers; each option has the meaning that it has there."""
    has_padding: bool | None = getattr(_known, "has_padding", None)
    if getattr(_known, "keeps_masks", False):
        # The decoder of an encoder-decoder has no padding, and so never a mask to keep.
        allow_is_causal_skip = allow_is_causal_skip and attention_mask is None and has_padding is None
        allow_is_bidirectional_skip = False
    elif has_padding is False:
        attention_mask = None
    elif has_padding and local_size is None:  # what a window sees of a padded row may have no padding
        allow_is_causal_skip = False
    mask: torch.Tensor | None = sdpa_mask(
        *args,
        attention_mask=attention_mask,
        allow_is_causal_skip=allow_is_causal_skip,
        allow_is_bidirectional_skip=allow_is_bidirectional_skip,
        local_size=local_size,
        **options,
    )
    return mask


AttentionMaskInterface.register("sdpa", make_sdpa_mask)
