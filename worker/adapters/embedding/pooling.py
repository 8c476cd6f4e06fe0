"""Pooling on the device: the vectors of a text's tokens become one, for all rows of a pass at once.

The formulas are those of `sentence_transformers.sentence_transformer.modules.Pooling`, 6.2. Sums are float32.
"""

from collections.abc import Sequence

import torch

from models.embedding.sentence_files import PoolingMode

ONE_TOKEN_MODES = frozenset({"cls", "last"})  # they look at one token of a row only


def pool(
    states: torch.Tensor, lengths: torch.Tensor, modes: Sequence[PoolingMode], skipped_tokens: int = 0
) -> torch.Tensor:
    """Return float32 `(rows, modes × size)`, the vectors of all modes side by side.

    states: the tokens' vectors, `(rows, width, size)`, padded on the right.
    lengths: tokens of each row, int64 on the device.
    skipped_tokens: how many of a row's first tokens do not count; each row has more.
    """
    pooled = [_pool_mode(states, lengths, mode, skipped_tokens) for mode in modes]
    return pooled[0] if len(pooled) == 1 else torch.cat(pooled, dim=-1)


def _pool_mode(states: torch.Tensor, lengths: torch.Tensor, mode: PoolingMode, skipped_tokens: int) -> torch.Tensor:
    if mode == "cls":
        return states[:, skipped_tokens].float()
    if mode == "last":
        return states[torch.arange(len(states), device=states.device), lengths - 1].float()
    positions = torch.arange(states.shape[1], device=states.device)
    counts = positions < lengths[:, None]
    if skipped_tokens:
        counts &= positions >= skipped_tokens
    if mode == "max":
        return states.masked_fill(~counts[:, :, None], float("-inf")).amax(dim=1).float()
    weights = counts.float()
    if mode == "weighted_mean":
        weights *= positions + 1
    total = weights.sum(dim=1, keepdim=True)
    if mode == "mean_sqrt_len":
        total = total.sqrt()
    # A product of matrices reads the states once, where a masked sum would write them again.
    return torch.bmm((weights / total)[:, None], states.float())[:, 0]
