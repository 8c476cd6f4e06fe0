"""Input lengths are counted in tokens where the pipeline's tokenizer is available, else in characters."""

import importlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.pipelines.pipeline import Pipeline
from producer.readers.limits import portions

TOKENIZER_FILE = "tokenizer.json"
PORTION_TEXTS, PORTION_BYTES = 1024, 2**18  # measured at once: a tokenizer takes some thirty bytes a character


@dataclass(slots=True)
class LengthHistogram:
    """A histogram in powers of two: how many inputs are at most 1, 2, 4, … long."""

    unit: str
    measure: Callable[[Sequence[str]], list[int]]
    counts: Counter[int] = field(default_factory=Counter)  # by the exponent
    max_length: int = 0

    @classmethod
    def for_pipeline(cls, pipeline: Pipeline) -> "LengthHistogram":
        """A histogram in tokens if the model is a folder and the package `tokenizers` is installed."""
        tokenizer = _load_tokenizer(pipeline)
        if tokenizer is None:
            return cls("characters", lambda texts: [len(text) for text in texts])
        return cls("tokens", lambda texts: [len(encoding.ids) for encoding in tokenizer.encode_batch(list(texts))])

    def add(self, documents: Sequence[str]) -> None:
        """Count inputs, given as the JSON that is stored."""
        texts = ([" ".join(_iter_texts(json.loads(document)))] for document in documents)
        for portion in portions(texts, PORTION_TEXTS, PORTION_BYTES):
            lengths = self.measure([text for [text] in portion])
            self.counts.update((length - 1).bit_length() if length else 0 for length in lengths)
            self.max_length = max(self.max_length, max(lengths))

    def bins(self) -> list[tuple[int, int]]:
        """Each bin's greatest length and its number of inputs, from the shortest on."""
        if not self.counts:
            return []
        exponents = range(min(self.counts), max(self.counts) + 1)
        return [(2**exponent, self.counts[exponent]) for exponent in exponents]


def _load_tokenizer(pipeline: Pipeline) -> Any:
    folder = pipeline.tokenizer_folder if pipeline.tokenizer else pipeline.folder
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


def _iter_texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _iter_texts(item)
