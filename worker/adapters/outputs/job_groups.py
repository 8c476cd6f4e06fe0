"""Groups of jobs with equal parameters, whose raw outputs are decoded together in arrays."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from models.documents import to_json
from worker.adapters.interface import DecodableJob

Floats = npt.NDArray[np.float32]

Output = TypeVar("Output")

# Yields the JSON text, the vector or the error of each of these jobs. They have equal parameters and as many rows and
# windows.
DecodeGroup = Callable[[Mapping[str, Any], Sequence[DecodableJob]], Iterator[Output]]


def decode_in_groups(jobs: Sequence[DecodableJob], decode_group: DecodeGroup[Output]) -> Iterator[Output]:
    """Yield the output of each job in order; alike jobs are decoded in one call.

    They have equal parameters and as many rows and windows.
    """
    groups: dict[tuple[str, int, int], list[DecodableJob]] = {}
    # By lease, which spares the JSON of the parameters.
    known_groups: dict[tuple[int, int, int], list[DecodableJob]] = {}
    keys = [(id(rows[0].job.lease), len(rows), rows[0].window_count) for rows, _ in jobs]
    for key, job in zip(keys, jobs, strict=True):
        if key not in known_groups:
            known_groups[key] = groups.setdefault((to_json(_parameters(job)), *key[1:]), [])
        known_groups[key].append(job)
    outputs = {id(group): decode_group(_parameters(group[0]), group) for group in groups.values()}
    if len(groups) == 1:
        yield from next(iter(outputs.values()))
    else:
        for key in keys:
            yield next(outputs[id(known_groups[key])])


def _parameters(job: DecodableJob) -> Mapping[str, Any]:
    return job[0][0].job.lease.parameters


def stack(raw_outputs: Sequence[Any]) -> Floats:
    """Raw outputs of equal shape, tensors or arrays of float32, as one array with an axis more."""
    if isinstance(raw_outputs[0], torch.Tensor):
        return torch.stack(list(raw_outputs)).numpy()
    return np.concatenate(raw_outputs).reshape(len(raw_outputs), *raw_outputs[0].shape)


def are_finite(scores: Floats) -> list[bool]:
    """For each row, whether all of its scores are numbers."""
    finite: Any = np.isfinite(scores).reshape(len(scores), -1).all(axis=1)  # which NumPy types as a number or an array
    return list(finite.tolist())
