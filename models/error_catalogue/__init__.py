"""Each error code of a job or a batch in words: its cause, the advice, and whether a retry helps."""

from models.error_catalogue import batches, inputs, model_inputs, running
from models.error_catalogue.explanation import Explanation, Remedy, unknown_code

JOBS = inputs.EXPLANATIONS | model_inputs.EXPLANATIONS | running.EXPLANATIONS
BATCHES = batches.EXPLANATIONS

__all__ = ["BATCHES", "JOBS", "Explanation", "Remedy", "explain", "explain_batch"]


def explain(code: str | None) -> Explanation:
    """Return the explanation of a failed job's error code; a task of one's own may have codes that are not listed."""
    known = code or ""  # jobs of a batch that fails as a whole have its code
    return JOBS.get(known) or BATCHES.get(known) or unknown_code(code)


def explain_batch(code: str | None) -> Explanation:
    """Return the explanation of the error code of a batch that failed as a whole."""
    return BATCHES.get(code or "") or explain(code)
