"""The same encoder with int8 weights: our `quantization = "int8"` against pipeline() as it comes, in float32."""

import warnings
from pathlib import Path
from typing import Any

import torch
import torch.ao.quantization
from transformers import AutoModelForSequenceClassification

from benchmarks import checkpoints, corpus, loops, options, report
from benchmarks.contest import Contestant
from benchmarks.duels import OURS, Duel, lead

TASK = "sentiment-analysis"
BY_HAND = "quantized by hand, "


def by_hand_quantized(model: Path) -> Any:
    """The model as torch's documentation quantizes one."""
    plain = AutoModelForSequenceClassification.from_pretrained(model, dtype=torch.float32).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated in favour of a package of its own
        layers: Any = torch.ao.quantization
        return layers.quantize_dynamic(plain, {torch.nn.Linear}, dtype=torch.qint8)


def main() -> None:
    """Print the paces and how they stand to the target."""
    asked = options.parsed(__doc__, items=64, distribution=True)
    model = checkpoints.classifier()
    tokenizer = checkpoints.tokenizer(model)
    texts = corpus.texts(tokenizer, asked.items, asked.lengths)
    pipe = loops.transformers_pipeline(TASK, by_hand_quantized(model), tokenizer)
    by_hand = [
        Contestant(f"{BY_HAND}pipeline(batch_size={size})", loops.plain(pipe, texts, size, truncation=True))
        for size in (1, 8)
    ]
    duel = Duel(
        TASK, model, texts, (1, 8), {"truncation": True}, entry={"quantization": "int8"},
        warm_up=corpus.warm_up(tokenizer, asked.lengths),
    )  # fmt: skip
    standings = duel.run(asked.rounds, by_hand)
    title = f"int8: {asked.items} texts of {asked.lengths} lengths, DistilBERT-base"
    report.paces(title, "texts/s", standings, OURS)
    report.targets([report.Target("int8 against the best batch size of pipeline() in float32", 2.2, lead(standings))])
    print(f"Against the best of pipeline() with a model quantized by hand: {lead(standings, BY_HAND):.2f} ×")


if __name__ == "__main__":
    main()
