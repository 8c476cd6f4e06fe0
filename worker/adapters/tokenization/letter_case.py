"""The letter case of texts, which some models of sentence-transformers lower before they tokenize."""

from typing import Any

from tokenizers.normalizers import Lowercase, Sequence


def lower_texts(tokenizer: Any) -> None:
    """Let a tokenizer put texts into lower case first, as `do_lower_case` of sentence-transformers does."""
    if not tokenizer.is_fast:
        tokenizer.do_lower_case = True
        return
    backend = tokenizer.backend_tokenizer
    steps: Any = backend.normalizer if isinstance(backend.normalizer, Sequence) else [backend.normalizer]
    present = [step for step in steps if step is not None]
    if not any(isinstance(step, Lowercase) for step in present):
        backend.normalizer = Sequence([Lowercase(), *present])
