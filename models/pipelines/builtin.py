"""Built-in pipelines: the pinned default models of transformers, and a tiny sample model for each task.

The commits are those that transformers pins in `transformers.pipelines.SUPPORTED_TASKS`, written out in full as the
Hub's cache names them. Tasks that transformers 5 dropped take theirs from 4.57.
"""

from models import tasks
from models.pipelines.pipeline import BUNDLED_PREFIX, Pipeline

DEFAULT_PIPELINES = (
    Pipeline(
        name="sentiment-analysis",
        task="sentiment-analysis",
        model="distilbert/distilbert-base-uncased-finetuned-sst-2-english",
        revision="714eb0fa89d2f80546fda750413ed43d93601a13",
        licence="Apache-2.0",
        description="English reviews, POSITIVE or NEGATIVE; 67 M parameters, 512 tokens.",
    ),
    Pipeline(
        name="text-generation",
        task="text-generation",
        model="openai-community/gpt2",
        revision="607a30d783dfa663caf39e06633721c8d4cfcd7e",
        licence="MIT",
        description="Goes on with an English text, unfiltered; 124 M parameters, 1,024 tokens.",
    ),
    Pipeline(
        name="zero-shot-classification",
        task="zero-shot-classification",
        model="facebook/bart-large-mnli",
        revision="d7645e127eaf1aefc7862fd59a17a5aa8558b8ce",
        licence="MIT",
        description="English texts by labels of your own; 407 M parameters, 1,024 tokens.",
    ),
    Pipeline(
        name="question-answering",
        task="question-answering",
        model="distilbert/distilbert-base-cased-distilled-squad",
        revision="564e9b582944a57a3e586bbb98fd6f0a4118db7f",
        licence="Apache-2.0",
        description="Finds the answer in an English text; 65 M parameters, windows of 384 tokens.",
    ),
    Pipeline(
        name="fill-mask",
        task="fill-mask",
        model="distilbert/distilroberta-base",
        revision="fb53ab8802853c8e4fbdbcd0529f21fc6f459b2b",
        licence="Apache-2.0",
        description="English words for <mask>; 82 M parameters, 512 tokens.",
    ),
    Pipeline(
        name="summarization",
        task="summarization",
        model="sshleifer/distilbart-cnn-12-6",
        revision="a4f8f3ea906ed274767e9906dbaede7531d660ff",
        licence="Apache-2.0",
        description="Sums up English news; 306 M parameters, 1,024 tokens.",
    ),
    Pipeline(
        name="ner",
        task="ner",
        model="dbmdz/bert-large-cased-finetuned-conll03-english",
        revision="4c534963167c08d4b8ff1f88733cf2930f86add0",
        description="Persons, organisations, places and more in English news; 334 M parameters, 512 tokens; no licence "
        "is stated.",
    ),
    Pipeline(
        name="translation",
        task="translation_en_to_de",
        model="Helsinki-NLP/opus-mt-en-de",
        revision="6183067f769a302e3861815543b9f312c71b0ca4",
        licence="CC-BY-4.0",
        description="English to German; 74 M parameters, 512 tokens.",
    ),
)

SAMPLE_TASKS = {"translation": "translation_en_to_de"}


def _sample_pipeline(task: str) -> Pipeline:
    return Pipeline(
        name=f"sample-{task}",
        task=SAMPLE_TASKS.get(task, task),
        model=f"{BUNDLED_PREFIX}{task}",
        licence="Apache-2.0",
        description="A tiny model that comes with Batchmill, to try things out without the Hub.",
    )


BUILTIN_PIPELINES = (*DEFAULT_PIPELINES, *(_sample_pipeline(task) for task in tasks.TASKS))
