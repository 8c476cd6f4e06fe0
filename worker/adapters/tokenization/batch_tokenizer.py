"""The batch tokenizer returns the token ids of many texts, and little else.

`tokenizer(...)` also finds out where each token is in its text, and copies every number into several Python lists. The
library below it can leave that out. Its call is used where a comparison shows that both give the same ids.
"""

from collections.abc import Sequence
from functools import cache, partial
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase
from transformers.tokenization_utils_base import TruncationStrategy
from transformers.tokenization_utils_tokenizers import TokenizersBackend
from transformers.utils import PaddingStrategy

from worker.adapters.tokenization import long_texts
from worker.adapters.tokenization.token_array import TokenArray, token_array

DO_NOT_TRUNCATE, LONGEST_FIRST = TruncationStrategy.DO_NOT_TRUNCATE, TruncationStrategy.LONGEST_FIRST

# Texts for the comparison, and a limit that cuts some of them.
EXAMPLE_TEXTS = (
    "a",
    "",
    " B  c\t\n",
    "don't 3.14 [x] <y>",
    "naïve Ünïcödé ½ 你好 мир \U0001f600 e\u0301",
    "the river is long " * 9,
)
EXAMPLE_MAX_LENGTH = 16


class TokenizedTexts(NamedTuple):
    """The tokens of several texts, or of pairs of texts, with their special tokens.

    features: the features of each text by name.
    truncated: whether each text was cut.
    """

    features: list[dict[str, "TokenArray[int]"]]
    truncated: list[bool]


class BatchTokenizer:
    """Tokenizes texts in one call.

    add_special_tokens: put the special tokens around each text.
    max_length: tokens to cut each text or pair to, as `truncation=True` does, None = no limit.
    has_types: return the type of each token, None = if the tokenizer does by default.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        add_special_tokens: bool = True,
        max_length: int | None = None,
        has_types: bool | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._add_special_tokens = add_special_tokens
        self._max_length = max_length
        self._has_types = "token_type_ids" in tokenizer.model_input_names if has_types is None else has_types
        self._can_call_backend = cache(self._compare_calls)

    def tokenize(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> TokenizedTexts:
        """Tokenize at least one text.

        pairs: the second text for each text, None = there are none.
        """
        call = self._call_backend if self._can_call_backend(paired=pairs is not None) else self._call_tokenizer
        return call(texts, pairs, self._max_length)

    def tokenize_with_positions(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[Any]:
        """Tokenize at least one text, and return the encodings of the `tokenizers` library. Requires a fast tokenizer.

        They also have each token's characters and word.
        """
        if self._can_call_backend(paired=pairs is not None):
            self._set_state(self._max_length)
            inputs = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
            encodings: list[Any] = self._tokenizer.backend_tokenizer.encode_batch(
                inputs, add_special_tokens=self._add_special_tokens
            )
            return encodings
        return list(self._encode(texts, pairs, self._max_length).encodings)

    def _call_backend(self, texts: Sequence[str], pairs: Sequence[str] | None, limit: int | None) -> TokenizedTexts:
        self._set_state(limit)
        inputs = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
        encodings = self._tokenizer.backend_tokenizer.encode_batch_fast(
            inputs, add_special_tokens=self._add_special_tokens
        )
        features = [{"input_ids": token_array(encoding.ids)} for encoding in encodings]
        if self._has_types:
            for row, encoding in zip(features, encodings, strict=True):
                row["token_type_ids"] = token_array(encoding.type_ids)
        # A cut text has exactly as many tokens as allowed.
        truncated = [len(encoding) == limit and bool(encoding.overflowing) for encoding in encodings]
        return TokenizedTexts(features, truncated)

    def _set_state(self, limit: int | None) -> None:
        tokenizer = self._tokenizer
        # The state that `tokenizer(...)` sets before each call, because other callers change it.
        tokenizer.set_truncation_and_padding(
            padding_strategy=PaddingStrategy.DO_NOT_PAD,
            truncation_strategy=DO_NOT_TRUNCATE if limit is None else LONGEST_FIRST,
            max_length=limit,
            stride=0,
            pad_to_multiple_of=None,
            padding_side=None,
        )
        backend = tokenizer.backend_tokenizer
        # The library refuses a change while another thread uses the tokenizer, so nothing is set again needlessly.
        if backend.encode_special_tokens != tokenizer.split_special_tokens:
            backend.encode_special_tokens = tokenizer.split_special_tokens

    def _call_tokenizer(self, texts: Sequence[str], pairs: Sequence[str] | None, limit: int | None) -> TokenizedTexts:
        encoding = self._encode(texts, pairs, limit)
        rows = zip(*encoding.values(), strict=True)
        features = [dict(zip(encoding, map(token_array, row), strict=True)) for row in rows]
        truncated = [
            long_texts.is_truncated(encoding, index, limit, partial(self._count, texts, pairs, index))
            for index in range(len(texts))
        ]
        return TokenizedTexts(features, truncated)

    def _encode(self, texts: Sequence[str], pairs: Sequence[str] | None, limit: int | None) -> Any:
        return self._tokenizer(
            list(texts),
            None if pairs is None else list(pairs),
            add_special_tokens=self._add_special_tokens,
            truncation=limit is not None,
            max_length=limit,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=self._has_types,
        )

    def _count(self, texts: Sequence[str], pairs: Sequence[str] | None, index: int) -> int:
        """The tokens of a whole text or pair."""
        encoding = self._encode([texts[index]], None if pairs is None else [pairs[index]], None)
        return len(encoding["input_ids"][0])

    def _compare_calls(self, *, paired: bool) -> bool:
        """Whether both calls give the same for the example texts, with the tokenizer's special tokens in some."""
        if not _is_plain(self._tokenizer):
            return False
        special = [f"a {token} b{token}" for token in self._tokenizer.all_special_tokens[:8]]
        texts = [*EXAMPLE_TEXTS, *special]
        pairs = texts[::-1] if paired else None
        limit = None if self._max_length is None else min(self._max_length, EXAMPLE_MAX_LENGTH)
        try:
            return self._call_backend(texts, pairs, limit) == self._call_tokenizer(texts, pairs, limit)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # a panic in a library written in Rust is no Exception
            return False


def _is_plain(tokenizer: Any) -> bool:
    """Whether the tokenizer's class calls the library in the usual way."""
    kind = type(tokenizer)
    return (
        isinstance(tokenizer, TokenizersBackend)
        and kind.__call__ is PreTrainedTokenizerBase.__call__
        and kind._encode_plus is TokenizersBackend._encode_plus
        and not hasattr(tokenizer, "_switch_to_input_mode")
        and hasattr(tokenizer.backend_tokenizer, "encode_batch_fast")
    )
