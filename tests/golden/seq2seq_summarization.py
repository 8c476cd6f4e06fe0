"""What the summarizers are asked."""

from tests.golden import seq2seq_models as models
from tests.golden.cases import Case
from tests.golden.seq2seq_texts import BRIEF, EVERY, FEW, TEXTS

CASES = [
    *(Case(make, "summarization", TEXTS, EVERY) for make in (models.bart, models.t5)),
    *(Case(make, "summarization", TEXTS, FEW) for make in (models.early_bart, models.pegasus)),
    *(Case(make, "summarization", TEXTS[1::3], BRIEF) for make in (models.bare_bart, models.mt5)),
]
