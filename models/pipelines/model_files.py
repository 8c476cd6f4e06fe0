"""A model's configuration files on this machine: what a submitter can know of a model without loading it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from models.embedding import sentence_files
from models.embedding.cross_encoder_files import CrossEncoderFiles
from models.embedding.json_files import read_json
from models.embedding.sentence_files import SentenceFiles
from models.errors import InvalidParameters, ModelError, SettingsError
from models.pipelines import guard_checks
from models.pipelines.pipeline import Pipeline
from models.settings import settings_place
from models.tasks.feature_extraction import FEATURE_EXTRACTION
from models.tasks.generation.decoding import BEAM_PARAMETERS, SAMPLING_PARAMETERS, DecodingParameters
from models.tasks.text_ranking import TEXT_RANKING

NO_LIMIT = 1e9  # transformers writes a missing limit as an astronomical number
DEFAULT_NEW_TOKENS = 256  # what pipelines of transformers generate if neither model nor batch says otherwise
GLOBAL_MAX_LENGTH = 20  # a `max_length` in old files that means that the model sets none

POSITION_KEYS = ("max_encoder_position_embeddings", "max_position_embeddings")
WIDTH_KEYS = ("word_embed_proj_dim", "hidden_size", "d_model", "n_embd", "dim")
# Their config.json calls the number of positions `n_positions`. T5 has the key as well, but no such limit.
N_POSITIONS_MODELS = frozenset({"gpt2", "openai-gpt", "gpt_bigcode", "gptj", "codegen", "ctrl"})
# They number positions from after the padding index.
OFFSET_MODELS = frozenset(
    {"camembert", "data2vec-text", "esm", "ibert", "lilt", "longformer", "luke", "markuplm", "mluke", "mpnet"}
    | {"roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"}
)


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The folder of a pipeline's model on this machine, and the content of its configuration files.

    folder: the folder of its config.json and its weights.
    sentence_files: what the files of sentence-transformers say, None = another task, or they are damaged.
    cross_encoder_files: the same for text-ranking.
    """

    folder: Path
    tokenizer_folder: Path | None
    config: dict[str, Any]
    tokenizer_config: dict[str, Any]
    generation_config: dict[str, Any]
    sentence_files: SentenceFiles | None = None
    cross_encoder_files: CrossEncoderFiles | None = None

    @classmethod
    def find(cls, pipeline: Pipeline) -> Self | None:
        """Find the files in the model's folder or in the Hub's cache, without a network; None if they are not here."""
        folder = pipeline.folder or _cached_folder(pipeline.model, pipeline.revision)
        if folder is None or not folder.is_dir():
            return None
        root, folder = folder, sentence_files.transformer_folder(folder)
        tokenizer_folder: Path | None = folder
        if pipeline.tokenizer is not None:
            tokenizer_folder = pipeline.tokenizer_folder or _cached_folder(
                pipeline.tokenizer, pipeline.tokenizer_revision
            )
        config = read_object(folder / "config.json")
        return cls(
            folder,
            tokenizer_folder,
            config,
            {} if tokenizer_folder is None else read_object(tokenizer_folder / "tokenizer_config.json"),
            read_object(folder / "generation_config.json"),
            _read_sentence_files(root, config) if pipeline.spec.name == FEATURE_EXTRACTION.name else None,
            _read_cross_encoder_files(root, config) if pipeline.spec.name == TEXT_RANKING.name else None,
        )

    @property
    def default_max_length(self) -> int | None:
        """The most tokens that the model takes if the pipeline names no limit; None = no limit, or not known here."""
        return min(filter(None, (self._named_length, self.max_length)), default=None)

    @property
    def max_length(self) -> int | None:
        """The most tokens that the model can take, special ones included; None = no limit, or not known here."""
        tokens = self.tokenizer_config.get("model_max_length")
        if isinstance(tokens, int | float) and self._named_length is not None:
            tokens = max(tokens, self._named_length)
        limits = [self._positions, tokens or self._named_length]
        known = [int(limit) for limit in limits if isinstance(limit, int | float) and 0 < limit < NO_LIMIT]
        return min(known, default=None)

    @property
    def _named_length(self) -> int | None:
        """The limit that the files of sentence-transformers name; None without any."""
        return next((files.max_length for files in (self.sentence_files, self.cross_encoder_files) if files), None)

    @property
    def token_size(self) -> int | None:
        """Numbers in the vector of a token; None = not known here."""
        return next((size for key in WIDTH_KEYS if isinstance(size := self.config.get(key), int)), None)

    @property
    def _positions(self) -> int | None:
        model_type = self.config.get("model_type")
        keys = (*POSITION_KEYS, "n_positions") if model_type in N_POSITIONS_MODELS else POSITION_KEYS
        positions = next((size for key in keys if isinstance(size := self.config.get(key), int) and size), None)
        is_rotary = self.config.get("position_embedding_type") == "rotary"  # some ESM models, which have no such table
        if positions is not None and model_type in OFFSET_MODELS and not is_rotary:
            padding = self.config.get("pad_token_id")
            positions -= (padding if isinstance(padding, int) else 1) + 1
        return positions

    def generation_defaults(self, pipeline: Pipeline) -> dict[str, Any]:
        """Return the parameters with which a model generates if neither pipeline nor batch sets them."""
        options = {**(self.generation_config or self.config), **self._task_params(pipeline.task)}
        new_tokens, total = self._generation_limits(pipeline.task)
        samples = pipeline.spec.name == "text-generation" and options.get("do_sample") is not False
        defaults = {"do_sample": True, "temperature": 0.7} if samples else {}
        own = {name: options[name] for name in pipeline.spec.parameters.model_fields if options.get(name) is not None}
        return {**defaults, **own, **({"max_new_tokens": new_tokens} if total is None else {})}

    @property
    def default_new_tokens(self) -> int | None:
        """The most new tokens of a text that continues a prompt; None = the model limits the sum of both instead."""
        new_tokens, total = self._generation_limits("text-generation")
        return new_tokens if total is None else None

    def output_length(self, task: str) -> str:
        """Describe the length of a generated text if a batch sets no parameters."""
        new_tokens, total = self._generation_limits(task)
        if total is None:
            return f"up to {new_tokens:,} new tokens"
        return f"up to {total:,} tokens" + (" with the prompt" if task == "text-generation" else "")

    def limited_output_length(self, max_new_tokens: int) -> str:
        """Describe the length of a continued text whose pipeline has a limit of new tokens."""
        new_tokens, total = self._generation_limits("text-generation")
        if total is None:
            return f"up to {min(new_tokens, max_new_tokens):,} new tokens"
        return f"up to {max_new_tokens:,} new tokens, and {total:,} with the prompt"

    def prefix(self, task: str) -> str:
        """Return the text that an encoder-decoder model expects before every input."""
        prefix = self._task_params(task).get("prefix") or self.config.get("prefix")
        return prefix if isinstance(prefix, str) else ""

    def _generation_limits(self, task: str) -> tuple[int, int | None]:
        """Return the default of new tokens, and the total that replaces it, if any."""
        options = {**self.config, **self.generation_config, **self._task_params(task)}
        new_tokens, total = options.get("max_new_tokens"), options.get("max_length")
        if isinstance(new_tokens, int):
            return new_tokens, None
        has_total = isinstance(total, int) and total != GLOBAL_MAX_LENGTH
        return DEFAULT_NEW_TOKENS, total if has_total else None

    def _task_params(self, task: str) -> dict[str, Any]:
        params = self.config.get("task_specific_params")
        named = params.get(task) if isinstance(params, dict) else None
        return named if isinstance(named, dict) else {}


