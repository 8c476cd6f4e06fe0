"""Vetting: a model's files may say how it is computed, never which code computes it. Pure but for reading the files.

transformers follows many of a configuration's keys: to Python files, to native kernels of the Hub, to packages, to
other repositories. What names code is refused by its key, and what is chosen from a list only from a list of ours.
"""

import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from models.errors import ModelError

# Those that transformers brings along itself. Any other name is a repository of native code.
ATTENTIONS = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flash_attention_4", "flex_attention")
EXPERTS = ("eager", "batched_mm", "grouped_mm")
QUANTIZATIONS = ("bitsandbytes",)  # the only one that is loaded by a package of our own extras

ATTENTION_KEYS = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal")
EXPERTS_KEYS = ("experts_implementation", "_experts_implementation", "_experts_implementation_internal")
PRECISION_KEYS = ("dtype", "torch_dtype")
CODE_KEYS = (
    "auto_map", "custom_pipelines", "custom_generate", "trust_remote_code", "use_kernels", "kernel_config",
    "allow_all_kernels", "fusion_config", "distributed_config",
)  # fmt: skip
# By these transformers would read other files than those that are looked at here.
ELSEWHERE_KEYS = ("configuration_files", "init_inputs", "gguf_file")
LABELS = ("id2label", "label2id")  # people's words, which may be any

PRECISION = re.compile(r"(torch\.)?(auto|float|double|half|(float|bfloat|int|uint|complex)\d\w*)")
TOKENIZER_CLASS = re.compile(r"[A-Za-z]\w*(Tokenizer|TokenizerFast|Backend)")

# What transformers reads as a configuration; vocabularies are data, whatever words they hold.
CONFIGS = re.compile(
    r"(config|generation_config|tokenizer_config|special_tokens_map|processor_config|preprocessor_config|"
    r"chat_template|params|tekken|config\..*|tokenizer_config\..*)\.json"
)
MOST_BYTES = 64 << 20  # of a configuration; tekken.json has a vocabulary in it
DEEPEST = 100


def check(name: str, folder: Path) -> None:
    """Raise ModelError where the model's, or tokenizer's, files would bring code along, or other files than these."""
    if (folder / "adapter_config.json").exists():
        raise ModelError(
            f"{name} holds an adapter (adapter_config.json), which names another model; merge it into its model"
        )
    for path in _files(name, folder):
        if CONFIGS.fullmatch(path.name):
            _check_config(name, path)
        elif path.name.endswith(".safetensors.index.json"):
            _check_index(name, path)


def config(name: str, path: Path) -> Any:
    """A JSON file's content; raises ModelError where it can't be read, FileNotFoundError where it is not there."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ModelError(f"{name}: {path.name} is not a regular file")
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ModelError(f"{name}: {path.name} has more than {MOST_BYTES >> 20} MiB, which no configuration has")
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{name}: {path.name} can't be read: {str(error)[:200]}") from None


def attention(said: Mapping[str, Any]) -> Any:
    """Which attention a vetted config asks for: a name, one for each part of the model, or None."""
    return next((said[key] for key in ATTENTION_KEYS[:2] if said.get(key)), None)


def _files(name: str, folder: Path) -> Iterator[Path]:
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
    content = config(name, path)
    if path.name == "config.json" and not isinstance(content, dict):
        raise ModelError(f"{name}: config.json is not an object")
    for key, value in _entries(name, path, content):
        if problem := _problem(key, value):
            raise ModelError(f"{name} {problem} ({key} in {path.name}); that is refused")


def _entries(name: str, path: Path, value: Any, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """All keys with their values, however deep; but people's labels."""
    if depth > DEEPEST:
        raise ModelError(f"{name}: {path.name} is nested more than {DEEPEST} deep, which no configuration is")
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            if key not in LABELS:
                yield from _entries(name, path, inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _entries(name, path, inner, depth + 1)


def _problem(key: str, value: Any) -> str | None:
    """What is wrong with one entry of a configuration, if anything is."""
    look = LOOKS.get(key)
    return None if look is None else look(value)


def _code(value: Any) -> str | None:
    return "asks to run code of its own" if value and value != [None, None] else None


def _elsewhere(value: Any) -> str | None:
    return "points to files of its own choice" if value else None


def _precision(value: Any) -> str | None:
    known = all(PRECISION.fullmatch(str(said)) for said in _leaves(value))
    return None if known else "names a precision that there is none of"


def _tokenizer_class(value: Any) -> str | None:
    known = not value or (isinstance(value, str) and TOKENIZER_CLASS.fullmatch(value))
    return None if known else "names a tokenizer that is none"


def _weights(value: Any) -> str | None:
    return None if not value or _is_weights_name(value) else "points to weights outside of its folder"


def _not_among(what: str, value: Any, known: tuple[str, ...]) -> str | None:
    strange = [said for said in _leaves(value) if said not in known]
    return f"asks for the {what} {str(strange[0])[:80]!r}, which transformers would fetch as code" if strange else None


def _quantization(value: Any) -> str | None:
    if not value:
        return None
    if not isinstance(value, dict):
        return "says how it is quantized in a way that is none"
    bits = value.get("load_in_8bit") or value.get("load_in_4bit")
    method = value.get("quant_method") or ("bitsandbytes" if bits else None)
    if method in QUANTIZATIONS:
        return None
    return f"is quantized by {str(method)[:80]!r}, and only {', '.join(QUANTIZATIONS)} is loaded here"


def _leaves(value: Any) -> Iterator[Any]:
    """What a value says in the end: itself, or what it says for each part of the model. None says nothing."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from _leaves(inner)
    elif value is not None:
        yield value


def _check_index(name: str, path: Path) -> None:
    content = config(name, path)
    shards = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(shards, dict):
        raise ModelError(f"{name}: {path.name} does not say which weights are where")
    for shard in set(map(str, shards.values())):
        if not _is_weights_name(shard):
            raise ModelError(f"{name}: {path.name} points to {shard[:80]!r}, which are no weights in its folder")


def _is_weights_name(said: Any) -> bool:
    """A plain name of safetensors beside the file that says it: hidden ones are in no revision."""
    return (
        isinstance(said, str)
        and Path(said).name == said
        and not said.startswith(".")
        and said.endswith((".safetensors", ".safetensors.index.json"))
    )


# By key, what is wrong with its value.
LOOKS: dict[str, Callable[[Any], str | None]] = {
    **dict.fromkeys(CODE_KEYS, _code),
    **dict.fromkeys(ELSEWHERE_KEYS, _elsewhere),
    **dict.fromkeys(ATTENTION_KEYS, partial(_not_among, "attention", known=ATTENTIONS)),
    **dict.fromkeys(EXPERTS_KEYS, partial(_not_among, "experts' implementation", known=EXPERTS)),
    **dict.fromkeys(PRECISION_KEYS, _precision),
    "quantization_config": _quantization,
    "tokenizer_class": _tokenizer_class,
    "transformers_weights": _weights,
}
