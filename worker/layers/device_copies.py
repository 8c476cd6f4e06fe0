"""Copies from the host's memory to a device, which do not wait for the device on CUDA."""

import torch


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on the device.

    A copy from ordinary memory waits on CUDA until the device has done all earlier work. Pinned memory does not, and
    torch keeps it until the copy is done.
    """
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
