"""What the question answerers are asked."""
# ruff: noqa: RUF001 (letters that look like others are the point of some texts)

from typing import Any

from tests.golden import models
from tests.golden.cases import Case

PLAIN = "My name is Wolfgang and I live in Berlin, the city on the river Spree."
TOWN = (
    "The city of Rivermouth was founded in 1287 where two rivers meet. Its harbour, built by the merchant Anna "
    "Lindqvist, was the largest of its age; in 1644 a fire burned all but three houses. Who rebuilt it is not known. "
)
FOREIGN = [
    "東京は日本の首都です。世界で最も大きな都市の一つ。", "서울은 한국의 수도이다", "القاهرة عاصمة مصر والمدينة كبيرة",
    "Москва — столица России, город на реке.", "Cafe\u0301 de l'E\u0301toile, Stra\u00dfe nai\u0308ve, ﬁne",
    "😀 the 👩\u200d👩\u200d👧 city 🇩🇪 of 👍🏽 smiles", "zero\u200bwidth\u200dand\ufeffmarks and soft\u00adhyphens",
    "İstanbul ẞ ſ ǅ 𝕲𝖗𝖊𝖆𝖙 Ω ﷺ", "ราชอาณาจักรไทย มีเมืองหลวง", "\u202eright to left\u202c the city",
]  # fmt: skip
ODD = [
    "a", "the", "Berlin Berlin berlin BERLIN the Berlin", "tabs\tand\nlines\r\n\r\nand  double  spaces",
    "<b>markup</b> &amp; {braces} [SEP] </s> [CLS] <s> [MASK]", "C:\\path\\file.txt https://example.org/?q=1&r=2",
    "  leading and trailing  ", "1,234.50 € - 7/8", "don't can't o'clock", "\u200b",
]  # fmt: skip


def _ask(question: str, context: str) -> dict[str, str]:
    return {"question": question, "context": context}


SHORT = [
    _ask("Where do I live?", PLAIN), _ask("Who?", PLAIN), _ask("What is my name", PLAIN), _ask("?", "the city"),
    *(_ask("What?", context) for context in FOREIGN), _ask("世界 what 😀 e\u0301", FOREIGN[0]),
    *(_ask("Where", context) for context in ODD), _ask("  the   city?  ", TOWN), _ask("[CLS] what <s>", "in the city"),
]  # fmt: skip
LONG = [_ask("Who built it?", TOWN * 3), _ask("the river", "the river 世界 é 😀 " * 40), _ask("a", "x" * 500)]

EVERY: list[dict[str, Any]] = [
    {}, {"top_k": 5}, {"top_k": 3, "handle_impossible_answer": True}, {"handle_impossible_answer": True},
    {"align_to_words": False, "top_k": 4}, {"max_answer_len": 1, "top_k": 2}, {"max_answer_len": 60},
    {"max_seq_len": 40, "doc_stride": 8, "top_k": 3}, {"max_seq_len": 61, "handle_impossible_answer": True},
    {"max_seq_len": 36, "doc_stride": 0}, {"max_question_len": 1, "align_to_words": True},
]  # fmt: skip
FEW = [EVERY[0], EVERY[2], {**EVERY[7], "handle_impossible_answer": True}]

CASES = [
    *(Case(make, "question-answering", [*SHORT, *LONG], EVERY) for make in (models.bert, models.roberta)),
    *(
        Case(make, "question-answering", [*SHORT, *LONG], FEW)
        for make in (
            models.short_bert, models.left_bert, models.left_cut_bert, models.distilbert, models.electra,
            models.deberta, models.albert, models.funnel,
        )
    ),
]  # fmt: skip
