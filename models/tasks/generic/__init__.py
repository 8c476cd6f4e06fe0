"""Tasks that transformers' own pipelines answer: two with specs of their own, and `transformers:NAME` for any other."""

from models.tasks.generic.decision import DECISION
from models.tasks.generic.table_question_answering import TABLE_QUESTION_ANSWERING
from models.tasks.generic.transformers_pipeline import TRANSFORMERS_PIPELINE
from models.tasks.spec import TaskSpec

GENERIC_SPECS: tuple[TaskSpec, ...] = (TABLE_QUESTION_ANSWERING, DECISION, TRANSFORMERS_PIPELINE)
