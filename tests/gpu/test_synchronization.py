"""A forward pass hands its work to the device without waiting for it, and in few calls."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.factories import tiny_encoders as encoders
from tests.gpu.conftest import entry_for, load_on
from tests.unit.worker.layers.test_packed_layers import encode_rows, texts
from worker.adapters.rows import MicroBatch

# Operations of a packed pass of two layers over texts of two or three lengths, some with a tenth to spare. On fast
# devices a pass is as long as its calls: raise a number only for a reason.
MAX_OPERATIONS = {"bert": 180, "distilbert": 165, "modernbert": 340}
# On which the host waits for the device. On the CPU, ModernBERT looks at masks, which are windows on CUDA.
BLOCKING_OPERATIONS = ("aten._local_scalar_dense", "aten.nonzero", "aten.is_nonzero", "aten.masked_select")
LOOKS_AT_MASKS = "modernbert"


class RecordedOperations(TorchDispatchMode):
    """Records the names of torch's operations."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Record the name, and call the operation."""
        self.names.append(str(function.name()).replace("::", "."))
        return function(*args, **(kwargs or {}))


@contextmanager
def no_synchronization(device: str) -> Iterator[None]:
    """On CUDA, an error where the host would wait for the device."""
    if not device.startswith("cuda"):
        yield
        return
    torch.cuda.synchronize(device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("sizes", [(9, 9, 4), (9, 9)], ids=["padded", "equal lengths"])
@pytest.mark.parametrize("architecture", MAX_OPERATIONS)
def test_a_pass_waits_for_nothing(device: str, architecture: str, sizes: tuple[int, ...], tmp_path: Path) -> None:
    folder = encoders.token_classifier(tmp_path, architecture)
    loaded = load_on(device, entry_for(folder, "ner", dtype="float16" if device.startswith("cuda") else "float32"))
    encoder = loaded.adapter._encoder  # type: ignore[attr-defined]
    assert loaded.adapter.uses_packing
    micro_batch = MicroBatch(tuple(encode_rows(loaded, texts(sizes))))
    loaded.adapter.forward(micro_batch)  # what torch does once is done

    with (
        torch.inference_mode(),
        no_synchronization(device),
        RecordedOperations() as operations,
        encoder.prepare_inputs(micro_batch) as tensors,
    ):
        loaded.model(**tensors)

    if device == "cpu" and architecture != LOOKS_AT_MASKS:
        assert [name for name in operations.names if name in BLOCKING_OPERATIONS] == []
    assert 20 < len(operations.names) <= MAX_OPERATIONS[architecture]
