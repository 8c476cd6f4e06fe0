"""The methods of torchao: where each runs, and how it replaces the weights of a model's linear layers.

Only methods whose ranges belong to one token or one output are here. A range over a whole pass would make an answer
depend on the other rows (decision 0052).
"""

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import structlog
import torch

from models.errors import LoadFailed, ModelError
from models.foreign_errors import first_line

log = structlog.get_logger(__name__)

INT4_GROUP_SIZE = 128
MAX_KEPT_SHARE = 0.1  # of the weights of linear layers, embeddings apart: heads with a few labels take far less

TRIAL_SIZE, TRIAL_ROWS, TRIAL_FACTOR = 256, 3, 30.0
MAX_TRIAL_DIFFERENCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


@dataclass(frozen=True, slots=True)
class Method:
    """A way to quantize, and what it needs.

    make_config: makes torchao's configuration; the package is imported only when it is called.
    min_capability: of a CUDA device.
    multiple: a layer's inputs and outputs must be multiples of these numbers; other layers keep their dtype.
    dtype: the only one in which the model computes, None = any.
    """

    make_config: Callable[[], Any]
    min_capability: tuple[int, int]
    multiple: tuple[int, int] = (1, 1)
    dtype: torch.dtype | None = None


def _int8_config() -> Any:
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, PerRow

    return Int8DynamicActivationInt8WeightConfig(granularity=PerRow(), set_inductor_config=False)


def _int8_weights_config() -> Any:
    from torchao.quantization import Int8WeightOnlyConfig

    return Int8WeightOnlyConfig(set_inductor_config=False)


def _int4_weights_config() -> Any:
    from torchao.quantization import Int4WeightOnlyConfig

    packing: Any = "tile_packed_to_4d"  # the one whose kernel comes with torch
    return Int4WeightOnlyConfig(group_size=INT4_GROUP_SIZE, int4_packing_format=packing, set_inductor_config=False)


def _float8_config() -> Any:
    from torchao.float8.inference import Float8MMConfig
    from torchao.quantization import Float8DynamicActivationFloat8WeightConfig, PerRow
    from torchao.quantization.quantize_.common import KernelPreference

    # torch's own kernel, so that no other installed package changes answers. Fast sums fail with CUDA 12.9.
    return Float8DynamicActivationFloat8WeightConfig(
        granularity=PerRow(),
        mm_config=Float8MMConfig(use_fast_accum=False),
        kernel_preference=KernelPreference.TORCH,
        set_inductor_config=False,
    )


# torchao's `set_inductor_config` is off everywhere: it would make torch round all products of float32 to TF32.
METHODS = {
    "torchao-int8": Method(_int8_config, (8, 0), multiple=(8, 8)),
    "torchao-int8-weights": Method(_int8_weights_config, (7, 5)),
    "torchao-int4-weights": Method(_int4_weights_config, (8, 0), multiple=(INT4_GROUP_SIZE, 8), dtype=torch.bfloat16),
    "torchao-float8": Method(_float8_config, (8, 9), multiple=(16, 16), dtype=torch.bfloat16),
}


def check(name: str, device: torch.device, install_advice: str) -> None:
    """Raise LoadFailed with a sentence if this GPU is too old for the method, or if the package is missing."""
    method = METHODS[name]
    if device.type == "cuda" and (capability := torch.cuda.get_device_capability(device)) < method.min_capability:
        needed, present = (".".join(map(str, numbers)) for numbers in (method.min_capability, capability))
        raise LoadFailed(f"quantization {name} needs a GPU of compute capability {needed}; this one has {present}")
    try:
        _import_torchao()
    except ImportError:
        raise LoadFailed(f"quantization {name} needs torchao; run: {install_advice}") from None


def quantize(name: str, model_name: str, model: Any, device: torch.device) -> Any:
    """Quantize the linear layers of a model that was loaded on the CPU, one after another, and move it to the device.

    Raises LoadFailed if the kernels do not run here, and ModelError if the model has no layers for them.
    """
    method = METHODS[name]
    if method.dtype is not None and model.dtype != method.dtype:
        dtype = str(method.dtype).removeprefix("torch.")
        raise LoadFailed(f'quantization {name} computes in {dtype}; set dtype = "{dtype}" in its entry')
    _try_kernel(name, model.dtype, device)
    layers = dict(_quantizable_layers(model))
    kept = {path: layer for path, layer in layers.items() if not _fits(layer, method)}
    kept_share = _count_weights(kept) / max(1, _count_weights(layers))
    if len(kept) == len(layers):
        raise ModelError(f"{model_name} has no linear layers that {name} could quantize; leave quantization out")
    if kept_share > MAX_KEPT_SHARE:
        path, layer = next(iter(kept.items()))
        raise ModelError(
            f"{name} takes layers whose inputs are a multiple of {method.multiple[0]} and outputs of "
            f"{method.multiple[1]}, but {path} of {model_name} has {layer.in_features} and {layer.out_features}; "
            "take another quantization"
        )
    for path, layer in layers.items():
        if path not in kept:
            _quantize_layer(layer.to(device), method)
    log.info("model.quantized", model=model_name, quantization=name, layers=len(layers) - len(kept), kept=len(kept))
    return model.to(device)


def _quantizable_layers(model: Any) -> Iterator[tuple[str, torch.nn.Linear]]:
    """Plain linear layers whose weights nothing else uses: the one before the vocabulary is often the embedding too."""
    output_layer = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    uses = Counter(id(module._parameters.get("weight")) for module in model.modules())
    for path, module in model.named_modules():
        if type(module) is torch.nn.Linear and module is not output_layer and uses[id(module.weight)] == 1:
            yield path, module


def _fits(layer: torch.nn.Linear, method: Method) -> bool:
    inputs, outputs = method.multiple
    return layer.in_features % inputs == 0 and layer.out_features % outputs == 0


def _count_weights(layers: dict[str, torch.nn.Linear]) -> int:
    return sum(layer.weight.numel() for layer in layers.values())


def _quantize_layer(layer: torch.nn.Linear, method: Method) -> None:
    from torchao.quantization import quantize_

    quantize_(layer, method.make_config(), filter_fn=lambda _module, _path: True)


@torch.inference_mode()
def _try_kernel(name: str, dtype: torch.dtype, device: torch.device) -> None:
    """Compute a few rows alone and together. Raises LoadFailed if that fails, or if rows change each other."""
    generator = torch.Generator().manual_seed(0)
    layer = torch.nn.Linear(TRIAL_SIZE, TRIAL_SIZE, dtype=dtype).requires_grad_(False)
    layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) / TRIAL_SIZE**0.5)
    rows = torch.randn(TRIAL_ROWS, TRIAL_SIZE, generator=generator).to(device, dtype)
    rows[-1] *= TRIAL_FACTOR
    try:
        _quantize_layer(layer.to(device), METHODS[name])
        together, alone = layer(rows), torch.cat([layer(row[None]) for row in rows])
    except Exception as error:  # a missing kernel may raise anything
        problem = f"{type(error).__name__}: {first_line(error)}"
        raise LoadFailed(f"quantization {name} does not run on this machine: {problem}") from error
    scale = alone.abs().amax(-1, keepdim=True)
    difference = float(((together - alone).abs() / scale).max())
    if not difference <= MAX_TRIAL_DIFFERENCE.get(dtype, 0.0):  # NaN is no agreement
        raise LoadFailed(f"quantization {name} lets rows change each other's answers on this machine")


def _import_torchao() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torchao.quantization  # noqa: F401