def _read_cross_encoder_files(folder: Path, config: Mapping[str, Any]) -> CrossEncoderFiles | None:
    try:
        return CrossEncoderFiles.read(folder, config)
    except (ModelError, OSError):
        return None  # a worker says why when it loads them


def _read_sentence_files(folder: Path, config: Mapping[str, Any]) -> SentenceFiles | None:
    try:
        return SentenceFiles.read(folder) or SentenceFiles.for_plain_model(config)
    except (ModelError, OSError):
        return None  # a worker says why when it loads them


def check_folder(pipeline: Pipeline) -> None:
    """Raise SettingsError if a model or tokenizer, also a guard's, is a folder that does not exist on this machine."""
    _check_own_folder(pipeline)
    for entry in pipeline.guard_pipelines.values():
        try:
            _check_own_folder(entry)
        except SettingsError as error:
            raise SettingsError(f"{error}; the guards of {pipeline.name} need it") from None


def check_guards(pipeline: Pipeline) -> None:
    """Raise SettingsError if a guard catches a label that its model can't give, as far as its files are here."""
    for name, guard in pipeline.guards.items():
        entry = pipeline.guard_pipelines.get(guard.pipeline or "")
        labels = None if entry is None else _find_labels(entry)
        if entry is None or not isinstance(labels, dict):
            continue
        if problem := guard_checks.find_unknown_label(guard, entry, labels.values()):
            raise SettingsError(f"{settings_place()}[pipelines.{pipeline.name}.guards.{name}] label: {problem}")


