"""A LoRA adapter's layers in a model, added by peft, which may share its weights with models of other adapters.

Layers are not merged, because merged ones would need weights of their own. No tensor of the model is changed in place:
weights that an adapter has in full take the place of the model's in this model only.
"""

import re
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from safetensors.torch import load_file

from models.errors import BatchmillError, ModelError
from worker.layers import int8_linear
from worker.layers.int8_linear import Int8Linear
from worker.loading import load_errors
from worker.loading.lora.adapter_files import AdapterFiles
from worker.loading.lora.peft_package import import_peft

PREFIX = "base_model.model."  # of all names in an adapter's file
LAYER_MARK = "lora_"  # in the names of an adapter's own layers
WRAPPERS = re.compile(r"\.(base_layer|modules_to_save)(?=\.)")  # in the names of weights that peft wraps
UNTRAINED = ".original_module."  # in the names of weights that others replace
LABEL_HEADS = ("ForSequenceClassification", "ForTokenClassification")
SHOWN_NAMES = 3
MAX_REASON_CHARACTERS = 200

Weights = Mapping[str, torch.Tensor]


def add_adapter(model: Any, files: AdapterFiles) -> frozenset[str]:
    """Add the adapter's layers to a model, and return the names of the weights that it has in full.

    Raises ModelError if it does not fit the model, and LoadFailed if peft is missing.
    """
    with _attribute_errors(files):
        own, full = _split(files, load_file(files.weights_path))
        label_count = getattr(model.config, "num_labels", 0)
        for name, tensor in full.items():
            _replace_parameter(model, name, tensor, files, label_count)
        _check_whole_modules(model, full, files)
        _check_rows(model, full, files)
        _set_labels(model, files)
        _add_layers(model, own, files)
    return frozenset(full)


@contextmanager
def _attribute_errors(files: AdapterFiles) -> Iterator[None]:
    """Errors inside this context name the adapter, not its model; those of the machine stay such."""
    try:
        yield
    except BatchmillError:
        raise
    except Exception as error:  # its files can make peft raise anything
        problem = load_errors.classify(error, files.snapshot.name, files.snapshot.revision)
        if isinstance(problem, ModelError):
            problem = ModelError(f"{files.snapshot.name} does not fit its model: {_describe(error)}")
        raise problem from error


def _describe(error: Exception) -> str:
    """The first line of an error that says something: torch's own first line is a heading."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = next((line for line in lines if not line.endswith(":")), type(error).__name__)
    return reason[:MAX_REASON_CHARACTERS]


def _split(files: AdapterFiles, tensors: Weights) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Split an adapter's weights into those of its layers and those that it has in full, by names in the model."""
    own: dict[str, torch.Tensor] = {}
    full: dict[str, torch.Tensor] = {}
    for key, mapped in tensors.items():
        tensor = mapped.clone()  # the file is mapped into memory, and overwriting it would change the numbers
        name = key.removeprefix(PREFIX)
        if LAYER_MARK in name:
            own[key] = tensor
        elif UNTRAINED not in name:
            full[WRAPPERS.sub("", name)] = tensor
    if not own:
        raise ModelError(f"{files.snapshot.name} has no weights of LoRA layers; name an adapter that is one")
    return own, full


def _replace_parameter(model: Any, name: str, tensor: torch.Tensor, files: AdapterFiles, label_count: int) -> None:
    module_name, _, parameter_name = name.rpartition(".")
    try:
        module = _float_module(model, module_name)
        old = module.get_parameter(parameter_name)
    except AttributeError:
        raise ModelError(
            f"{files.snapshot.name} has weights for {name}, which the model lacks; name its model"
        ) from None
    if old.shape != tensor.shape and not _is_other_label_count(model, label_count, old, tensor):
        raise ModelError(
            f"{files.snapshot.name} has {name} in the shape {tuple(tensor.shape)}, and the model in "
            f"{tuple(old.shape)}; name the model that it was trained on"
        )
    dtype = old.dtype if old.dtype.is_floating_point else tensor.dtype
    new = torch.nn.Parameter(tensor.to(old.device, dtype), requires_grad=False)
    setattr(module, parameter_name, new)
    if not module_name.endswith(files.whole_modules or ("\0",)):
        _replace_tied(model, module, old, new)
    if old.shape != tensor.shape:
        module.out_features = len(tensor)
        if model.config.num_labels != len(tensor):
            model.config.num_labels = len(tensor)  # names them LABEL_0 and so on
        model.num_labels = len(tensor)


