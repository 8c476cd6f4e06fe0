"""An encoder with int8 weights: `quantization = "int8"` against the unmodified pipeline() in float32."""

import warnings
from pathlib import Path
from typing import Any

import torch
import torch.ao.quantization
from transformers import AutoModelForSequenceClassification

from benchmarks import checkpoints, corpus, inference_loops, options, report
from benchmarks.comparison import Candidate
from benchmarks.pipeline_comparison import BATCHMILL_NAME, PipelineComparison, speedup

TASK = "sentiment-analysis"
HAND_QUANTIZED_PREFIX = "quantized by hand, "


def quantize_with_torch(model: Path) -> Any:
    """Quantize the model as torch's documentation does."""
    plain = AutoModelForSequenceClassification.from_pretrained(model, dtype=torch.float32).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated in favour of a separate package
        layers: Any = torch.ao.quantization
        return layers.quantize_dynamic(plain, {torch.nn.Linear}, dtype=torch.qint8)


def main() -> None:
    """Print the throughput and compare it with the target."""
    asked = options.parse_options(__doc__, items=64, distribution=True)
    model = checkpoints.classifier_folder()
    tokenizer = checkpoints.load_tokenizer(model)
    texts = corpus.random_texts(tokenizer, asked.items, asked.lengths)
    pipe = inference_loops.load_pipeline(TASK, quantize_with_torch(model), tokenizer)
    by_hand = [
        Candidate(
            f"{HAND_QUANTIZED_PREFIX}pipeline(batch_size={size})",
            inference_loops.pipeline_loop(pipe, texts, size, truncation=True),
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
    report.print_throughput(title, "texts/s", standings, BATCHMILL_NAME, "int8")
    report.print_targets(
        [report.Target("int8 against the best batch size of pipeline() in float32", 2.2, speedup(standings))]
    )
    print(
        "Against the best of pipeline() with a model quantized by hand: "
        f"{speedup(standings, HAND_QUANTIZED_PREFIX):.2f} ×"
    )


if __name__ == "__main__":
    main()
