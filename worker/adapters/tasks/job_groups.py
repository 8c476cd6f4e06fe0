"""Groups of jobs with equal parameters, whose raw outputs are decoded together in arrays."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from models.documents import to_json
from worker.adapters.interface import DecodableJob

Floats = npt.NDArray[np.float32]

# Yields the JSON text, or the error, of each of these jobs, which share their parameters.
DecodeGroup = Callable[[Mapping[str, Any], Sequence[DecodableJob]], Iterator[str | Exception]]


def decode_in_groups(jobs: Sequence[DecodableJob], decode_group: DecodeGroup) -> Iterator[str | Exception]:
    """Yield the output of each job in order; jobs with equal parameters are decoded in one call."""
    groups: dict[str, list[DecodableJob]] = {}
    group_of_lease: dict[int, list[DecodableJob]] = {}  # leases of one batch have equal parameters, and are few
    keys = [id(rows[0].job.lease) for rows, _ in jobs]
    for key, job in zip(keys, jobs, strict=True):
        group = group_of_lease.get(key)
        if group is None:
            group = groups.setdefault(to_json(job[0][0].job.lease.parameters), [])
            group_of_lease[key] = group
        group.append(job)
    outputs = {id(group): decode_group(group[0][0][0].job.lease.parameters, group) for group in groups.values()}
    if len(groups) == 1:
        yield from next(iter(outputs.values()))
    else:
        for key in keys:
            yield next(outputs[id(group_of_lease[key])])


def stack(raw_outputs: Sequence[Any]) -> Floats:
    """Raw outputs of equal shape, tensors or arrays of float32, as one array with an axis more."""
    if isinstance(raw_outputs[0], torch.Tensor):
        return torch.stack(list(raw_outputs)).numpy()
    return np.concatenate(raw_outputs).reshape(len(raw_outputs), *raw_outputs[0].shape)
