"""Tiny question answerers, made the same under transformers 4 and 5."""

import string
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import (
    AlbertConfig,
    AlbertForQuestionAnswering,
    BertConfig,
    BertForQuestionAnswering,
    DebertaV2Config,
    DebertaV2ForQuestionAnswering,
    DistilBertConfig,
    DistilBertForQuestionAnswering,
    ElectraConfig,
    ElectraForQuestionAnswering,
    FunnelConfig,
    FunnelForQuestionAnswering,
    RobertaConfig,
    RobertaForQuestionAnswering,
)

from tests.golden.model_files import save_model

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
WORDS = (
    "the",
    "river",
    "city",
    "of",
    "in",
    "and",
    "is",
    "was",
    "born",
    "who",
    "what",
    "where",
    "ing",
    "ed",
    "世",
    "界",
)
LETTERS = [*string.printable.replace(string.whitespace, ""), *"éüßñждкخмΩ한あ東京😀"]


def bert(folder: Path) -> Path:
    return _bert(folder, 512)


def short_bert(folder: Path) -> Path:
    """It takes 40 tokens at a time, so nearly every context is read in windows."""
    return _bert(folder, 40)


def left_bert(folder: Path) -> Path:
    """Its tokenizer pads on the left, so it reads the context before the question."""
    return _bert(folder, 96, padding_side="left")


def left_cut_bert(folder: Path) -> Path:
    """Its tokenizer cuts on the left, so its windows are counted from the context's end."""
    return _bert(folder, 64, truncation_side="left")


def distilbert(folder: Path) -> Path:
    config = DistilBertConfig(vocab_size=len(_wordpiece_vocabulary()), dim=32, n_layers=2, n_heads=2, hidden_dim=64)
    return save_model(folder, DistilBertForQuestionAnswering(config), _wordpiece_files("DistilBertTokenizer", 512))


def electra(folder: Path) -> Path:
    config = ElectraConfig(vocab_size=len(_wordpiece_vocabulary()), embedding_size=16, **SIZES)
    return save_model(folder, ElectraForQuestionAnswering(config), _wordpiece_files("ElectraTokenizer", 64))


def funnel(folder: Path) -> Path:
    """It pools neighbouring positions, so padding would show in what it says."""
    sizes = {"d_model": 32, "block_sizes": [1, 1], "n_head": 2, "d_head": 16, "d_inner": 64}
    config = FunnelConfig(vocab_size=len(_wordpiece_vocabulary()), **sizes)
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]", "bos_token": "[CLS]"}
    files = _wordpiece_files("FunnelTokenizer", 96, cls_token="[CLS]", sep_token="[SEP]", eos_token="[SEP]", **special)
    return save_model(folder, FunnelForQuestionAnswering(config), files)


def roberta(folder: Path) -> Path:
    """One token for each byte, but for a few words; a letter may take several tokens."""
    words = _byte_vocabulary()
    ids = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    config = RobertaConfig(vocab_size=len(words), max_position_embeddings=514, type_vocab_size=1, **SIZES, **ids)
    files = {
        "vocab.json": {word: number for number, word in enumerate(words)},
        "merges.txt": "#version: 0.2\nt h\nth e\nĠ the\ni n\nĠ in\n",
        "tokenizer_config.json": {"tokenizer_class": "RobertaTokenizer", "model_max_length": 512},
    }
    return save_model(folder, RobertaForQuestionAnswering(config), files)


def deberta(folder: Path) -> Path:
    config = DebertaV2Config(
        vocab_size=len(DEBERTA.pieces),
        relative_attention=True,
        position_buckets=8,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        max_position_embeddings=64,
        type_vocab_size=0,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        **SIZES,
    )
    return save_model(folder, DebertaV2ForQuestionAnswering(config), DEBERTA.files(64))


def albert(folder: Path) -> Path:
    config = AlbertConfig(vocab_size=len(ALBERT.pieces), embedding_size=16, **SIZES)
    return save_model(folder, AlbertForQuestionAnswering(config), ALBERT.files(64))


