"""The entry point of a worker process."""

import pytest
import torch

from worker.process import main


@pytest.mark.parametrize(
    ("requested", "resolved"),
    [
        ("cpu", "cpu"),
        ("cuda:99", "cuda:99"),
        ("gpu", "gpu"),
        ("cuda:x", "cuda:x"),
        ("auto", "cuda:0" if torch.cuda.is_available() else "cpu"),
    ],
)
def test_the_device_is_named_as_it_is_used(requested: str, resolved: str) -> None:
    assert main._resolve_device(requested) == resolved
