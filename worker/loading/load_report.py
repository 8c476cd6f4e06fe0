"""The log of a load: what was loaded, and what an operator should know of it."""

import time
from typing import TYPE_CHECKING

import structlog

from models.pipelines import precision
from models.pipelines.pipeline import Pipeline
from worker.adapters.interface import Limits
from worker.loading.lora.adapter_files import AdapterFiles

if TYPE_CHECKING:
    from worker.loading.runtime import Role, Runtime

log = structlog.get_logger(__name__)


def log_loaded(pipeline_name: str, runtime: "Runtime", limits: Limits, started_at: float, role: "Role") -> None:
    """Log a loaded pipeline or guard, with all that decides its speed and its results."""
    loaded = runtime.version
    log.info(
        "model.loaded",
        pipeline=pipeline_name,
        role=role,
        model=loaded.model,
        revision=loaded.revision,
        adapter=loaded.adapter,
        adapter_revision=loaded.adapter_revision,
        tokenizer=loaded.tokenizer,
        dtype=loaded.dtype,
        quantization=loaded.quantization,
        device_name=loaded.device,
        attention=loaded.attention,
        max_length=limits.max_length,
        truncation=limits.truncation,
        deterministic=limits.deterministic,
        packed=runtime.adapter.uses_packing,
        micro_batch_tokens=runtime.micro_batch_tokens,
        seconds=round(time.monotonic() - started_at, 2),
    )


def warn_of_other_base(pipeline: Pipeline, lora_files: AdapterFiles | None) -> None:
    """Warn of an adapter that was trained on another model."""
    if lora_files is not None and lora_files.is_for_other(pipeline.model):
        log.warning(
            "adapter.other_model",
            pipeline=pipeline.name,
            adapter=lora_files.snapshot.name,
            model=pipeline.model,
            trained_on=lora_files.trained_on,
        )


def warn_of_slow_dtype(pipeline: Pipeline, runtime: "Runtime") -> None:
    """Warn of a dtype that is slow on this device."""
    loaded, kind = runtime.version, runtime.device.type
    if kind in ("cpu", "cuda") and (reason := precision.slow_dtype_warning(pipeline, kind, loaded.dtype)):
        log.warning(
            "model.slow_dtype", pipeline=pipeline.name, dtype=loaded.dtype, device_name=loaded.device, reason=reason
        )
