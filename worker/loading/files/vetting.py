"""Vetting rejects model files that name code to run; it is pure except for reading the files.

transformers follows many configuration keys to Python files, native kernels on the Hub, packages or other repositories.
Keys that name code are rejected, and names of implementations must be in an allowlist.
"""

import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from models.embedding.sentence_files import transformer_folder
from models.errors import ModelError

# Implementations within transformers itself; it treats any other name as a repository of native code.
ATTENTION_IMPLEMENTATIONS = (
    "eager",
    "sdpa",
    "flash_attention_2",
    "flash_attention_3",
    "flash_attention_4",
    "flex_attention",
)
EXPERTS_IMPLEMENTATIONS = ("eager", "batched_mm", "grouped_mm")
QUANTIZATION_METHODS = ("bitsandbytes",)  # the only method whose package is in one of our extras

ATTENTION_KEYS = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal")
EXPERTS_KEYS = ("experts_implementation", "_experts_implementation", "_experts_implementation_internal")
DTYPE_KEYS = ("dtype", "torch_dtype")
CODE_KEYS = (
    "auto_map",
    "custom_pipelines",
    "custom_generate",
    "trust_remote_code",
    "use_kernels",
    "kernel_config",
    "allow_all_kernels",
    "fusion_config",
    "distributed_config",
)
# With these keys, transformers would read files that are not checked here.
OTHER_FILE_KEYS = ("configuration_files", "init_inputs", "gguf_file")
LABEL_KEYS = ("id2label", "label2id")  # free-form labels, whose keys are not configuration

DTYPE_NAME = re.compile(r"(torch\.)?(auto|float|double|half|(float|bfloat|int|uint|complex)\d\w*)")
TOKENIZER_CLASS_NAME = re.compile(r"[A-Za-z]\w*(Tokenizer|TokenizerFast|Backend)")

# Files that transformers reads as configuration; vocabularies are data, so their words are not checked.
CONFIG_FILE_NAME = re.compile(
    r"(config|generation_config|tokenizer_config|special_tokens_map|processor_config|preprocessor_config|"
    r"chat_template|params|tekken|config\..*|tokenizer_config\..*)\.json"
)
DECISION_FILE_NAME = "decision.json"
MAX_CONFIG_BYTES = 64 << 20  # large, because tekken.json contains a vocabulary
MAX_CONFIG_DEPTH = 100


def check(name: str, folder: Path) -> None:
    """Check a model's or tokenizer's files. Raises ModelError if they name code to run, or files elsewhere."""
    if any((place / "adapter_config.json").exists() for place in (folder, transformer_folder(folder))):
        raise ModelError(
            f"{name} holds an adapter (adapter_config.json), which belongs on top of a model; set model to "
            "that one, and adapter to this"
        )
    check_files(name, folder)


def check_files(name: str, folder: Path) -> None:
    """Check the files of a model or an adapter one by one, as `check` does."""
    for path in _regular_files(name, folder):
        if CONFIG_FILE_NAME.fullmatch(path.name):
            _check_config(name, path)
        elif path.name.endswith(".safetensors.index.json"):
            _check_index(name, path)
        elif path.name == DECISION_FILE_NAME:
            _check_decision(name, path)


