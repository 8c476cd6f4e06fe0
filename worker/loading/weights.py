"""Weight loading puts a snapshot's model on a device in the requested precision, or explains why it can't."""

import os
import re
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedModel

from models.errors import LoadFailed, ModelError
from models.hardware.gpus import VISIBLE_DEVICES
from models.pipelines.pipeline import Pipeline
from worker.layers import fused_gelu, onednn_linear
from worker.loading import load_errors, vetting
from worker.loading.large_models import quantization
from worker.loading.snapshots import Snapshot

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


def load(pipeline: Pipeline, auto_model_class: Any, files: Snapshot, device: torch.device) -> Any:
    """Return the model, ready for inference.

    auto_model_class: the auto class of transformers for the task, or a model class of an own task.

    Raises ModelError if the files do not fit the task, and LoadFailed if this machine can't load them.
    """
    _check_architecture(files, auto_model_class)
    # Passed even if it is None, so that transformers reads no unchecked attention from the files.
    attention = pipeline.attention or vetting.requested_attention(files.config)
    options: dict[str, Any] = {"dtype": _dtype(pipeline, device), "attn_implementation": attention}
    options |= quantization.load_options(pipeline, files, device)
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
    missing = sorted({*report["missing_keys"], *(str(key) for key in report["mismatched_keys"])})
    if missing:
        # transformers would initialize these randomly and only warn.
        raise ModelError(f"{files.name} is not a model for this task: it has no weights for {', '.join(missing[:3])}")
    if pipeline.folder is not None and device.type == "cpu":  # on other devices the weights are copies anyway
        _detach_from_file(model)
    if pipeline.quantization:
        return quantization.apply(pipeline, files, model.eval(), device)
    model = model.to(device).eval()
    # Deterministic pipelines stay on MKL, because their equal bits rely on how it treats rows: see Collation.
    if device.type == "cpu" and not pipeline.deterministic:
        onednn_linear.use_onednn(model)
        fused_gelu.fuse(model)
    return model


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
