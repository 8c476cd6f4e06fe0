"""What the question answerers are asked."""
# ruff: noqa: RUF001 (letters that look like others are the point of some texts)

from typing import Any

from tests.golden import qa_models
from tests.golden.cases import Case

SHORT_CONTEXT = "My name is Wolfgang and I live in Berlin, the city on the river Spree."
TOWN_CONTEXT = (
    "The city of Rivermouth was founded in 1287 where two rivers meet. Its harbour, built by the merchant Anna "
    "Lindqvist, was the largest of its age; in 1644 a fire burned all but three houses. Who rebuilt it is not known. "
)
FOREIGN_CONTEXTS = [
    "東京は日本の首都です。世界で最も大きな都市の一つ。",
    "서울은 한국의 수도이다",
    "القاهرة عاصمة مصر والمدينة كبيرة",
    "Москва — столица России, город на реке.",
    "Cafe\u0301 de l'E\u0301toile, Stra\u00dfe nai\u0308ve, ﬁne",
    "😀 the 👩\u200d👩\u200d👧 city 🇩🇪 of 👍🏽 smiles",
    "zero\u200bwidth\u200dand\ufeffmarks and soft\u00adhyphens",
    "İstanbul ẞ ſ ǅ 𝕲𝖗𝖊𝖆𝖙 Ω ﷺ",
    "ราชอาณาจักรไทย มีเมืองหลวง",
    "\u202eright to left\u202c the city",
]
ODD_CONTEXTS = [
    "a",
    "the",
    "Berlin Berlin berlin BERLIN the Berlin",
    "tabs\tand\nlines\r\n\r\nand  double  spaces",
    "<b>markup</b> &amp; {braces} [SEP] </s> [CLS] <s> [MASK]",
    "C:\\path\\file.txt https://example.org/?q=1&r=2",
    "  leading and trailing  ",
    "1,234.50 € - 7/8",
    "don't can't o'clock",
    "\u200b",
]


def _question_input(question: str, context: str) -> dict[str, str]:
    return {"question": question, "context": context}


SHORT_INPUTS = [
    _question_input("Where do I live?", SHORT_CONTEXT),
    _question_input("Who?", SHORT_CONTEXT),
    _question_input("What is my name", SHORT_CONTEXT),
    _question_input("?", "the city"),
    *(_question_input("What?", context) for context in FOREIGN_CONTEXTS),
    _question_input("世界 what 😀 e\u0301", FOREIGN_CONTEXTS[0]),
    *(_question_input("Where", context) for context in ODD_CONTEXTS),
    _question_input("  the   city?  ", TOWN_CONTEXT),
    _question_input("[CLS] what <s>", "in the city"),
]
LONG_INPUTS = [
    _question_input("Who built it?", TOWN_CONTEXT * 3),
    _question_input("the river", "the river 世界 é 😀 " * 40),
    _question_input("a", "x" * 500),
]

ALL_PARAMETERS: list[dict[str, Any]] = [
    {},
    {"top_k": 5},
    {"top_k": 3, "handle_impossible_answer": True},
    {"handle_impossible_answer": True},
    {"align_to_words": False, "top_k": 4},
    {"max_answer_len": 1, "top_k": 2},
    {"max_answer_len": 60},
    {"max_seq_len": 40, "doc_stride": 8, "top_k": 3},
    {"max_seq_len": 61, "handle_impossible_answer": True},
    {"max_seq_len": 36, "doc_stride": 0},
    {"max_question_len": 1, "align_to_words": True},
]
FEW_PARAMETERS = [ALL_PARAMETERS[0], ALL_PARAMETERS[2], {**ALL_PARAMETERS[7], "handle_impossible_answer": True}]

CASES = [
    *(
        Case(make, "question-answering", [*SHORT_INPUTS, *LONG_INPUTS], ALL_PARAMETERS)
        for make in (qa_models.bert, qa_models.roberta)
    ),
    *(
        Case(make, "question-answering", [*SHORT_INPUTS, *LONG_INPUTS], FEW_PARAMETERS)
        for make in (
            qa_models.short_bert,
            qa_models.left_bert,
            qa_models.left_cut_bert,
            qa_models.distilbert,
            qa_models.electra,
            qa_models.deberta,
            qa_models.albert,
            qa_models.funnel,
        )
    ),
]
