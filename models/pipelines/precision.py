"""The dtype in which a pipeline computes on a kind of device, and whether another would be faster there."""

from collections.abc import Mapping
from typing import Any

from models.hardware import processor
from models.pipelines.checkpoint import BYTES_PER_VALUE, Checkpoint
from models.pipelines.pipeline import Pipeline

# An H100's datasheet has 989 TFLOP/s for float16 with tensor cores and 67 for float32 without, a factor of 15. The rest
# of a pass moves memory, at a factor of 2. Both take about equally long in a small encoder in float16: (15 + 2) / 2.
# torch multiplies float32 without TF32 by default. This is arithmetic: nothing was measured on CUDA yet.
FLOAT32_FACTOR_ON_CUDA = 8


def effective_dtype(
    pipeline: Pipeline, kind: str, config: Mapping[str, Any], checkpoint: Checkpoint | None
) -> str | None:
    """Return the dtype in which a worker runs the pipeline; None = not known without the model's files.

    kind: cpu or cuda.
    config: the content of config.json; `auto` takes the dtype that it names, else the one of the weights.
    """
    if pipeline.dtype != "auto":
        return pipeline.dtype
    if kind == "cpu":
        return "float32"
    named = config.get("dtype") or config.get("torch_dtype")
    if isinstance(named, str) and (dtype := named.removeprefix("torch.")) in BYTES_PER_VALUE:
        return dtype
    return checkpoint.dtype if checkpoint else None


def slow_dtype_warning(pipeline: Pipeline, kind: str, dtype: str | None) -> str | None:
    """Return a sentence if the pipeline computes slowly in this dtype on such a device; None = it does not.

    An entry that names float32 for a GPU is taken at its word.
    """
    name = pipeline.name
    if kind == "cuda":
        if dtype != "float32" or pipeline.dtype == "float32" or pipeline.quantization:
            return None
        return (
            f"{name} computes in float32, the dtype of its files, about {FLOAT32_FACTOR_ON_CUDA} times slower on a GPU "
            "than in float16, by an estimate from datasheets; "
            f'set dtype = "float16" or "bfloat16" in [pipelines.{name}], or "float32" to keep it'
        )
    if dtype not in processor.INSTRUCTIONS_BY_DTYPE or processor.has_instructions_for(dtype) is not False:
        return None
    return (
        f"{name} computes in {dtype}, for which this processor has no instructions, so it is slower than in float32; "
        f'set dtype = "float32" in [pipelines.{name}]'
    )
