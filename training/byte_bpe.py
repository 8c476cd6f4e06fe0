"""A small byte-level BPE vocabulary that can spell every text, including umlauts and emoji."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

PAD_TOKEN: Final = "<pad>"
END_TOKEN: Final = "</s>"
PAD_ID: Final = 0
END_ID: Final = 1


def train_tokenizer(
    texts: Iterable[str],
    *,
    vocabulary_size: int,
    max_positions: int,
    append_end_token: bool,
    special_tokens: Sequence[str] = (),
) -> Any:
    """Return a tokenizer of `vocabulary_size` tokens: pad is 0, the end of text 1, and `special_tokens` follow.

    With `append_end_token`, it ends every text with that token, as an encoder expects. Digits stay single tokens, so
    that a number is copied digit by digit and none is rarer than another.
    """
    special = [PAD_TOKEN, END_TOKEN, *special_tokens]
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in special],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    raw.train_from_iterator(texts, trainer=trainer)
    if append_end_token:
        raw.post_processor = processors.TemplateProcessing(
            single=f"$A {END_TOKEN}", pair=f"$A {END_TOKEN} $B {END_TOKEN}", special_tokens=[(END_TOKEN, END_ID)]
        )
    # A decoder's prompt is padded on the left, an encoder's input on the right.
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token=PAD_TOKEN,
        eos_token=END_TOKEN,
        padding_side="right" if append_end_token else "left",
        model_max_length=max_positions,
        clean_up_tokenization_spaces=False,
    )
