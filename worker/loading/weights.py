"""Weight loading puts a snapshot's model on a device in the requested precision, or explains why it can't."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedModel

from models.errors import LoadFailed, ModelError
from models.hardware.gpus import VISIBLE_DEVICES
from models.pipelines.pipeline import Pipeline
from models.tasks.own.own_spec import OwnTaskSpec
from worker.layers import fused_gelu, onednn_linear
from worker.loading import load_errors, shared_weights
from worker.loading.files import vetting
from worker.loading.files.snapshots import Snapshot
from worker.loading.large_models import device_map, quantization
from worker.loading.lora.adapter_files import AdapterFiles
from worker.loading.lora.adapter_layers import add_adapter
from worker.loading.shared_weights import BaseModel

# The suffix of an architecture names its task. If the config names one, it must match: some heads share the names of
# their weights (ModernBERT's for tokens and for texts) and would load silently.
ARCHITECTURE_SUFFIXES = {
    "AutoModelForSequenceClassification": "ForSequenceClassification",
    "AutoModelForTokenClassification": "ForTokenClassification",
    "AutoModelForQuestionAnswering": "ForQuestionAnswering",
    "AutoModelForMaskedLM": "ForMaskedLM",
    "AutoModelForCausalLM": "ForCausalLM",
}
ARCHITECTURE_SUFFIX = re.compile(
    r"For(SequenceClassification|TokenClassification|QuestionAnswering|MaskedLM|CausalLM|MultipleChoice)$"
)
HEAD_CLASS_PREFIX = "AutoModelFor"

DEVICE_ADVICE = "start the workers with --devices cpu, or set device to cpu or auto if the entry names it"


def resolve_device(name: str) -> torch.device:
    """Return the device with this name; `auto` means the best one available. Raises LoadFailed if it is missing."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device = torch.device(name)
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(device.type):
        raise LoadFailed(f"device {name} is not on this machine{_describe_cuda(device)}; {DEVICE_ADVICE}")
    if device.type != "cuda":
        return device
    index = device.index or 0
    if index >= torch.cuda.device_count():
        raise LoadFailed(f"device {name} is not on this machine, which has {torch.cuda.device_count()} CUDA devices")
    return torch.device("cuda", index)


def _describe_cuda(device: torch.device) -> str:
    """Return why CUDA may be missing though the machine has a GPU."""
    if device.type != "cuda":
        return ""
    visible = os.environ.get(VISIBLE_DEVICES)
    limit = "" if visible is None else f" ({VISIBLE_DEVICES} is {visible!r})"
    return limit + ("" if torch.version.cuda else ", or not for this build of torch, which is one for CPUs only")


def load(
    pipeline: Pipeline,
    auto_model_class: Any,
    files: Snapshot,
    device: torch.device,
    adapter: AdapterFiles | None = None,
    offload_parent: Path | None = None,
) -> Any:
    """Return the model, ready for inference; it may share its weights with other models over the same files.

    auto_model_class: the auto class of transformers for the task, or a model class of an own task.
    adapter: the LoRA adapter on top of the model.
    offload_parent: the folder in which weights on disk get one of their own, None = the temporary folder.

    Raises ModelError if the files do not fit the task, and LoadFailed if this machine can't load them.
    """
    if adapter is None:
        _check_architecture(files, auto_model_class)
    if pipeline.device_map is not None:
        return _load_spread(pipeline, auto_model_class, files, device, offload_parent)
    model, missing = _load_base(pipeline, auto_model_class, files, device)
    replaced = add_adapter(model, adapter) if adapter is not None else frozenset()
    if adapter is not None and not replaced:
        _check_architecture(files, auto_model_class)  # an adapter without a head needs that of the model
    _check_complete(files, [name for name in missing if name not in replaced], adapter)
    # Deterministic pipelines stay on MKL, because their equal bits rely on how it treats rows: see Collation.
    if device.type == "cpu" and not pipeline.deterministic and not pipeline.quantization:
        onednn_linear.use_onednn(model)
        fused_gelu.fuse(model)
    return model


