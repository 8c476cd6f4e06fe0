"""The letter case of texts, which some models of sentence-transformers lower before they tokenize."""

from typing import Any

from tokenizers.normalizers import Lowercase, Sequence


def lower_texts(tokenizer: Any) -> None:
    """Let a fast tokenizer put texts into lower case first, as `do_lower_case` of sentence-transformers does."""
    if tokenizer.is_fast:
        backend = tokenizer.backend_tokenizer
        own = backend.normalizer
        backend.normalizer = Lowercase() if own is None else Sequence([Lowercase(), own])
