"""The texts that summarizers and translators are given, and how they are to write."""

from typing import Any

TEXTS = [
    "The river is in the city.",
    "a",
    "the",
    "What is it, and who was the king of it?",
    "Der Fluss ist in der Stadt.",
    "世界 the city 世 界, 東京は日本の首都です。",
    "Москва — столица России.",
    "القاهرة عاصمة مصر",
    "e\u0301te\u0301 nai\u0308ve ﬁne Stra\u00dfe",
    "😀 the 👩\u200d👩\u200d👧 house 🇩🇪",
    "zero\u200bwidth\u200dand\ufeffmarks",
    "\u200b",
    "tabs\tand lines the house",
    "<b>markup</b> &amp; {braces} [SEP] [MASK]",
    "the</s> house <pad> <unk> </s>x <s> river",
    ">>de<< the river",
    "the house . the river , the city !",
    "  leading and trailing  ",
    "don't can't o'clock 1,234.50 €",
    "the river of the city " * 5,
    "the house and the river is the city of 世界 and 😀 " * 6,
    "abc" * 70,
    "and " * 150,
]

# The pipeline of 4.57 cuts nothing unless it is told to; a long text would then kill it.
TRUNCATE = {"truncation": True}

ALL_PARAMETERS: list[dict[str, Any]] = [
    {**TRUNCATE, **given}
    for given in (
        {},
        {"num_beams": 1, "max_new_tokens": 30},
        {"num_beams": 1, "max_new_tokens": 5},
        {"max_length": 12, "min_length": 5},
        {"max_new_tokens": 1},
        {"num_return_sequences": 3, "max_new_tokens": 20},
        {
            "num_beams": 2,
            "num_return_sequences": 2,
            "early_stopping": "never",
            "length_penalty": -1.0,
            "max_new_tokens": 20,
        },
        {"num_beams": 5, "early_stopping": True, "length_penalty": 3.0, "max_new_tokens": 24},
        {"early_stopping": False, "max_new_tokens": 24},
        {"num_beams": 1, "repetition_penalty": 1.5, "no_repeat_ngram_size": 0, "max_new_tokens": 30},
        {"no_repeat_ngram_size": 1, "clean_up_tokenization_spaces": True, "max_new_tokens": 20},
        {"min_new_tokens": 7, "max_new_tokens": 9, "num_beams": 3},
        {"min_length": 3, "do_sample": False, "max_new_tokens": 20},
    )
]
FEW_PARAMETERS = [ALL_PARAMETERS[0], ALL_PARAMETERS[1], ALL_PARAMETERS[3], ALL_PARAMETERS[6]]
# For models that write 256 tokens where nobody says otherwise.
MINIMAL_PARAMETERS = [ALL_PARAMETERS[0], ALL_PARAMETERS[1], ALL_PARAMETERS[6]]
