"""Quantization: the methods behind one setting, each with the devices on which it runs.

`int8` on a CPU is `worker/layers/int8_linear.py`. bitsandbytes quantizes as it loads, torchao after loading.
"""

from typing import Any

import torch

from models.errors import LoadFailed, ModelError
from models.pipelines.options.quantization import device_problem
from models.pipelines.pipeline import Pipeline
from worker.layers import int8_linear
from worker.loading.files.snapshots import Snapshot
from worker.loading.large_models import torchao_layers

INSTALL_ADVICE = "pip install -c constraints.txt '.[quantization]'"
BITSANDBYTES_BITS = {"int8": 8, "int4": 4}


def load_options(pipeline: Pipeline, files: Snapshot, device: torch.device) -> dict[str, Any]:
    """Return the options with which transformers loads the weights; empty if they are quantized later or never.

    Raises LoadFailed if the method does not run on this machine, and ModelError if the files do not go with it.
    """
    name = pipeline.quantization
    if name is None:
        return {}
    if problem := device_problem(name, device.type):
        raise LoadFailed(problem)
    if name in torchao_layers.METHODS:
        if files.config.get("quantization_config"):
            raise ModelError(f"{files.name} is quantized in its files; leave quantization out, or name another model")
        torchao_layers.check(name, device, INSTALL_ADVICE)
        return {}
    return {} if device.type == "cpu" else _bitsandbytes_options(name, device)


def apply(pipeline: Pipeline, files: Snapshot, model: Any, device: torch.device) -> Any:
    """Quantize the loaded model, if `load_options` did not, and return it on its device.

    Raises LoadFailed if the method does not run on this machine, and ModelError if the model has no layers for it.
    """
    name = pipeline.quantization
    if name in torchao_layers.METHODS:
        return torchao_layers.quantize(name, files.name, model, device)
    return _quantize_dynamic_int8(files, model) if device.type == "cpu" else model


def package(name: str | None, device: torch.device) -> str | None:
    """Return the package whose version belongs to the results of a quantized model; None = torch itself."""
    if name in torchao_layers.METHODS:
        return "torchao"
    return "bitsandbytes" if name is not None and device.type != "cpu" else None


def _bitsandbytes_options(name: str, device: torch.device) -> dict[str, Any]:
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        raise LoadFailed(f"quantization {name} on CUDA needs bitsandbytes; run: {INSTALL_ADVICE}") from None
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(**{f"load_in_{BITSANDBYTES_BITS[name]}bit": True})
    return {"quantization_config": config, "device_map": {"": device.index or 0}}


def _quantize_dynamic_int8(files: Snapshot, model: Any) -> Any:
    """Quantize linear layers dynamically: int8 weights, and activations by their range at run time."""
    if model.dtype != torch.float32:
        raise LoadFailed("quantization int8 on a CPU goes with dtype float32 only; leave dtype at auto")
    if not int8_linear.quantize(model):
        raise ModelError(f"{files.name} has no linear layers that int8 could quantize; leave quantization out")
    return model