def read_json(name: str, path: Path) -> Any:
    """Return a JSON file's content. Raises ModelError if it is unreadable, FileNotFoundError if it is missing."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ModelError(f"{name}: {path.name} is not a regular file")
            content = file.read(MAX_CONFIG_BYTES + 1)
        if len(content) > MAX_CONFIG_BYTES:
            raise ModelError(
                f"{name}: {path.name} has more than {MAX_CONFIG_BYTES >> 20} MiB, which no configuration has"
            )
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{name}: {path.name} can't be read: {str(error)[:200]}") from None


def requested_attention(config: Mapping[str, Any]) -> Any:
    """Return the attention of a vetted config: one name, a name for each part of the model, or None."""
    return next((config[key] for key in ATTENTION_KEYS[:2] if config.get(key)), None)


def _regular_files(name: str, folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        if path.is_dir():
            if path.is_symlink():
                raise ModelError(f"{name}: {path.name} is a link to a folder, whose files are in no revision; copy it")
        elif path.is_file():
            yield path
        elif path.exists():
            raise ModelError(f"{name}: {path.name} is not a regular file; take it out of the folder")


def _check_config(name: str, path: Path) -> None:
    content = read_json(name, path)
    if path.name == "config.json" and not isinstance(content, dict):
        raise ModelError(f"{name}: config.json is not an object")
    for key, value in _walk_entries(name, path, content):
        check_value = ENTRY_CHECKS.get(key)
        if check_value is not None and (problem := check_value(value)):
            raise ModelError(f"{name} {problem} ({key} in {path.name}); that is refused")


def _walk_entries(name: str, path: Path, value: Any, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield all keys with their values at any depth, except those inside labels."""
    if depth > MAX_CONFIG_DEPTH:
        raise ModelError(f"{name}: {path.name} is nested more than {MAX_CONFIG_DEPTH} deep, which no configuration is")
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            if key not in LABEL_KEYS:
                yield from _walk_entries(name, path, inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _walk_entries(name, path, inner, depth + 1)


def _check_decision(name: str, path: Path) -> None:
    """Reject a LoRA that the pipeline of transformers would add to the model; its weights may be of any format."""
    content = read_json(name, path)
    if not isinstance(content, dict):
        raise ModelError(f"{name}: {path.name} is not an object")
    if content.get("adapter"):
        raise ModelError(f"{name} asks for an adapter (adapter in {path.name}); merge it into the model")


def _code_problem(value: Any) -> str | None:
    return "asks to run its own code" if value and value != [None, None] else None


def _other_file_problem(value: Any) -> str | None:
    return "points to other files" if value else None


def _dtype_problem(value: Any) -> str | None:
    is_known = all(DTYPE_NAME.fullmatch(str(leaf)) for leaf in _leaf_values(value))
    return None if is_known else "names a precision that there is none of"


def _tokenizer_class_problem(value: Any) -> str | None:
    is_known = not value or (isinstance(value, str) and TOKENIZER_CLASS_NAME.fullmatch(value))
    return None if is_known else "names a tokenizer that is none"


def _weights_problem(value: Any) -> str | None:
    return None if not value or _is_weights_file_name(value) else "points to weights outside of its folder"


def _implementation_problem(kind: str, value: Any, known: tuple[str, ...]) -> str | None:
    unknown = [leaf for leaf in _leaf_values(value) if leaf not in known]
    return f"asks for the {kind} {str(unknown[0])[:80]!r}, which transformers would fetch as code" if unknown else None


def _quantization_problem(value: Any) -> str | None:
    if not value:
        return None
    if not isinstance(value, dict):
        return "says how it is quantized in a way that is none"
    bits = value.get("load_in_8bit") or value.get("load_in_4bit")
    method = value.get("quant_method") or ("bitsandbytes" if bits else None)
    if method in QUANTIZATION_METHODS:
        return None
    advice = "; name the model that is not, and let Batchmill quantize it" if method == "torchao" else ""
    return f"is quantized by {str(method)[:80]!r}, and only {', '.join(QUANTIZATION_METHODS)} is loaded here{advice}"


def _leaf_values(value: Any) -> Iterator[Any]:
    """Yield the value itself, or its values for each part of the model, without None."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from _leaf_values(inner)
    elif value is not None:
        yield value


def _check_index(name: str, path: Path) -> None:
    content = read_json(name, path)
    shards = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(shards, dict):
        raise ModelError(f"{name}: {path.name} does not say which weights are where")
    for shard in set(map(str, shards.values())):
        if not _is_weights_file_name(shard):
            raise ModelError(f"{name}: {path.name} points to {shard[:80]!r}, which are no weights in its folder")


def _is_weights_file_name(value: Any) -> bool:
    """Whether a value is a plain safetensors file name; hidden files are not part of a revision."""
    return (
        isinstance(value, str)
        and Path(value).name == value
        and not value.startswith(".")
        and value.endswith((".safetensors", ".safetensors.index.json"))
    )


# The check for the value of each key.
ENTRY_CHECKS: dict[str, Callable[[Any], str | None]] = {
    **dict.fromkeys(CODE_KEYS, _code_problem),
    **dict.fromkeys(OTHER_FILE_KEYS, _other_file_problem),
    **dict.fromkeys(ATTENTION_KEYS, partial(_implementation_problem, "attention", known=ATTENTION_IMPLEMENTATIONS)),
    **dict.fromkeys(
        EXPERTS_KEYS, partial(_implementation_problem, "experts' implementation", known=EXPERTS_IMPLEMENTATIONS)
    ),
    **dict.fromkeys(DTYPE_KEYS, _dtype_problem),
    "quantization_config": _quantization_problem,
    "tokenizer_class": _tokenizer_class_problem,
    "transformers_weights": _weights_problem,
}
