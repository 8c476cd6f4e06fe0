"""Input lengths are counted in tokens where the pipeline's tokenizer is available, else in characters."""

import importlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Self

from models.pipelines import embedding_checks, model_files
from models.pipelines.model_files import ModelFiles
from models.pipelines.options.prompt_template import PromptTemplate
from models.pipelines.pipeline import Pipeline
from models.tasks.feature_extraction import FEATURE_EXTRACTION
from models.tasks.generic.transformers_pipeline import PREFIX
from models.tasks.own.own_spec import OwnTaskSpec
from models.tasks.text_ranking import TEXT_RANKING
from models.tasks.zero_shot_classification import ZeroShotParameters
from producer.readers.limits import portions

TOKENIZER_FILE = "tokenizer.json"
PORTION_TEXTS, PORTION_BYTES = 1024, 2**18  # measured at once: a tokenizer takes some thirty bytes a character

Input = Mapping[str, Any]

# Tasks whose inputs have another length for the model than their texts together.
UNKNOWN_LENGTHS = ("question-answering", "table-question-answering", "decision")


@dataclass(frozen=True, slots=True)
class LengthLimit:
    """The most tokens of an input that the model reads at once, and what becomes of longer ones.

    outcome: `truncated`, `failed` or `windowed`
    new_tokens: tokens that are generated beside them within the model's limit
    """

    tokens: int
    outcome: str
    new_tokens: int = 0

    @classmethod
    def for_pipeline(cls, pipeline: Pipeline, parameters: Mapping[str, Any]) -> Self | None:
        """Return the limit; None if there is none, or if it is not known here, as with the windows of a question.

        Only the adapter of a task of one's own knows what becomes of a text.
        """
        if isinstance(pipeline.spec, OwnTaskSpec):
            return None
        max_length, task = model_files.effective_max_length(pipeline), pipeline.spec.name
        if max_length is None or task in UNKNOWN_LENGTHS:
            return None
        if pipeline.truncation == "stride" or (task == "ner" and parameters.get("stride") is not None):
            return cls(max_length, "windowed")
        cuts = pipeline.truncation == "truncate" and not task.startswith(PREFIX)
        outcome = "truncated" if cuts else "failed"
        if task != "text-generation":
            return cls(max_length, outcome)
        files = ModelFiles.find(pipeline)
        new_tokens: int | None = parameters.get("max_new_tokens") or (files.default_new_tokens if files else None)
        if new_tokens is not None and (limits := pipeline.generation_limits) is not None:
            new_tokens = min(new_tokens, limits.max_new_tokens)
        if new_tokens is None:
            return None
        if new_tokens >= max_length:
            return cls(0, "failed", new_tokens)
        can_cut = parameters.get("handle_long_generation") == "hole"
        return cls(max_length - new_tokens, outcome if can_cut else "failed", new_tokens)


@dataclass(slots=True)
class LengthHistogram:
    """A histogram in powers of two: how many inputs are at most 1, 2, 4, … long.

    limit: set if lengths are in tokens and the model's limit is known
    too_long: number of inputs over the limit
    """

    unit: str
    measure: Callable[[Sequence[Input]], list[int]]
    limit: LengthLimit | None = None
    template: PromptTemplate | None = None  # lengths are those of the rendered inputs
    counts: Counter[int] = field(default_factory=Counter)  # by the exponent
    max_length: int = 0
    too_long: int = 0

    @classmethod
    def for_pipeline(cls, pipeline: Pipeline, parameters: Mapping[str, Any] | None = None) -> Self:
        """Return a histogram in tokens if the model is on this machine and the package `tokenizers` is installed."""
        tokenizer, parameters = _load_tokenizer(pipeline), parameters or {}
        if tokenizer is None:
            return cls(
                "characters",
                lambda inputs: [len(_join_texts(job_input)) for job_input in inputs],
                template=pipeline.template,
            )
        measure = TokenCounter(tokenizer, pipeline, parameters)
        return cls("tokens", measure, LengthLimit.for_pipeline(pipeline, parameters), pipeline.template)

    def add(self, documents: Sequence[str]) -> None:
        """Count inputs, given as the JSON that is stored."""
        inputs = ([self._render(json.loads(document))] for document in documents)
        for portion in portions(inputs, PORTION_TEXTS, PORTION_BYTES):
            lengths = self.measure([job_input for [job_input] in portion])
            self.counts.update((length - 1).bit_length() if length else 0 for length in lengths)
            self.max_length = max(self.max_length, max(lengths))
            if self.limit is not None:
                self.too_long += sum(length > self.limit.tokens for length in lengths)

    def _render(self, job_input: Input) -> Input:
        return job_input if self.template is None else self.template.render(job_input)

    def bins(self) -> list[tuple[int, int]]:
        """Each bin's greatest length and its number of inputs, from the shortest on."""
        if not self.counts:
            return []
        exponents = range(min(self.counts), max(self.counts) + 1)
        return [(2**exponent, self.counts[exponent]) for exponent in exponents]


