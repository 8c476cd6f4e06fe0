"""What the translators are asked."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.golden import seq2seq_models as models
from tests.golden.cases import Case
from tests.golden.seq2seq_texts import BRIEF, EVERY, FEW, TEXTS


def t5_to_anything(folder: Path) -> Path:
    return models.t5(folder)


def t5_to_french(folder: Path) -> Path:
    return models.t5(folder)


def t5_to_romanian(folder: Path) -> Path:
    """Its config has nothing for this task."""
    return models.t5(folder)


def m2m100_by_name(folder: Path) -> Path:
    return models.m2m100(folder)


def _between(source: str, target: str, asked: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{**given, "src_lang": source, "tgt_lang": target} for given in asked]


CASES = [
    Case(models.marian, "translation", TEXTS, EVERY),
    Case(models.free_marian, "translation_en_to_de", TEXTS, FEW),
    Case(t5_to_anything, "translation", TEXTS[1::3], BRIEF),
    Case(t5_to_french, "translation_en_to_fr", TEXTS[1::3], BRIEF),
    Case(t5_to_romanian, "translation_en_to_ro", TEXTS[1::3], BRIEF),
    Case(models.mbart, "translation", TEXTS, [*_between("en_XX", "ro_RO", FEW), *_between("de_DE", "en_XX", FEW[:1])]),
    Case(models.mbart50, "translation", TEXTS, _between("de_DE", "fr_XX", FEW)),
    Case(models.nllb, "translation", TEXTS, _between("deu_Latn", "zho_Hans", FEW)),
    Case(models.m2m100, "translation", TEXTS, _between("de", "zh", FEW)),
    Case(m2m100_by_name, "translation_en_to_de", TEXTS, [*FEW[:1], *_between("fr", "en", FEW[:1])]),
]
