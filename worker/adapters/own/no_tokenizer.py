"""What stands for the tokenizer of a model that has none, because its task makes token ids by itself."""

from typing import Any

NO_LIMIT = 10**30  # as transformers writes it


class NoTokenizer:
    """The settings that padding and length limits are read from; the author's adapter gets None instead."""

    model_max_length = NO_LIMIT
    padding_side = "right"
    pad_token_type_id = 0

    def __init__(self, config: Any) -> None:
        pad = getattr(config, "pad_token_id", None)
        self.pad_token_id = pad if isinstance(pad, int) else 0