class TokenCounter:
    """Counts the tokens of inputs as the worker of their task does, special tokens included."""

    def __init__(self, tokenizer: Any, pipeline: Pipeline, parameters: Mapping[str, Any]) -> None:
        self._tokenizer = tokenizer
        self._task = pipeline.spec.name
        self._parameters = parameters
        self._prefix = _find_prefix(pipeline, parameters)
        self._max_hypothesis_tokens = lru_cache(maxsize=256)(self._count_hypotheses)

    def __call__(self, inputs: Sequence[Input]) -> list[int]:
        """Return the number of tokens of each input, or of the longest of its pairs."""
        if self._task == TEXT_RANKING.name:
            return [self._count_longest_pair(job_input) for job_input in inputs]
        sequences = [self._sequence_for(job_input) for job_input in inputs]
        special = self._parameters.get("add_special_tokens") is not False
        encodings = self._tokenizer.encode_batch(sequences, add_special_tokens=special)
        extra = map(self._extra_tokens, inputs) if self._task == "zero-shot-classification" else [0] * len(inputs)
        return [len(encoding.ids) + more for encoding, more in zip(encodings, extra, strict=True)]

    def _count_longest_pair(self, job_input: Input) -> int:
        texts = [self._prefix + job_input["query"], *(job_input.get("texts") or [job_input["text"]])]
        query, *others = [
            len(encoding.ids) for encoding in self._tokenizer.encode_batch(texts, add_special_tokens=False)
        ]
        return query + max(others) + int(self._tokenizer.num_special_tokens_to_add(True))

    def _sequence_for(self, job_input: Input) -> str | tuple[str, str]:
        if self._task == "sentiment-analysis" and job_input.get("text_pair") is not None:
            return job_input["text"], job_input["text_pair"]
        if self._task == "question-answering":
            return job_input["question"], job_input["context"]
        if "text" in job_input:
            return f"{self._prefix}{job_input['text']}"
        return _join_texts(job_input)  # a conversation, without its template

    def _extra_tokens(self, job_input: Input) -> int:
        """Return the tokens beside those of the text: the longest hypothesis, and the special tokens of a pair."""
        labels = job_input.get("candidate_labels") or self._parameters.get("candidate_labels") or ()
        return int(self._max_hypothesis_tokens(tuple(labels)))

    def _count_hypotheses(self, labels: tuple[str, ...]) -> int:
        default = ZeroShotParameters.model_fields["hypothesis_template"].default
        template = self._parameters.get("hypothesis_template", default)
        hypotheses = [template.format(label) for label in labels]
        encodings = self._tokenizer.encode_batch(hypotheses, add_special_tokens=False)
        special = self._tokenizer.num_special_tokens_to_add
        return max((len(encoding.ids) for encoding in encodings), default=0) + int(special(True) - special(False))


def _find_prefix(pipeline: Pipeline, parameters: Mapping[str, Any]) -> str:
    """Return the text that the worker puts before each input."""
    if pipeline.spec.name == FEATURE_EXTRACTION.name:
        recipe = embedding_checks.find_recipe(pipeline, parameters)
        return recipe.prompt if recipe else ""
    files = ModelFiles.find(pipeline)
    if files is not None and files.cross_encoder_files is not None:
        return files.cross_encoder_files.prompt
    return files.prefix(pipeline.task) if files else ""


def _load_tokenizer(pipeline: Pipeline) -> Any:
    files = ModelFiles.find(pipeline)
    folder = files.tokenizer_folder if files else pipeline.tokenizer_folder
    if folder is None or not (folder / TOKENIZER_FILE).is_file():
        return None
    try:
        # By name, because the producer must work without it: it is light, but only transformers installs it.
        tokenizer = importlib.import_module("tokenizers").Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    except Exception:  # not installed, or a file that this version can't read: characters are counted instead
        return None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _join_texts(job_input: Input) -> str:
    return " ".join(_iter_texts(job_input))


def _iter_texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _iter_texts(item)
