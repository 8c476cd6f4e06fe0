"""Tokenizer loading reads a snapshot's tokenizer, or explains why it can't be used."""

import warnings
from typing import Any

from transformers import AutoTokenizer

from models.errors import ModelError
from worker.loading import load_errors
from worker.loading.files.snapshots import Snapshot
from worker.loading.tokenizers import tokenizer_probe


def load(files: Snapshot) -> Any:
    """Return the tokenizer. Raises ModelError if its files are unsafe, or know no words."""
    tokenizer_probe.check(files.name, files.transformer_folder)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Recommended: pip install sacremoses")  # Marian never calls it
            tokenizer = AutoTokenizer.from_pretrained(
                files.transformer_folder, trust_remote_code=False, local_files_only=True
            )
    except Exception as error:
        raise load_errors.classify(error, f"the tokenizer of {files.name}", files.revision) from error
    # Without these files, transformers silently creates a tokenizer that knows no words.
    if len(tokenizer.get_vocab()) <= len(tokenizer.all_special_tokens):
        raise ModelError(f"the tokenizer of {files.name} knows no words; its files (tokenizer.json) are missing")
    return tokenizer
