"""Built-in pipelines: the pinned default models of transformers, models for guards, and a tiny sample of each.

The commits of the defaults are those that transformers pins in `transformers.pipelines.SUPPORTED_TASKS`, written out in
full as the Hub's cache names them. Tasks that transformers 5 dropped take theirs from 4.57. The commits of guards,
embedding and ranking models are those that several public repositories pin.
"""

from models import tasks
from models.guards.definition import Guard
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
    Pipeline(
        name="feature-extraction",
        task="feature-extraction",
        model="sentence-transformers/all-MiniLM-L6-v2",
        revision="c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
        licence="Apache-2.0",
        description="Vectors of 384 numbers for English texts; 23 M parameters, 256 tokens.",
    ),
    Pipeline(
        name="text-ranking",
        task="text-ranking",
        model="cross-encoder/ms-marco-MiniLM-L6-v2",
        revision="c5ee24cb16019beea0893ab7796b1df96625c6b8",
        licence="Apache-2.0",
        description="Scores English texts for a query; 23 M parameters, 512 tokens for both.",
    ),
)

# BGE embeds the query of a search behind an instruction, and the texts that are searched as they are. The model's own
# files do not name the instruction.
BGE_MODEL = "BAAI/bge-small-en-v1.5"
BGE_REVISION = "5c38ec7c405ec4b44b94cc5a9bb96e735b38267a"
EMBEDDING_PIPELINES = (
    Pipeline(
        name="bge-small",
        task="feature-extraction",
        model=BGE_MODEL,
        revision=BGE_REVISION,
        licence="MIT",
        description="Vectors of 384 numbers for English texts to search; 33 M parameters, 512 tokens.",
    ),
    Pipeline(
        name="bge-small-query",
        task="feature-extraction",
        model=BGE_MODEL,
        revision=BGE_REVISION,
        prompt="Represent this sentence for searching relevant passages: {text}",
        licence="MIT",
        description="The queries of searches in texts that bge-small embedded.",
    ),
)

# The models of guards read whole texts, also where somebody submits a batch to them: the highest score counts.
# Their descriptions say how much they miss, because nobody can see that from a score.
GUARD_PIPELINES = (
    Pipeline(
        name="prompt-injection",
        task="sentiment-analysis",
        model="protectai/deberta-v3-base-prompt-injection-v2",
        revision="e6535ca4ce3ba852083e75ec585d7c8aeb4be4c5",
        truncation="stride",
        window_aggregation="max",
        licence="Apache-2.0",
        description="For guards: SAFE or INJECTION, English; found 22 % of the injections in a test by Meta, whose own "
        "Prompt Guard 2 found 81 %; 184 M parameters, windows of 512 tokens.",
    ),
    Pipeline(
        name="toxicity",
        task="sentiment-analysis",
        model="unitary/toxic-bert",
        revision="4d6c22e74ba2fdd26bc4f7238f50766b045a0d94",
        truncation="stride",
        window_aggregation="max",
        licence="Apache-2.0",
        description="For guards: toxic, severe_toxic, obscene, threat, insult and identity_hate, several at once; "
        "learned from English comments of Wikipedia, and scores swear words high in any sense; 109 M parameters, "
        "windows of 512 tokens.",
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


def _sample_guard_pipeline(name: str, task: str, finds: str) -> Pipeline:
    return Pipeline(
        name=f"sample-{name}",
        task=task,
        model=f"{BUNDLED_PREFIX}{name}",
        truncation="stride",
        window_aggregation="max" if task == "sentiment-analysis" else None,
        licence="Apache-2.0",
        description=f"For guards, demo only: a tiny model that finds {finds}. It guards nothing real.",
    )


SAMPLE_GUARD_PIPELINES = (
    _sample_guard_pipeline("prompt-injection", "sentiment-analysis", "plain English prompt injections"),
    _sample_guard_pipeline("toxicity", "sentiment-analysis", "mild English insults and threats"),
    _sample_guard_pipeline("personal-data", "ner", "persons, addresses, e-mail addresses and telephone numbers"),
)

SAMPLE_GUARDED_PIPELINE = Pipeline(
    name="sample-guarded-sentiment",
    task="sentiment-analysis",
    model=f"{BUNDLED_PREFIX}sentiment-analysis",
    licence="Apache-2.0",
    guards={
        "injection": Guard(
            on="input", action="fail", pipeline="sample-prompt-injection", label="INJECTION", threshold=0.7
        ),
        "toxicity": Guard(on="input", action="flag", pipeline="sample-toxicity", label="toxic", threshold=0.7),
        "names": Guard(
            on="input",
            action="redact",
            pipeline="sample-personal-data",
            label=("PERSON", "ADDRESS"),
            threshold=0.7,
            replacement="[{label}]",
        ),
        "contacts": Guard(on="input", action="redact", pii=("email", "phone"), replacement="[{label}]"),
    },
    description="The sample for sentiment-analysis behind four guards, to see how rows are blocked, flagged and "
    "redacted.",
)

BUILTIN_PIPELINES = (
    *DEFAULT_PIPELINES,
    *EMBEDDING_PIPELINES,
    *GUARD_PIPELINES,
    *(_sample_pipeline(task) for task in tasks.TASKS),
    *SAMPLE_GUARD_PIPELINES,
    SAMPLE_GUARDED_PIPELINE,
)
