"""The values of `quantization`, and the devices on which each can run. Pure except for reading the processor's name."""

from typing import Literal

from models.hardware import processor

# Those without a prefix are torch's own, or of bitsandbytes. "weights": the inputs of layers are not rounded.
Quantization = Literal["int8", "int4", "torchao-int8", "torchao-int8-weights", "torchao-int4-weights", "torchao-float8"]
ON_CPU = ("int8", "torchao-int8", "torchao-int8-weights")
NEED_VNNI = ("torchao-int8",)
# They round the inputs of layers in steps. Layers in float before them, such as those of an adapter, differ in their
# last bits between passes of other sizes, and a step makes that a visible difference.
ENLARGE_FLOAT_DIFFERENCES = ("torchao-int8", "torchao-float8")


def device_problem(name: str | None, kind: str) -> str | None:
    """Return a sentence with advice if this quantization can't run on such a device; None = it can, or none is set.

    kind: cpu, cuda or mps; the processor is that of this machine.
    """
    if name is None or kind == "cuda":
        return None
    if kind != "cpu":
        return f"quantization {name} needs a CUDA device{' or a CPU' if name in ON_CPU else ''}; this is {kind}"
    if name not in ON_CPU:
        return f"quantization {name} needs a CUDA device; on a CPU there are {', '.join(ON_CPU)}"
    # Without these instructions sums of products overflow, or answers would differ from those of other machines.
    if name in NEED_VNNI and not processor.multiplies_int8():
        return f"quantization {name} needs a CPU with VNNI instructions; int8 and torchao-int8-weights need none"
    return None
