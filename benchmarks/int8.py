"""The same encoder with int8 weights: our `quantization = "int8"` against pipeline() as it comes, in float32."""

import warnings
from pathlib import Path
from typing import Any

import torch
import torch.ao.quantization
from transformers import AutoModelForSequenceClassification

from benchmarks import checkpoints, corpus, loops, options, report
from benchmarks.contest import Candidate
from benchmarks.duels import BATCHMILL_NAME, PipelineComparison, speedup

TASK = "sentiment-analysis"
HAND_QUANTIZED_PREFIX = "quantized by hand, "


def quantize_with_torch(model: Path) -> Any:
    """The model as torch's documentation quantizes one."""
    plain = AutoModelForSequenceClassification.from_pretrained(model, dtype=torch.float32).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated in favour of a package of its own
        layers: Any = torch.ao.quantization
        return layers.quantize_dynamic(plain, {torch.nn.Linear}, dtype=torch.qint8)


def main() -> None:
    """Print the paces and how they stand to the target."""
    asked = options.parse_options(__doc__, items=64, distribution=True)
    model = checkpoints.classifier_folder()
    tokenizer = checkpoints.load_tokenizer(model)
    texts = corpus.random_texts(tokenizer, asked.items, asked.lengths)
    pipe = loops.load_pipeline(TASK, quantize_with_torch(model), tokenizer)
    by_hand = [
        Candidate(
            f"{HAND_QUANTIZED_PREFIX}pipeline(batch_size={size})",
            loops.pipeline_loop(pipe, texts, size, truncation=True),
        )
        for size in (1, 8)
    ]
    duel = PipelineComparison(
        TASK,
        model,
        texts,
        (1, 8),
        {"truncation": True},
        catalogue_fields={"quantization": "int8"},
        warm_up_inputs=corpus.warm_up_texts(tokenizer, asked.lengths),
    )
    standings = duel.run(asked.rounds, by_hand)
    title = f"int8: {asked.items} texts of {asked.lengths} lengths, DistilBERT-base"
    report.print_throughput(title, "texts/s", standings, BATCHMILL_NAME)
    report.print_targets(
        [report.Target("int8 against the best batch size of pipeline() in float32", 2.2, speedup(standings))]
    )
    print(
        "Against the best of pipeline() with a model quantized by hand: "
        f"{speedup(standings, HAND_QUANTIZED_PREFIX):.2f} ×"
    )


if __name__ == "__main__":
    main()
