"""The files of a LoRA adapter: which are refused, and what its configuration says; pure except for reading them.

Only options that are known to keep "same input, same output", and that change no weights but the adapter's own, are
taken. All others are refused by name, those of later versions of peft included.
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Self

from safetensors import SafetensorError, safe_open

from models.errors import ModelError
from models.foreign_errors import first_line
from models.pipelines.pipeline import BUNDLED_PREFIX
from worker.loading.files import vetting
from worker.loading.files.snapshots import Snapshot

CONFIG_NAME, WEIGHTS_NAME = "adapter_config.json", "adapter_model.safetensors"
SHARDS = "adapter_model-*.safetensors"
SHOWN_CHARACTERS = 80

# Options that peft gets.
LAYER_OPTIONS = frozenset(
    {"r", "lora_alpha", "target_modules", "exclude_modules", "fan_in_fan_out", "use_rslora", "use_dora", "lora_bias"}
    | {"layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern"}
)
# Options without effect on a trained adapter: for training, for other classes of peft, or plain from the weights.
IDLE_OPTIONS = frozenset(
    {"peft_type", "peft_version", "task_type", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode"}
    | {"lora_dropout", "modules_to_save", "bias", "init_lora_weights", "ensure_weight_tying", "runtime_config"}
    | {"megatron_core", "loftq_config", "eva_config", "corda_config", "lora_ga_config", "qalora_group_size"}
)
# Ways to initialize an adapter that also change the model's own weights, which are shared.
CHANGING_INITS = ("pissa", "olora", "corda", "loftq", "lora_ga", "mica")


@dataclass(frozen=True, slots=True)
class AdapterFiles:
    """A vetted adapter.

    layer_options: those for its layers, as peft names them.
    whole_modules: names of modules whose weights it has in full, such as a classifier.
    trained_on: the model that it was trained on, for a warning only; None = unknown.
    labels: the names of its labels, if it came with a config.json; None = those of the model.
    """

    snapshot: Snapshot
    layer_options: dict[str, Any]
    whole_modules: tuple[str, ...]
    trained_on: str | None
    labels: dict[int, str] | None

    @classmethod
    def read(cls, snapshot: Snapshot) -> Self:
        """Read and vet the files. Raises ModelError if they are no LoRA adapter, incomplete, or unsafe."""
        name, folder = snapshot.name, snapshot.folder
        vetting.check_files(name, folder)
        config = _read_object(name, folder / CONFIG_NAME)
        if config is None:
            raise ModelError(f"{name} has no {CONFIG_NAME}, so it is no adapter; set model instead, or name another")
        check_config(name, config)
        _check_weights(name, folder)
        trained_on = config.get("base_model_name_or_path")
        return cls(
            snapshot,
            {key: config[key] for key in LAYER_OPTIONS if key in config},
            tuple(map(str, config.get("modules_to_save") or ())),
            trained_on[:SHOWN_CHARACTERS] if isinstance(trained_on, str) and trained_on else None,
            _read_labels(_read_object(name, folder / "config.json") or {}),
        )

    @property
    def weights_path(self) -> Path:
        """The file of its weights."""
        return self.snapshot.folder / WEIGHTS_NAME

    def is_for_other(self, model: str) -> bool:
        """Whether it names another model than this one, by the last part of a Hub id or path."""
        if self.trained_on is None:
            return False
        names = (PurePosixPath(place.removeprefix(BUNDLED_PREFIX)).name.lower() for place in (self.trained_on, model))
        return next(names) != next(names)


def check_config(name: str, config: dict[str, Any]) -> None:
    """Raise ModelError for a kind of adapter, or an option of one, that is not taken. Pure."""
    kind = config.get("peft_type")
    if kind != "LORA":
        raise ModelError(f"{name} is an adapter of the kind {_show(kind)}, and only LORA is taken; train one as LoRA")
    init = config.get("init_lora_weights")
    if isinstance(init, str) and init.lower().startswith(CHANGING_INITS):
        raise ModelError(
            f"{name} was initialized by {_show(init)}, which changes the model's own weights; save it again as plain "
            "LoRA, with path_initial_model_for_weight_conversion"
        )
    for key, value in config.items():
        if value and key not in LAYER_OPTIONS and key not in IDLE_OPTIONS:
            raise ModelError(f"{name} has the option {_show(key)}, which is not taken; merge it into its model instead")
    modules = config.get("modules_to_save")
    if modules and not (isinstance(modules, list) and all(isinstance(module, str) for module in modules)):
        raise ModelError(f"{name}: modules_to_save in {CONFIG_NAME} is no list of names")


def _check_weights(name: str, folder: Path) -> None:
    """Raise ModelError if the weights are missing, of another format, or incomplete; only their header is read."""
    path = folder / WEIGHTS_NAME
    if not path.is_file() and any(folder.glob(SHARDS)):
        raise ModelError(f"{name} has its weights in several files, and only one is read; save them as {WEIGHTS_NAME}")
    if not path.is_file():
        raise ModelError(
            f"{name} has no {WEIGHTS_NAME}, and other formats can run code; save the adapter again with "
            "save_pretrained(folder, safe_serialization=True)"
        )
    try:
        with safe_open(path, framework="numpy"):
            pass
    except SafetensorError as error:
        raise ModelError(f"{name}: {WEIGHTS_NAME} is damaged ({first_line(error)}); fetch or save it again") from error


def _read_object(name: str, path: Path) -> dict[str, Any] | None:
    try:
        content = vetting.read_json(name, path)
    except FileNotFoundError:
        return None
    if not isinstance(content, dict):
        raise ModelError(f"{name}: {path.name} is not an object")
    return content


def _read_labels(config: dict[str, Any]) -> dict[int, str] | None:
    labels = config.get("id2label")
    try:
        numbered = {int(key): str(value) for key, value in labels.items()} if isinstance(labels, dict) else {}
    except ValueError:
        return None
    return numbered if numbered and sorted(numbered) == list(range(len(numbered))) else None


def _show(value: Any) -> str:
    return repr(str(value)[:SHOWN_CHARACTERS])
