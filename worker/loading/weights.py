"""Weights: a model from a snapshot's files onto a device, in the precision asked for, or a sentence why not."""

import re
from typing import Any

import torch
from transformers import AutoConfig

from models.errors import LoadFailed, ModelError
from models.pipelines.pipeline import Pipeline
from worker.layers import int8_linear, onednn_linear
from worker.loading import load_errors, vetting
from worker.loading.snapshots import Snapshot

# Architectures end in what they can do. Where the config names one, it is held to the task: some heads share their
# weights' names (ModernBERT's for tokens and for texts), and would load without a word.
ARCHITECTURE_SUFFIXES = {
    "AutoModelForSequenceClassification": "ForSequenceClassification",
    "AutoModelForTokenClassification": "ForTokenClassification",
    "AutoModelForQuestionAnswering": "ForQuestionAnswering",
    "AutoModelForMaskedLM": "ForMaskedLM",
}
ARCHITECTURE_SUFFIX = re.compile(
    r"For(SequenceClassification|TokenClassification|QuestionAnswering|MaskedLM|MultipleChoice)$"
)

QUANTIZATION_BITS = {"int8": 8, "int4": 4}


def resolve_device(name: str) -> torch.device:
    """The device that a name means here; `auto` is the best there is. Raises LoadFailed where it is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    found = torch.device(name)
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(found.type):
        raise LoadFailed(f"device {name} is not on this machine; set device to cpu or auto")
    if found.type != "cuda":
        return found
    index = found.index or 0
    if index >= torch.cuda.device_count():
        raise LoadFailed(f"device {name} is not on this machine, which has {torch.cuda.device_count()} CUDA devices")
    return torch.device("cuda", index)


def load(pipeline: Pipeline, auto_model_class: Any, files: Snapshot, device: torch.device) -> Any:
    """The model, ready for inference; `auto` is transformers' class for the task. Raises ModelError or LoadFailed."""
    _check_architecture(files, auto_model_class)
    # Passed even where it is None, so that transformers takes nothing from the files that was not vetted.
    attention = pipeline.attention or vetting.requested_attention(files.config)
    options: dict[str, Any] = {"dtype": _dtype(pipeline, device), "attn_implementation": attention}
    if pipeline.quantization and device.type != "cpu":
        options |= _bitsandbytes_options(pipeline.quantization, device)
    try:
        only = {"trust_remote_code": False, "local_files_only": True}
        # Read on its own: beside the weights it would overrule the attention that is passed with them.
        config = AutoConfig.from_pretrained(files.folder, **only)
        model, report = auto_model_class.from_pretrained(
            files.folder, config=config, use_safetensors=True, output_loading_info=True, **only, **options
        )
    except Exception as error:  # whatever a broken folder makes transformers raise
        if "Unrecognized configuration class" in str(error):
            kind = files.config.get("model_type")
            raise ModelError(f"{files.name} is a {kind} model, which can't do this task; name another model") from error
        raise load_errors.classify(error, files.name, files.revision) from error
    lacking = sorted({*report["missing_keys"], *(str(key) for key in report["mismatched_keys"])})
    if lacking:
        # transformers would fill these with random numbers and only warn.
        raise ModelError(f"{files.name} is not a model for this task: it has no weights for {', '.join(lacking[:3])}")
    if pipeline.folder is not None and device.type == "cpu":  # a move to another device copies them anyway
        _detach_from_file(model)
    if pipeline.quantization and device.type == "cpu":
        return _quantize_dynamic_int8(pipeline.quantization, files, model.eval())
    model = (model if pipeline.quantization else model.to(device)).eval()
    # Where the same bits are promised in any company, it is by what MKL does with rows: see Collation.
    if device.type == "cpu" and model.dtype == torch.float32 and not pipeline.deterministic:
        onednn_linear.use_onednn(model)
    return model


def _detach_from_file(model: Any) -> None:
    """Copy weights that are read from their file as they are used: one that is written over would change them."""
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()


def _check_architecture(files: Snapshot, auto_model_class: Any) -> None:
    for name in files.config.get("architectures") or ():
        other = ARCHITECTURE_SUFFIX.search(str(name))
        if other and ARCHITECTURE_SUFFIXES.get(auto_model_class.__name__) != other[0]:
            raise ModelError(f"{files.name} is a {name}, which is not a model for this task; name another model")


def _dtype(pipeline: Pipeline, device: torch.device) -> Any:
    if pipeline.dtype != "auto":
        return getattr(torch, pipeline.dtype)
    # Said outright: transformers' own default is the checkpoint's, which may be fp16, very slow on a CPU.
    return torch.float32 if device.type == "cpu" else "auto"


def _bitsandbytes_options(quantization: str, device: torch.device) -> dict[str, Any]:
    """What `from_pretrained` needs to quantize while it loads; the model lands on the device by itself."""
    if device.type != "cuda":
        raise LoadFailed(f"quantization {quantization} needs CUDA, or int8 a CPU; this is {device.type}")
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        install = "pip install -c constraints.txt '.[quantization]'"
        raise LoadFailed(f"quantization {quantization} on CUDA needs bitsandbytes; run: {install}") from None
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(**{f"load_in_{QUANTIZATION_BITS[quantization]}bit": True})
    return {"quantization_config": config, "device_map": {"": device.index or 0}}


def _quantize_dynamic_int8(quantization: str, files: Snapshot, model: Any) -> Any:
    """int8 weights for linear layers, with activations by their range at run time."""
    if quantization != "int8":
        raise LoadFailed(f"quantization {quantization} needs a CUDA device; on a CPU there is int8")
    if model.dtype != torch.float32:
        raise LoadFailed("quantization int8 on a CPU goes with dtype float32 only; leave dtype at auto")
    if not int8_linear.quantize(model):
        raise ModelError(f"{files.name} has no linear layers that int8 could quantize; leave quantization out")
    return model