def _bert(folder: Path, max_length: int, **tokenizer: Any) -> Path:
    config = BertConfig(vocab_size=len(_wordpiece_vocabulary()), max_position_embeddings=max_length, **SIZES)
    return save_model(
        folder, BertForQuestionAnswering(config), _wordpiece_files("BertTokenizer", max_length, **tokenizer)
    )


def _wordpiece_vocabulary() -> list[str]:
    letters = [letter for letter in LETTERS if not letter.isupper()]
    return [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *letters,
        *(f"##{letter}" for letter in letters),
        *(word for word in WORDS if word not in letters),
        "##ing",
        "##ed",
    ]


def _wordpiece_files(tokenizer: str, max_length: int, **fields: Any) -> dict[str, Any]:
    settings = {"tokenizer_class": tokenizer, "do_lower_case": True, "model_max_length": max_length, **fields}
    return {"vocab.txt": "\n".join(_wordpiece_vocabulary()) + "\n", "tokenizer_config.json": settings}


def _byte_vocabulary() -> list[str]:
    """The 256 letters that stand for bytes in GPT-2's way of writing them, and what the merges make."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    letters = [*(chr(byte) for byte in shown), *(chr(256 + place) for place in range(len(hidden)))]
    return ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *letters, "th", "the", "Ġthe", "in", "Ġin"]


@dataclass(frozen=True)
class _UnigramTokenizer:
    """A tokenizer of SentencePiece's kind. transformers 5 builds a class's own one whatever the folder says, 4 believes
    the folder: so it must say what 5 builds.
    """

    name: str
    special_tokens: tuple[str, str, str, str, str]  # padding, unknown, first, separator, mask
    normalizers: list[dict[str, Any]]
    pre_tokenizers: list[dict[str, Any]]

    @property
    def pieces(self) -> list[tuple[str, float]]:
        words = [*WORDS, *(f"▁{word}" for word in WORDS), "▁"]
        letters = [letter for letter in LETTERS if letter not in WORDS]
        scored = [*((word, -2.0) for word in words), *((letter, -5.0) for letter in letters)]
        return [*((word, 0.0) for word in self.special_tokens), *scored]

    def files(self, max_length: int) -> dict[str, Any]:
        names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
        settings = {
            "tokenizer_class": self.name,
            "model_max_length": max_length,
            **dict(zip(names, self.special_tokens, strict=True)),
        }
        return {"tokenizer.json": self._tokenizer_json(), "tokenizer_config.json": settings}

    def _tokenizer_json(self) -> dict[str, Any]:
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        added = [{"id": number, "content": word, **flags} for number, word in enumerate(self.special_tokens)]
        first = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
        first.append({"SpecialToken": {"id": "[SEP]", "type_id": 0}})
        second = [{"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": {"id": "[SEP]", "type_id": 1}}]
        used = {
            word: {"id": word, "ids": [self.special_tokens.index(word)], "tokens": [word]}
            for word in ("[CLS]", "[SEP]")
        }
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": added,
            "decoder": METASPACE,
            "normalizer": {"type": "Sequence", "normalizers": self.normalizers},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": self.pre_tokenizers},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": first,
                "pair": [*first, *second],
                "special_tokens": used,
            },
            "model": {"type": "Unigram", "unk_id": 1, "vocab": self.pieces, "byte_fallback": False},
        }


METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
DEBERTA = _UnigramTokenizer(
    "DebertaV2Tokenizer",
    ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    [
        {"type": "Replace", "pattern": {"Regex": r"\s{2,}|[\n\r\t]"}, "content": " "},
        {"type": "NFC"},
        {"type": "Strip", "strip_left": False, "strip_right": True},
    ],
    [METASPACE],
)
ALBERT = _UnigramTokenizer(
    "AlbertTokenizer",
    ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"),
    [
        {"type": "Replace", "pattern": {"String": "``"}, "content": '"'},
        {"type": "Replace", "pattern": {"String": "''"}, "content": '"'},
        {"type": "NFKD"},
        {"type": "StripAccents"},
        {"type": "Lowercase"},
    ],
    [{"type": "WhitespaceSplit"}, METASPACE],
)