def _replace_tied(model: Any, module: Any, old: torch.nn.Parameter, new: torch.nn.Parameter) -> None:
    """Replace a parameter in all other modules that have it, such as the output layer that is tied to embeddings.

    peft does so by copying numbers, except for modules in full, which it unties.
    """
    for other in list(model.modules()):
        for name, parameter in list(other._parameters.items()):
            if parameter is old:
                setattr(other, name, new)
    has_ties = getattr(model.config, "tie_word_embeddings", False) and module is model.get_input_embeddings()
    output = model.get_output_embeddings() if has_ties else None
    if isinstance(output, Int8Linear):  # its numbers are those of the old embeddings
        linear = output.to_linear()
        linear.weight = new
        names = [name for name, layer in model.named_modules() if layer is output]
        for name in names:
            model.set_submodule(name, linear)


@contextmanager
def _int8_layers_as_linear(model: Any) -> Iterator[None]:
    """Int8 layers are linear layers without numbers inside this context, because peft knows only those."""
    layers = {name: module for name, module in model.named_modules() if isinstance(module, int8_linear.LAYERS)}
    stand_ins = {}
    for name, layer in layers.items():
        stand_in = torch.nn.Linear(layer.in_features, layer.out_features, device="meta")
        model.set_submodule(name, stand_in)
        stand_ins[stand_in] = layer
    yield
    for name, module in list(model.named_modules()):
        if module in stand_ins:
            model.set_submodule(name, stand_ins[module])


def _float_module(model: Any, name: str) -> Any:
    """Return a module; an int8 layer is replaced by one that has its weights as parameters."""
    module = model.get_submodule(name)
    if isinstance(module, Int8Linear):
        module = module.to_linear()
        model.set_submodule(name, module)
    return module


def _is_other_label_count(model: Any, label_count: int, old: torch.Tensor, new: torch.Tensor) -> bool:
    """Whether a weight has one row for each label, of which the adapter has another number than the model."""
    has_label_head = type(model).__name__.endswith(LABEL_HEADS)
    return has_label_head and old.dim() > 0 and len(old) == label_count and old.shape[1:] == new.shape[1:]


def _check_whole_modules(model: Any, full: Collection[str], files: AdapterFiles) -> None:
    """Raise ModelError if a module that the adapter should have in full has weights that it lacks."""
    for module_name, module in model.named_modules():
        if not module_name.endswith(files.whole_modules or ("\0",)):
            continue
        names = (f"{module_name}.{name}" for name, _ in module.named_parameters())
        if lacking := [name for name in names if name not in full]:
            raise ModelError(f"{files.snapshot.name} lacks weights for {lacking[0]}, which its configuration names")


def _check_rows(model: Any, full: Collection[str], files: AdapterFiles) -> None:
    """Raise ModelError if a layer in full has no rows, or another number of them than its bias."""
    for module_name in {name.rpartition(".")[0] for name in full}:
        layer = model.get_submodule(module_name)
        if not isinstance(layer, torch.nn.Linear):
            continue
        rows, biases = len(layer.weight), None if layer.bias is None else len(layer.bias)
        if not rows or biases not in (None, rows):
            numbers = f"{rows} rows" if biases is None else f"{rows} rows and {biases} biases"
            raise ModelError(f"{files.snapshot.name} gives {module_name} {numbers}; save the adapter again")


def _set_labels(model: Any, files: AdapterFiles) -> None:
    labels = files.labels
    if labels and type(model).__name__.endswith(LABEL_HEADS) and len(labels) == model.config.num_labels:
        model.config.id2label = dict(labels)
        model.config.label2id = {label: number for number, label in labels.items()}


def _add_layers(model: Any, own: Weights, files: AdapterFiles) -> None:
    if files.layer_options.get("use_dora") and any(isinstance(part, int8_linear.LAYERS) for part in model.modules()):
        raise ModelError(f"{files.snapshot.name} is DoRA, which needs the weights in float; leave quantization out")
    peft = import_peft()
    config = peft.LoraConfig(**files.layer_options, inference_mode=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # everything that would do harm is checked below
        # On no device at first, so that nothing is initialized, and nothing depends on random numbers.
        with _int8_layers_as_linear(model):
            peft.inject_adapter_in_model(config, model, low_cpu_mem_usage=True)
        result = peft.set_peft_model_state_dict(model, dict(own), low_cpu_mem_usage=True)
    unused = [key for key in result.unexpected_keys if LAYER_MARK in key]
    unfilled = [name for name, parameter in model.named_parameters() if parameter.is_meta]
    if problem := (unused or unfilled)[:SHOWN_NAMES]:
        has = "has weights without a layer" if unused else "lacks weights"
        raise ModelError(f"{files.snapshot.name} {has}: {', '.join(problem)}; name the model that it was trained on")
    model.eval().requires_grad_(False)
