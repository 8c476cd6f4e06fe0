"""The trial at load: do rows get the same answers together, padded or of equal length, as each gets alone?"""

from collections import UserDict, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from worker.adapters.generic.passes import find_ids, shared_form
from worker.adapters.probes.probe_scores import reraise_machine_problem, scores_match
from worker.adapters.probes.sharing import Sharing

FINAL_TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


MASK_SIZE = 1e3  # of numbers that models put where no score may be, such as -10,000
MASK_ROUNDING = 4  # in steps between neighbouring numbers of their size


@dataclass(frozen=True, slots=True)
class Sample:
    """A row's model inputs, and what finishes its answer, given the output of its pass."""

    inputs: Any
    finish: Callable[[Any], Any]

    @property
    def length(self) -> int:
        """Its tokens."""
        return max((ids.shape[-1] for ids in find_ids(self.inputs)), default=1)


Run = Callable[[Sequence[Any]], list[Any]]


def find_sharing(samples: Sequence[Sample], run: Run, dtype: torch.dtype) -> tuple[Sharing, str | None]:
    """How rows may share passes, and why not otherwise.

    run: runs model inputs in one pass, and returns an output for each.
    """
    groups = defaultdict(list)
    for sample in samples:
        groups[shared_form(sample.inputs)].append(sample)
    groups.pop(None, None)
    largest = max(groups.values(), key=len, default=[])
    lengths = defaultdict(list)
    for sample in largest:
        lengths[sample.length].append(sample)
    if len(lengths) > 1 and _matches(largest, run, dtype):
        return Sharing.TOGETHER, None
    equal = max(lengths.values(), key=len, default=[])
    if len(equal) < 2:
        return Sharing.ALONE, "padding changes answers" if len(lengths) > 1 else "no inputs could be tried together"
    if _matches(equal, run, dtype):
        return Sharing.BY_LENGTH, "padding changes answers" if len(lengths) > 1 else "no padding could be tried"
    return Sharing.ALONE, "other rows change answers"


def _matches(samples: Sequence[Sample], run: Run, dtype: torch.dtype) -> bool:
    """Whether raw outputs and answers are those of each row alone, in this order and in the reverse one."""
    inputs, tolerance = [sample.inputs for sample in samples], FINAL_TOLERANCE.get(dtype, 1e-5)
    try:
        alone = [run([one])[0] for one in inputs]
        shared = [run(inputs), run(inputs[::-1])[::-1]]
        # All raw outputs come first, because a pipeline may change one as it makes an answer of it.
        if not all(
            outputs_match(left, right) for outputs in shared for left, right in zip(alone, outputs, strict=True)
        ):
            return False
        answers, *others = (
            [sample.finish(output) for sample, output in zip(samples, outputs, strict=True)]
            for outputs in (alone, *shared)
        )
        return all(answers_match(answers, other, tolerance) for other in others)
    except Exception as error:  # a pipeline that is not made for it may raise anything
        reraise_machine_problem(error)
        return False


def outputs_match(alone: Any, together: Any) -> bool:
    """Whether the numbers of two raw outputs agree; the second may be padded, on either side."""
    if isinstance(alone, torch.Tensor):
        if not isinstance(together, torch.Tensor) or alone.ndim != together.ndim:
            return False
        if not alone.is_floating_point():
            return True  # token ids and masks, whose padding the answers show
        sizes = zip(alone.shape, together.shape, strict=True)
        if any(size > padded for size, padded in sizes):
            return False
        starts = [slice(0, size) for size in alone.shape]
        ends = [slice(padded - size, padded) for size, padded in zip(alone.shape, together.shape, strict=True)]
        return any(_numbers_match(alone, together[tuple(part)]) for part in (starts, ends))
    if isinstance(alone, Mapping | UserDict):
        return isinstance(together, Mapping | UserDict) and all(
            name in together and outputs_match(value, together[name]) for name, value in alone.items()
        )
    if isinstance(alone, list | tuple):
        return len(alone) == len(together) and all(map(outputs_match, alone, together))
    return True


def _numbers_match(alone: torch.Tensor, together: torch.Tensor) -> bool:
    """As `scores_match`, where huge numbers that stand for "never" do not set the scale.

    They must agree up to the rounding of their size, because TAPAS adds -10,000 to scores that it compares later.
    """
    is_mask, is_other_mask = (numbers.abs() >= MASK_SIZE for numbers in (alone, together))
    rounding = MASK_ROUNDING * torch.finfo(alone.dtype).eps
    return (
        torch.equal(is_mask, is_other_mask)
        and torch.allclose(alone[is_mask], together[is_mask], rtol=rounding, atol=0.0, equal_nan=True)
        and scores_match(alone.masked_fill(is_mask, 0.0), together.masked_fill(is_mask, 0.0))
    )


def answers_match(alone: Any, together: Any, tolerance: float) -> bool:
    """Whether two answers, ready for JSON, are equal up to the rounding of their numbers."""
    if isinstance(alone, float) and isinstance(together, float):
        return abs(alone - together) <= tolerance * max(1.0, abs(alone))
    if type(alone) is not type(together):
        return False
    if isinstance(alone, dict):
        return list(alone) == list(together) and all(
            answers_match(alone[name], together[name], tolerance) for name in alone
        )
    if isinstance(alone, list):
        return len(alone) == len(together) and all(
            answers_match(left, right, tolerance) for left, right in zip(alone, together, strict=True)
        )
    return bool(alone == together)