def _find_labels(pipeline: Pipeline) -> Any:
    """Return the labels by number in the files here, an adapter's own before the model's; None if not known."""
    if pipeline.adapter is not None:
        folder = pipeline.adapter_folder or _cached_folder(pipeline.adapter, pipeline.adapter_revision)
        # Even if it names none, it may still have another number of labels.
        return None if folder is None else read_object(folder / "config.json").get("id2label")
    return None if (files := ModelFiles.find(pipeline)) is None else files.config.get("id2label")


def _check_own_folder(pipeline: Pipeline) -> None:
    folders = {"model": pipeline.folder, "tokenizer": pipeline.tokenizer_folder, "adapter": pipeline.adapter_folder}
    for field, folder in folders.items():
        if folder is not None and not folder.is_dir():
            raise SettingsError(
                f"{settings_place()}[pipelines.{pipeline.name}] {field}: there is no folder {folder} on this machine; "
                f"correct the path, or start a worker that has it first"
            )


def check_max_length(pipeline: Pipeline) -> None:
    """Raise SettingsError if `max_length` is more than the model takes, as far as its files are here; so for guards."""
    for entry in (pipeline, *pipeline.guard_pipelines.values()):
        _check_own_max_length(entry)


def _check_own_max_length(pipeline: Pipeline) -> None:
    if pipeline.max_length is None or (files := ModelFiles.find(pipeline)) is None:
        return
    if files.max_length is not None and pipeline.max_length > files.max_length:
        raise SettingsError(
            f"{settings_place()}[pipelines.{pipeline.name}] max_length is {pipeline.max_length:,}, but the model takes "
            f"{files.max_length:,} tokens; set at most {files.max_length}, or leave it out"
        )


def check_decoding(pipeline: Pipeline, parameters: Mapping[str, Any]) -> None:
    """Raise InvalidParameters for a decoding parameter without effect under the model's own generation config.

    Nothing is raised if the model's files are not on this machine.
    """
    sampling = [name for name in SAMPLING_PARAMETERS if parameters.get(name) is not None]
    beams = [name for name in BEAM_PARAMETERS if parameters.get(name) is not None]
    task_parameters = pipeline.spec.parameters
    if not issubclass(task_parameters, DecodingParameters) or not (sampling or beams):
        return
    files = ModelFiles.find(pipeline)
    if files is None:
        return
    defaults = files.generation_defaults(pipeline)
    if sampling and parameters.get("do_sample") is None and defaults.get("do_sample") is False:
        raise InvalidParameters(
            f"parameter {sampling[0]!r} has no effect, because the model's own generation config does not sample; set "
            "do_sample to true, or leave it out"
        )
    # Encoder-decoders have several beams by default, whatever the model names.
    has_one_beam = task_parameters.default_beams == 1 and (defaults.get("num_beams") or 1) == 1
    if beams and parameters.get("num_beams") is None and has_one_beam:
        raise InvalidParameters(
            f"parameter {beams[0]!r} has no effect, because the model's own generation config has no beams; set "
            "num_beams to 2 or more, or leave it out"
        )


def effective_max_length(pipeline: Pipeline) -> int | None:
    """Return the most tokens that a worker takes; None = no limit, or not known here."""
    files = ModelFiles.find(pipeline)
    if files is None:
        return pipeline.max_length
    return min(filter(None, (pipeline.max_length or files.default_max_length, files.max_length)), default=None)


def _cached_folder(repo_id: str, revision: str | None) -> Path | None:
    """Return the folder of a model in the Hub's cache, whose layout is documented by huggingface_hub."""
    home = os.environ.get("HF_HOME") or str(Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or str(Path(home) / "hub")).expanduser()
    repo = cache / f"models--{repo_id.replace('/', '--')}"
    try:
        commit = revision or (repo / "refs" / "main").read_text("utf-8").strip()
        reference = repo / "refs" / commit
        if not (repo / "snapshots" / commit).is_dir() and reference.is_file():
            commit = reference.read_text("utf-8").strip()
    except (OSError, ValueError):
        return None
    folder = repo / "snapshots" / commit
    return folder if folder.is_dir() else None


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; empty if there is none, because only workers need a sound file."""
    try:
        content = read_json(path)
    except (OSError, ModelError):
        return {}
    return content if isinstance(content, dict) else {}
