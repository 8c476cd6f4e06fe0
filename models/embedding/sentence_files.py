"""The files of sentence-transformers in a model's folder: how the vectors of a text's tokens become one vector.

`modules.json` lists the modules that compute one after the other: the transformer, the pooling, and perhaps dense
layers and normalizations. Each has a folder with a `config.json`. Other files name prompts and the length limit. The
formats are those of sentence-transformers 6.2, and of all versions before.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Self

from models.embedding import transformer_options
from models.embedding.json_files import read_json, read_object
from models.errors import ModelError

MAX_MODULES = 32

MODULES_FILE, CONFIG_FILE, PROMPTS_FILE = "modules.json", "config.json", "config_sentence_transformers.json"
ADAPTER_FILE = "adapter_config.json"
# The transformer's own settings; older versions named the file by the architecture.
TRANSFORMER_FILES = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)
NAMES_WITHOUT_PROMPT = ("query", "document")  # sentence-transformers gives them empty prompts
TYPE_PREFIX = "sentence_transformers."

PoolingMode = Literal["cls", "max", "mean", "mean_sqrt_len", "weighted_mean", "last"]
# The names of sentence-transformers, and the keys by which older versions switch each mode on, in the order in which
# the vectors of several modes are joined.
POOLING_MODES: dict[str, PoolingMode] = {
    "cls": "cls",
    "max": "max",
    "mean": "mean",
    "mean_sqrt_len_tokens": "mean_sqrt_len",
    "weightedmean": "weighted_mean",
    "lasttoken": "last",
}
OLD_POOLING_KEYS: dict[str, PoolingMode] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_weightedmean_tokens": "weighted_mean",
    "pooling_mode_lasttoken": "last",
}

StepKind = Literal["dense", "layer_norm", "normalize"]
STEP_KINDS: dict[str, StepKind] = {"Dense": "dense", "LayerNorm": "layer_norm", "Normalize": "normalize"}
STEP_SIZES: dict[StepKind, tuple[str, ...]] = {
    "dense": ("in_features", "out_features"),
    "layer_norm": ("dimension",),
    "normalize": (),
}
TASK = "feature-extraction"
VECTOR_KEY = "sentence_embedding"  # the feature of sentence-transformers that holds a text's vector


@dataclass(frozen=True, slots=True)
class Pooling:
    """How the vectors of a text's tokens become one.

    modes: one or several, whose vectors are joined.
    include_prompt: whether the tokens of the prompt count.
    token_size: numbers in the vector of a token, None = as many as the transformer gives.
    """

    modes: tuple[PoolingMode, ...] = ("mean",)
    include_prompt: bool = True
    token_size: int | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """A module after the pooling.

    path: its folder within the model's.
    config: the content of its config.json.
    """

    kind: StepKind
    path: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def input_size(self) -> int | None:
        """Numbers of the vectors that it takes, None = any."""
        return self.config.get({"dense": "in_features", "layer_norm": "dimension"}.get(self.kind, ""))

    @property
    def output_size(self) -> int | None:
        """Numbers of the vectors that it gives, None = as many as it takes."""
        return self.config.get("out_features") if self.kind == "dense" else None


@dataclass(frozen=True, slots=True)
class SentenceFiles:
    """What the files say; without any, sentence-transformers pools by the mean.

    transformer_path: the folder of the transformer within the model's, empty = the model's folder itself.
    prompts: texts before the input, by name.
    dimensions: how many of a vector's numbers to keep, None = all.
    max_length: tokens of the longest input, None = the tokenizer's limit.
    lowercases: whether texts are put into lower case.
    """

    pooling: Pooling = Pooling()
    steps: tuple[Step, ...] = ()
    transformer_path: str = ""
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None
    dimensions: int | None = None
    max_length: int | None = None
    lowercases: bool = False

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Read the files in a model's folder; None if it has no `modules.json`.

        Raises ModelError if they are damaged, or name a module that Batchmill does not have.
        """
        modules = _read_modules(folder)
        if modules is None:
            return None
        if len(modules) < 2:
            raise ModelError(f"{MODULES_FILE} has no Pooling, without which a text has no vector; take another model")
        (_, transformer_path), (pooling_name, pooling_path), *others = modules
        if pooling_name != "Pooling":
            raise _module_error(folder, pooling_name, "after the transformer, and only Pooling is taken there")
        transformer = read_transformer_config(folder / transformer_path)
        _check_transformer(transformer)
        prompts = read_object(folder / PROMPTS_FILE)
        default_name, named = _optional_text(prompts, "default_prompt_name"), read_prompts(prompts)
        if default_name is not None and default_name not in {*NAMES_WITHOUT_PROMPT, *named}:
            raise ModelError(f"{PROMPTS_FILE} has no prompt of the name that is its default_prompt_name; mend it")
        return cls(
            _read_pooling(folder / pooling_path),
            tuple(_read_step(folder, name, path) for name, path in others if name != "Dropout"),
            transformer_path,
            named,
            default_name,
            optional_count(prompts, "truncate_dim"),
            optional_count(transformer, "max_seq_length"),
            transformer.get("do_lower_case") is True,
        )

    @classmethod
    def for_plain_model(cls, config: Mapping[str, Any]) -> Self:
        """Return what sentence-transformers does with a model without such files, given its config.json."""
        names = config.get("architectures") or [""]
        is_decoder = str(names[0]).endswith("ForCausalLM") and config.get("is_causal") is not False
        return cls(Pooling(("last",) if is_decoder else ("mean",)))


