"""The version of a loaded pipeline: all that may change a result, as each result names it."""

from importlib import metadata
from typing import Any

import torch

from models.pipelines.pipeline import Pipeline
from models.version import full_version
from worker.adapters.control import output_schemas
from worker.loading.files.snapshots import Snapshot
from worker.loading.large_models import quantization
from worker.loading.lora.adapter_files import AdapterFiles
from worker.loading.versions import RuntimeVersion

RECORDED_LIBRARIES = ("transformers", "tokenizers")


def describe(
    pipeline: Pipeline, model_files: Snapshot, tokenizer_files: Snapshot, model: Any, lora_files: AdapterFiles | None
) -> RuntimeVersion:
    """Return the version of this model with these files."""
    device = model.device
    return RuntimeVersion(
        task=pipeline.task,
        model=model_files.name,
        revision=model_files.revision,
        tokenizer=tokenizer_files.name,
        tokenizer_revision=tokenizer_files.revision,
        dtype=str(model.dtype).removeprefix("torch."),
        quantization=pipeline.quantization,
        attention=model.config._attn_implementation or "eager",
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        libraries=library_versions() | _extra_versions(pipeline, device) | _code_versions(pipeline),
        adapter=lora_files.snapshot.name if lora_files else None,
        adapter_revision=lora_files.snapshot.revision if lora_files else None,
    )


def library_versions() -> dict[str, str]:
    """Return the versions that may change a result, Batchmill's with its commit."""
    libraries = {name: metadata.version(name) for name in RECORDED_LIBRARIES}
    return {"batchmill": full_version(), "torch": torch.__version__, **libraries}


def _code_versions(pipeline: Pipeline) -> dict[str, str]:
    """The versions of the operator's own code, all of it loaded."""
    return {name: version for name, version in pipeline.operator_code.items() if version is not None}


def _extra_versions(pipeline: Pipeline, device: torch.device) -> dict[str, str]:
    """The versions of the packages that only some pipelines need."""
    packages = (
        quantization.package(pipeline.quantization, device),
        pipeline.device_map and "accelerate",
        pipeline.adapter and "peft",
        output_schemas.installed_package() if "output_schema" in pipeline.spec.parameters.model_fields else None,
    )
    return {package: metadata.version(package) for package in packages if package}
