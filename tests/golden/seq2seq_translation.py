"""What the translators are asked."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.golden import seq2seq_models as models
from tests.golden.cases import Case
from tests.golden.seq2seq_inputs import ALL_PARAMETERS, FEW_PARAMETERS, MINIMAL_PARAMETERS, TEXTS


def t5_to_anything(folder: Path) -> Path:
    return models.t5(folder)


def t5_to_french(folder: Path) -> Path:
    return models.t5(folder)


def t5_to_romanian(folder: Path) -> Path:
    """Its config has nothing for this task."""
    return models.t5(folder)


def m2m100_by_name(folder: Path) -> Path:
    return models.m2m100(folder)


def _with_languages(source: str, target: str, parameters: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{**given, "src_lang": source, "tgt_lang": target} for given in parameters]


CASES = [
    Case(models.marian, "translation", TEXTS, ALL_PARAMETERS),
    Case(models.free_marian, "translation_en_to_de", TEXTS, FEW_PARAMETERS),
    Case(t5_to_anything, "translation", TEXTS[1::3], MINIMAL_PARAMETERS),
    Case(t5_to_french, "translation_en_to_fr", TEXTS[1::3], MINIMAL_PARAMETERS),
    Case(t5_to_romanian, "translation_en_to_ro", TEXTS[1::3], MINIMAL_PARAMETERS),
    Case(
        models.mbart,
        "translation",
        TEXTS,
        [*_with_languages("en_XX", "ro_RO", FEW_PARAMETERS), *_with_languages("de_DE", "en_XX", FEW_PARAMETERS[:1])],
    ),
    Case(models.mbart50, "translation", TEXTS, _with_languages("de_DE", "fr_XX", FEW_PARAMETERS)),
    Case(models.nllb, "translation", TEXTS, _with_languages("deu_Latn", "zho_Hans", FEW_PARAMETERS)),
    Case(models.m2m100, "translation", TEXTS, _with_languages("de", "zh", FEW_PARAMETERS)),
    Case(
        m2m100_by_name,
        "translation_en_to_de",
        TEXTS,
        [*FEW_PARAMETERS[:1], *_with_languages("fr", "en", FEW_PARAMETERS[:1])],
    ),
]