def transformer_folder(folder: Path) -> Path:
    """Return the folder of the transformer in a model's folder.

    Old versions saved it apart, and wrote a config.json without a model beside it.
    """
    try:
        modules = _read_modules(folder)
    except ModelError:
        return folder  # the reason is given when the files are read
    apart = folder if modules is None else folder / modules[0][1]
    has_model = any((apart / name).exists() for name in (CONFIG_FILE, ADAPTER_FILE))
    return apart if has_model or not (folder / CONFIG_FILE).exists() else folder


def _read_modules(folder: Path) -> list[tuple[str, str]] | None:
    """Return the name and the folder of each module; None if there is no list of them."""
    listed = read_json(folder / MODULES_FILE)
    if listed is None:
        return None
    if not isinstance(listed, list) or not all(isinstance(module, dict) for module in listed):
        raise ModelError(f"{MODULES_FILE} is not a list of modules; fetch the model again")
    modules = [(module_name(module.get("type")), module_path(module.get("path"))) for module in listed]
    if len(modules) > MAX_MODULES:
        raise ModelError(f"{MODULES_FILE} lists {len(modules)} modules; at most {MAX_MODULES} are taken")
    if not modules or modules[0][0] != "Transformer":
        name = modules[0][0] if modules else "nothing"
        raise ModelError(
            f"{MODULES_FILE} begins with {name}, and only a Transformer is taken there; take another model"
        )
    return modules


def module_name(kind: object) -> str:
    if not isinstance(kind, str) or not kind.startswith(TYPE_PREFIX):
        raise ModelError(f"{MODULES_FILE} asks to run its own code ({str(kind)[:80]}); that is refused")
    return kind.rpartition(".")[2][:80]


def module_path(path: object) -> str:
    inner = PurePosixPath(path if isinstance(path, str) else "")
    if inner.is_absolute() or ".." in inner.parts or not isinstance(path, str | None):
        raise ModelError(f"{MODULES_FILE} points to files outside of its folder; that is refused")
    return "" if path is None else str(inner)


def _module_error(folder: Path, name: str, place: str) -> ModelError:
    return ModelError(f"{MODULES_FILE} has the module {name} {place}; take another model than {folder.name}")


def _read_pooling(folder: Path) -> Pooling:
    config = read_json(folder / CONFIG_FILE)
    if not isinstance(config, dict):
        raise ModelError(
            f"{folder.name}/{CONFIG_FILE} is missing or no object, and says how to pool; fetch the model again"
        )
    named = config.get("pooling_mode")
    if named is None:
        modes = [mode for key, mode in OLD_POOLING_KEYS.items() if config.get(key)]
    else:
        names = [named] if isinstance(named, str) else list(named) if isinstance(named, list) else [str(named)]
        unknown = [name for name in names if name not in POOLING_MODES]
        if unknown:
            raise ModelError(
                f"{folder.name}/{CONFIG_FILE} asks for the pooling {str(unknown[0])[:80]!r}; take another model"
            )
        modes = [POOLING_MODES[name] for name in names]
    size = optional_count(config, "embedding_dimension") or optional_count(config, "word_embedding_dimension")
    return Pooling(tuple(modes) or ("mean",), bool(config.get("include_prompt", True)), size)


def _read_step(folder: Path, name: str, path: str) -> Step:
    kind = STEP_KINDS.get(name)
    if kind is None:
        known = ", ".join(["Transformer", "Pooling", *STEP_KINDS, "Dropout"])
        raise ModelError(f"{MODULES_FILE} has the module {name}, and only {known} are taken; take another model")
    config = read_object(folder / path / CONFIG_FILE) if path else {}
    for key in ("module_input_name", "module_output_name"):
        if config.get(key) not in (None, VECTOR_KEY):
            raise ModelError(f"{path} works on the vectors of tokens, not on a text's; take another model")
    for key in STEP_SIZES[kind]:
        if optional_count(config, key) is None:
            raise ModelError(f"{path}/{CONFIG_FILE} has no {key}; fetch the model again")
    return Step(kind, path, config)


def _check_transformer(config: Mapping[str, Any]) -> None:
    """Raise ModelError if the transformer does not read plain texts and give the vectors of their tokens."""
    modalities = config.get("modality_config")
    if isinstance(modalities, dict) and ("message" in modalities or "text" not in modalities):
        kinds = ", ".join(map(str, modalities))[:80]
        raise ModelError(f"the model reads its inputs as {kinds} (modality_config), and only plain text is taken")
    if config.get("query_expansion"):
        raise ModelError("the model adds tokens to searches (query_expansion), which is not taken; take another model")
    transformer_options.check_transformer(config, TASK, "last_hidden_state")


def read_transformer_config(folder: Path) -> dict[str, Any]:
    return next(filter(None, (read_object(folder / name) for name in TRANSFORMER_FILES)), {})


def read_prompts(config: Mapping[str, Any]) -> dict[str, str]:
    prompts = config.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(isinstance(text, str | None) for text in prompts.values()):
        raise ModelError(f"the prompts in {PROMPTS_FILE} are no texts by name; mend the file")
    named = {str(name): text or "" for name, text in prompts.items()}
    try:
        "".join((*named, *named.values())).encode()
    except UnicodeEncodeError:
        raise ModelError(f"a prompt in {PROMPTS_FILE} has half a surrogate pair; mend the file") from None
    return named


def _optional_text(config: Mapping[str, Any], key: str) -> str | None:
    value = config.get(key)
    if value is not None and not isinstance(value, str):
        raise _setting_error(key, value)
    return value


def optional_count(config: Mapping[str, Any], key: str) -> int | None:
    value = config.get(key)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise _setting_error(key, value)
    return value


def _setting_error(key: str, value: object) -> ModelError:
    return ModelError(f"{key} is {str(value)[:80]!r} in the model's files, which it can't be; mend them")