def _load_base(
    pipeline: Pipeline, auto_model_class: Any, files: Snapshot, device: torch.device
) -> tuple[Any, Sequence[str]]:
    """Return the model on its device, quantized if the pipeline asks for it, and the weights that its files lack.

    Weights in memory are shared, except those of own tasks, and on GPUs those that are quantized.
    """

    def load() -> BaseModel:
        options = quantization.load_options(pipeline, files, device)
        model, missing = _load_weights(pipeline, auto_model_class, files, device, options)
        if pipeline.quantization:
            return BaseModel(quantization.apply(pipeline, files, model, device), missing)
        return BaseModel(model.to(device), missing)

    is_quantized_elsewhere = pipeline.quantization is not None and (
        pipeline.quantization != "int8" or device.type != "cpu"
    )
    # The code of an own task may change numbers in place, which would change them for others.
    if is_quantized_elsewhere or isinstance(pipeline.spec, OwnTaskSpec):
        base = load()
        return base.model, base.missing
    attention = repr(pipeline.attention or vetting.requested_attention(files.config))
    settings = (str(_dtype(pipeline, device)), attention, str(device), pipeline.quantization)
    key = (files.name, str(files.folder), files.revision, auto_model_class, *settings)
    return shared_weights.share(key, device, load)


def _load_spread(
    pipeline: Pipeline, auto_model_class: Any, files: Snapshot, device: torch.device, offload_parent: Path | None
) -> Any:
    """Spread the model; its layers stay as they are, because Accelerate brings weights to them."""
    spread = device_map.SpreadLoad(pipeline, device, offload_parent)
    try:
        model, missing = _load_weights(pipeline, auto_model_class, files, device, spread.options)
        _check_complete(files, missing)
        return spread.finish(files, model)
    except BaseException:
        spread.abandon()
        raise


def _load_weights(
    pipeline: Pipeline, auto_model_class: Any, files: Snapshot, device: torch.device, more_options: dict[str, Any]
) -> tuple[Any, tuple[str, ...]]:
    """Return the model as transformers loads it with these options, and the weights that its files lack."""
    # Passed even if it is None, so that transformers reads no unchecked attention from the files.
    attention = pipeline.attention or vetting.requested_attention(files.config)
    options: dict[str, Any] = {"dtype": _dtype(pipeline, device), "attn_implementation": attention}
    options |= more_options
    try:
        local_only = {"trust_remote_code": False, "local_files_only": True}
        # Loaded separately, because the attention in the config would otherwise override the one passed below.
        folder = files.transformer_folder
        config = _config_class(auto_model_class).from_pretrained(folder, **local_only)
        model, report = auto_model_class.from_pretrained(
            folder, config=config, use_safetensors=True, output_loading_info=True, **local_only, **options
        )
    except Exception as error:  # a broken folder can make transformers raise anything
        if "Unrecognized configuration class" in str(error):
            kind = files.config.get("model_type")
            raise ModelError(f"{files.name} is a {kind} model, which can't do this task; name another model") from error
        raise load_errors.classify(error, files.name, files.revision) from error
    missing = tuple(sorted({*report["missing_keys"], *(str(key) for key in report["mismatched_keys"])}))
    if pipeline.folder is not None and device.type == "cpu":  # on other devices the weights are copies anyway
        _detach_from_file(model)
    return model.eval(), missing


def _check_complete(files: Snapshot, missing: Sequence[str], adapter: AdapterFiles | None = None) -> None:
    """Raise ModelError if a model lacks weights, which transformers would initialize randomly and only warn."""
    if missing:
        beside = f", and neither has {adapter.snapshot.name}" if adapter is not None else ""
        raise ModelError(
            f"{files.name} is not a model for this task: it has no weights for {', '.join(missing[:3])}{beside}"
        )


def _detach_from_file(model: Any) -> None:
    """Copy memory-mapped weights, because overwriting their file would change them."""
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()


def _check_architecture(files: Snapshot, model_class: Any) -> None:
    class_name = model_class.__name__
    if not class_name.startswith(HEAD_CLASS_PREFIX):
        return  # a model for any task also gives the vectors of tokens, and other classes have heads of all kinds
    for name in files.config.get("architectures") or ():
        suffix = ARCHITECTURE_SUFFIX.search(str(name))
        if suffix and ARCHITECTURE_SUFFIXES.get(class_name) != suffix[0]:
            raise ModelError(f"{files.name} is a {name}, which is not a model for this task; name another model")


def _config_class(model_class: Any) -> Any:
    """The class that reads a model's config.json: transformers' auto class does not know those of an own task."""
    is_own = isinstance(model_class, type) and issubclass(model_class, PreTrainedModel)
    return (is_own and model_class.config_class) or AutoConfig


def _dtype(pipeline: Pipeline, device: torch.device) -> Any:
    if pipeline.dtype != "auto":
        return getattr(torch, pipeline.dtype)
    # Explicit, because the default is the checkpoint's dtype, which may be fp16: very slow on a CPU.
    return torch.float32 if device.type == "cpu" else "auto"
