"""What the summarizers are asked."""

from tests.golden import seq2seq_models as models
from tests.golden.cases import Case
from tests.golden.seq2seq_inputs import ALL_PARAMETERS, FEW_PARAMETERS, MINIMAL_PARAMETERS, TEXTS

CASES = [
    *(Case(make, "summarization", TEXTS, ALL_PARAMETERS) for make in (models.bart, models.t5)),
    *(Case(make, "summarization", TEXTS, FEW_PARAMETERS) for make in (models.early_bart, models.pegasus)),
    *(Case(make, "summarization", TEXTS[1::3], MINIMAL_PARAMETERS) for make in (models.bare_bart, models.mt5)),
]
