"""A small WordPiece vocabulary: frequent words whole, and pieces for unseen words and names."""

import string
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import BertTokenizer

SPECIAL_TOKENS: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ACCENTED_LETTERS: Final = "áàâäãåæçéèêëíìîïıñóòôöõøœßúùûüýğłńřśşčšžÁÂÅÇÉİÑÓÖØÜŁŚŞČŠŽ"
_CHARACTERS: Final = string.ascii_letters + string.digits + string.punctuation + "€£\u2013\u2019“”…"


def train_tokenizer(
    texts: Iterable[str], *, vocabulary_size: int, max_pieces: int, max_positions: int, cased: bool = True
) -> Any:
    """Return BERT's tokenizer with at most `max_pieces` word pieces and the most frequent whole words.

    Two runs may differ in a few pieces, because the trainer breaks ties between equally frequent ones at random. The
    alphabet also has letters absent from the texts, so that every European word can be spelled.
    """
    kept = list(texts)
    raw = Tokenizer(models.WordPiece(unk_token=SPECIAL_TOKENS[1]))
    raw.normalizer = normalizers.BertNormalizer(lowercase=not cased)
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    alphabet = list(_CHARACTERS + ACCENTED_LETTERS if cased else _CHARACTERS.lower())
    trainer = trainers.WordPieceTrainer(
        vocab_size=max_pieces, special_tokens=list(SPECIAL_TOKENS), initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator(kept, trainer=trainer)
    within = [f"##{letter}" for letter in alphabet if letter.isalnum()]
    parts = sorted(raw.get_vocab(), key=lambda piece: raw.token_to_id(piece) or 0)
    vocabulary = list(dict.fromkeys([*parts, *within, *_words_by_frequency(raw, kept)]))[:vocabulary_size]
    return BertTokenizer(
        vocab={piece: index for index, piece in enumerate(vocabulary)},
        do_lower_case=not cased,
        strip_accents=None if not cased else False,
        model_max_length=max_positions,
    )


def _words_by_frequency(pre_tokenizer: Any, texts: Iterable[str]) -> list[str]:
    """Return the words of the texts, the most frequent first, ties in alphabetical order."""
    split = pre_tokenizer.pre_tokenizer.pre_tokenize_str
    words = Counter(word for text in texts for word, _ in split(pre_tokenizer.normalizer.normalize_str(text)))
    return sorted(words, key=lambda word: (-words[word], word))
