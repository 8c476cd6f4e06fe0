"""All ten tasks in float32 on the GPU equal the libraries' own answers on the CPU, by the suites of the CPU."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conformance import test_feature_extraction as feature_extraction
from tests.conformance import test_fill_mask as fill_mask
from tests.conformance import test_ner as ner
from tests.conformance import test_question_answering as question_answering
from tests.conformance import test_sentiment_analysis as sentiment_analysis
from tests.conformance import test_text_generation as text_generation
from tests.conformance import test_text_ranking as text_ranking
from tests.conformance import test_text_to_text as text_to_text
from tests.conformance import test_zero_shot_classification as zero_shot
from tests.conformance.conftest import RunBatches
from tests.factories import tiny_decoders
from tests.factories.tiny_encoders import NLI_LABELS
from tests.unit.worker.adapters.probes import test_sameness as sameness

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")]

Check = Callable[[Path, RunBatches], object]


def check_text_generation(folder: Path, run: RunBatches) -> None:
    entry = tiny_decoders.pipeline_for(tiny_decoders.llama(folder / "model"))
    text_generation.assert_equal_to_pipeline(entry, run, text_generation.TEXTS, [text_generation.GREEDY])


def check_text_to_text(task: str, folder: Path, run: RunBatches) -> None:
    name, case = next((name, case) for name, case in text_to_text.CASES if case.task.startswith(task))
    text_to_text.test_equals_pipeline(name, case, folder, run)


CHECKS: dict[str, Check] = {
    "sentiment-analysis": lambda folder, run: sentiment_analysis.test_equals_pipeline(
        sentiment_analysis.Model("distilbert", 2, {}), folder, run
    ),
    "ner": lambda folder, run: ner.test_equals_pipeline("bert", folder, run),
    "fill-mask": lambda folder, run: fill_mask.test_equals_pipeline("bert", folder, run),
    "zero-shot-classification": lambda folder, run: zero_shot.test_equals_pipeline("bert", NLI_LABELS, folder, run),
    "question-answering": lambda folder, run: question_answering.test_equals_pipeline(
        question_answering.CASES[0], False, folder, run
    ),
    "text-generation": check_text_generation,
    "summarization": lambda folder, run: check_text_to_text("summarization", folder, run),
    "translation": lambda folder, run: check_text_to_text("translation", folder, run),
    "feature-extraction": lambda _folder, run: (
        feature_extraction.test_equals_sentence_transformers_with_the_real_minilm(run)
    ),
    "text-ranking": lambda folder, run: text_ranking.test_equals_cross_encoder("bert", folder, run),
}


@pytest.mark.parametrize("task", CHECKS)
def test_equals_pipeline(suite_on_gpu: str, task: str, tmp_path: Path, run_batches: RunBatches) -> None:
    CHECKS[task](tmp_path, run_batches)


@pytest.mark.parametrize("task", ["sentiment-analysis", "ner", "fill-mask"])
def test_an_id_past_the_embeddings_fails_its_row_alone(suite_on_gpu: str, task: str, tmp_path: Path) -> None:
    sameness.test_a_word_past_the_embeddings_costs_its_row_alone(tmp_path, task)
