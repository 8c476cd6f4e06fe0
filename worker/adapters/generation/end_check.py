"""The end check tells which rows have ended, on CUDA without waiting for the device at every token.

The host launches a token's work faster than the device does it. To look at a result it must wait, and then the device
waits for the next launch.
"""

from collections.abc import Sequence

import torch

# Tokens from one look to the next. Rows compute a few tokens past their ends meanwhile, which are dropped. A CPU has
# nothing to wait for.
CHECK_INTERVALS = {"cuda": 4}


class EndCheck:
    """Looks at the rows that have ended, every few tokens.

    device: where the rows are.
    """

    def __init__(self, device: torch.device) -> None:
        self._interval = CHECK_INTERVALS.get(device.type, 1)
        self._tokens = 0  # since the last look
        self._copy: tuple[torch.Tensor, torch.cuda.Event | None] | None = None

    def count_token(self) -> None:
        """Record that every row has one more token."""
        self._tokens += 1

    def forget(self) -> None:
        """Forget the look that has begun, because rows have left."""
        self._copy, self._tokens = None, 0

    def ended_flags(self, masks: Sequence[torch.Tensor], *, must_look: bool) -> list[bool] | None:
        """Return for each row whether it has ended, maybe as of an earlier token; None without a look at this token.

        masks: booleans of all rows, in parts; rows that have entered since a look began are the last ones.
        must_look: whether to look at the present token, and wait for the device.
        """
        if must_look or self._interval == 1:
            self.forget()
            return torch.cat(list(masks)).tolist()
        if self._tokens < self._interval:
            return None
        if self._copy is None:
            self._copy = _begin_copy(torch.cat(list(masks)))
            return None
        if self._tokens == self._interval:
            return None  # the next token's work is launched first
        (flags, copied), self._copy, self._tokens = self._copy, None, 0
        if copied is not None:
            copied.synchronize()
        ended: list[bool] = flags.tolist()
        return ended + [False] * (sum(map(len, masks)) - len(ended))


def _begin_copy(mask: torch.Tensor) -> tuple[torch.Tensor, torch.cuda.Event | None]:
    """Return a copy in the host's memory, complete once the event has happened."""
    if mask.device.type != "cuda":
        return mask.clone(), None
    # From pinned memory, which torch allocates for such a copy, the thread goes on at once.
    flags = mask.to("cpu", non_blocking=True)
    copied = torch.cuda.Event(blocking=True)
    copied.record(torch.cuda.current_stream(mask.device))
    return flags, copied
