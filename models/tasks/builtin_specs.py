"""The specs of the tasks that Batchmill has itself."""

from models.tasks.feature_extraction import FEATURE_EXTRACTION
from models.tasks.fill_mask import FILL_MASK
from models.tasks.generic import GENERIC_SPECS, transformers_pipeline
from models.tasks.ner import NER
from models.tasks.question_answering import QUESTION_ANSWERING
from models.tasks.sentiment_analysis import SENTIMENT_ANALYSIS
from models.tasks.spec import TaskSpec
from models.tasks.text_generation import TEXT_GENERATION
from models.tasks.text_ranking import TEXT_RANKING
from models.tasks.text_to_text import SUMMARIZATION, TRANSLATION
from models.tasks.zero_shot_classification import ZERO_SHOT_CLASSIFICATION

SPECS: tuple[TaskSpec, ...] = (
    SENTIMENT_ANALYSIS,
    TEXT_GENERATION,
    ZERO_SHOT_CLASSIFICATION,
    QUESTION_ANSWERING,
    FILL_MASK,
    SUMMARIZATION,
    NER,
    TRANSLATION,
    FEATURE_EXTRACTION,
    TEXT_RANKING,
)
TASKS: dict[str, TaskSpec] = {spec.name: spec for spec in SPECS}
ALL_NAMES: list[str] = [*TASKS, *(spec.name for spec in GENERIC_SPECS)]
ALIASES: dict[str, str] = {alias: spec.name for spec in SPECS for alias in spec.aliases}


def find_builtin(name: str) -> TaskSpec | None:
    """Find the spec of a built-in task by name, alias or variant; None if there is none.

    Raises UsageError for a task of transformers under a name that is not its own.
    """
    transformers_pipeline.check_name(name)
    return next((spec for spec in (*SPECS, *GENERIC_SPECS) if spec.canonical_name(name)), None)
