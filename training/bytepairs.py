"""A small byte-level BPE vocabulary: every text can be spelled with it, umlauts, emoji and all."""

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
    """Return a tokenizer of `size` tokens, pad being 0, the end of text 1 and `marks` next.

    With `ends` it closes every text with the end token, as an encoder is to be fed. Digits stay single, so that a
    number is copied digit by digit and no number is rarer than another.
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
    # A text that is to go on is padded in front, one that an encoder reads behind.
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token=PAD_TOKEN,
        eos_token=END_TOKEN,
        padding_side="right" if append_end_token else "left",
        model_max_length=max_positions,
        clean_up_tokenization_spaces=False,
    )
