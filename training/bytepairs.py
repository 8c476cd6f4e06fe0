"""A small byte-level BPE vocabulary: every text can be spelled with it, umlauts, emoji and all."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

PAD: Final = "<pad>"
END: Final = "</s>"
PAD_ID: Final = 0
END_ID: Final = 1


def learn(texts: Iterable[str], *, size: int, positions: int, ends: bool, marks: Sequence[str] = ()) -> Any:
    """Return a tokenizer of `size` tokens, pad being 0, the end of text 1 and `marks` next.

    With `ends` it closes every text with the end token, as an encoder is to be fed. Digits stay single, so that a
    number is copied digit by digit and no number is rarer than another.
    """
    special = [PAD, END, *marks]
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in special],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    raw.train_from_iterator(texts, trainer=trainer)
    if ends:
        raw.post_processor = processors.TemplateProcessing(
            single=f"$A {END}", pair=f"$A {END} $B {END}", special_tokens=[(END, END_ID)]
        )
    # A text that is to go on is padded in front, one that an encoder reads behind.
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token=PAD,
        eos_token=END,
        padding_side="right" if ends else "left",
        model_max_length=positions,
        clean_up_tokenization_spaces=False,
    )
