"""Output schemas: which tokens a text may go on with, and whether a whole text meets its schema.

llguidance follows the bytes of a text through a grammar, and knows for each state the tokens whose bytes go on.
"""

import json
import math
import os
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from threading import Lock
from typing import Any

import torch
from tokenizers import Tokenizer

from models.errors import JobError, LoadFailed
from models.tasks.generation import output_schema, schema_probe

# Room for the schemas of several batches that run in turn. A large one takes megabytes.
MAX_COMPILED = 32

MAX_THREADS = 8

# A tokenizer without an end token gets one of a name that no text has.
VIRTUAL_END = "<|batchmill:end|>"

# Its tokens must spell the text, or what a schema allows would not be what a user reads.
TRIAL_TEXT = '{"key": [1.5, "Größe 😀", null]}'

# A string of a JSON text, in its quotes, and the colon that makes it a key.
JSON_STRINGS = re.compile(r'("(?:[^"\\]|\\.)*+")(\s*:)?')


class OutputSchemas:
    """The schemas of one model; any thread may use it.

    end_ids: the tokens that end a text.
    """

    def __init__(self, tokenizer: Any, end_ids: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._end_ids = list(end_ids)
        self._lock = Lock()
        self._grammar_tokenizer: Any = None
        self._executor: Any = None
        self._compiled: OrderedDict[str, Any] = OrderedDict()

    def check(self, schema: str) -> None:
        """Compile a schema. Raises JobError if no text of this model can meet it."""
        self.matcher(schema)

    def matcher(self, schema: str) -> Any:
        """Return an `LLMatcher` at the beginning of a text. Raises JobError."""
        with self._lock:
            compiled = self._compiled.pop(schema, None) or self._compile(schema)
            self._compiled[schema] = compiled
            if len(self._compiled) > MAX_COMPILED:
                self._compiled.popitem(last=False)
            if isinstance(compiled, JobError):
                raise compiled.with_traceback(None)  # else it grows with each row
            return compiled.deep_copy()

    def allowed_tokens(self, matchers: Sequence[Any]) -> torch.Tensor:
        """Return which tokens each text may go on with: bits in uint8 `(texts, bytes)`, the lowest bit first."""
        from llguidance import numpy as masks  # its part for torch imports a compiler

        words = masks.allocate_token_bitmask(len(matchers), self._grammar_tokenizer.vocab_size)
        if len(matchers) == 1:
            masks.fill_next_token_bitmask(matchers[0], words)
        else:
            masks.fill_next_token_bitmask_par(
                self._executor, [(matcher, row) for row, matcher in enumerate(matchers)], words
            )
        bits = torch.from_numpy(words).view(torch.uint8)
        for row, matcher in enumerate(matchers):
            for token in self._grammar_tokenizer.eos_tokens:
                # An end token may be text to the grammar, and one of our own is none to the model.
                if not self._end_ids or not matcher.is_accepting():
                    bits[row, token // 8] &= ~(1 << token % 8)
        return bits

    def read_text(self, schema: str, ids: Sequence[int]) -> str:
        """Return the text of the tokens, up to the end token. Raises JobError `schema_unmet`."""
        if ids and ids[-1] in self._end_ids:
            ids = ids[:-1]
        matcher = self.matcher(schema)
        if matcher.try_consume_tokens(list(ids)) < len(ids) or matcher.is_error():
            raise JobError("schema_unmet", "no token was left that its output_schema allows; simplify the schema")
        if not matcher.is_accepting():
            raise JobError(
                "schema_unmet",
                "the text ended before it met its output_schema; raise max_new_tokens, or bound the schema, such as by "
                "maxLength and maxItems",
            )
        text: str = self._grammar_tokenizer.decode_bytes(list(ids)).decode()
        if output_schema.is_json_schema(schema):
            _check_readable(text)
        return text

    def _compile(self, schema: str) -> Any:
        """Return an `LLMatcher`, or the JobError that says why there is none."""
        try:
            from llguidance import LLMatcher, LLParserLimits
        except ImportError:
            return JobError("missing_package", missing_package())
        if problem := schema_probe.find_problem(schema):
            return JobError("invalid_parameters", f"output_schema can't be used: {problem}")
        if self._grammar_tokenizer is None:
            try:
                self._grammar_tokenizer = self._make_tokenizer()
            except Exception:  # whatever the library can't read of a tokenizer
                problem = "the tokens of this model's tokenizer do not spell its texts, so no schema can be followed"
                return JobError("invalid_parameters", f"output_schema can't be used: {problem}")
        # The library's own limits bound each step to about 20 ms.
        limits = LLParserLimits(max_lexer_states=schema_probe.MAX_LEXER_STATES, verbose_errors=False)
        grammar = output_schema.to_grammar(schema)
        matcher = LLMatcher(self._grammar_tokenizer, grammar, log_level=0, limits=limits)
        first = matcher.deep_copy()
        can_begin = any(first.compute_bitmask()) or matcher.is_accepting()
        if first.is_error() or not can_begin:
            problem = "it is too large, or no token of this model can begin its text"
            return JobError("invalid_parameters", f"output_schema can't be used: {problem}")
        return matcher

    def _make_tokenizer(self) -> Any:
        from llguidance import LLExecutor, LLTokenizer

        backend = Tokenizer.from_str(self._tokenizer.backend_tokenizer.to_str())
        backend.no_padding()
        backend.no_truncation()
        end_ids = [token for token in self._end_ids if token < backend.get_vocab_size()]
        if not end_ids:
            backend.add_special_tokens([VIRTUAL_END])
            end_ids = [backend.get_vocab_size() - 1]
        made = LLTokenizer(backend.to_str(), eos_token=end_ids)
        trial_ids = backend.encode(TRIAL_TEXT, add_special_tokens=False).ids
        if made.decode_bytes(trial_ids).decode().strip() != backend.decode(trial_ids).strip():
            raise ValueError("its tokens do not spell its text")
        self._executor = LLExecutor(max(1, min(MAX_THREADS, os.cpu_count() or 1)))
        return made


def _check_readable(text: str) -> None:
    """Raise JobError if common parsers differ on a JSON text, or can't read it."""

    def check_keys(pairs: list[tuple[str, Any]]) -> None:
        if len({key for key, _ in pairs}) < len(pairs):
            raise JobError("schema_unmet", "an object has a key twice; name its keys in the schema's properties")

    def check_number(digits: str) -> None:
        if math.isinf(float(digits)):
            raise ValueError("it is larger than any floating-point number")

    try:
        json.loads(text, object_pairs_hook=check_keys, parse_float=check_number, parse_int=check_number)
        has_other_spelling = any(_has_needless_escape(key) for key, colon in JSON_STRINGS.findall(text) if colon)
    except (ValueError, RecursionError):
        raise JobError(
            "schema_unmet", "a number is too large, or the text nested too deep; bound them in the schema"
        ) from None
    if has_other_spelling:
        problem = "a key is spelled with escapes, so that no property of the schema applied to it"
        raise JobError("schema_unmet", f"{problem}; set additionalProperties to false")


def _has_needless_escape(key: str) -> bool:
    r"""Whether a key of a JSON text, with its quotes, is spelled as no schema is, such as "\u0061" for "a"."""
    return "\\" in key and json.dumps(json.loads(key), ensure_ascii=False).lower() != key.lower()


def installed_package() -> str | None:
    """The library that batches of this machine may use; None if it is not installed."""
    return output_schema.PACKAGE if find_spec(output_schema.PACKAGE) is not None else None


def check_package(parameters: Mapping[str, Any]) -> None:
    """Raise LoadFailed if a pipeline's own parameters have a schema, and the library is not installed here."""
    if parameters.get("output_schema") is not None and installed_package() is None:
        raise LoadFailed(missing_package())


def missing_package() -> str:
    """What to do where the library is not installed."""
    return (
        f"output_schema needs the package {output_schema.PACKAGE}; on the workers' machines, run: "
        f"pip install 'batchmill[{output_schema.EXTRA}]'"
    )
