"""A sample's folder: weights, tokenizer and a card with its training and scores."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
import transformers

DEMO_ONLY: Final = "for demonstrations and tests only: it guards nothing real"

_SAMPLES_FOLDER: Final = Path("models/samples")


def save_sample(model: Any, tokenizer: Any, card: dict[str, Any], folder: Path) -> None:
    """Write weights, tokenizer and card; they contain no time or place, so equal runs give equal files."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    (folder / "model.safetensors").chmod(0o644)  # written with access for the owner only


def build_card(task: str, model: Any, seed: int, **learned: Any) -> dict[str, Any]:
    """Return the card: task, scores, size, and the inputs needed to repeat the training."""
    return {
        "task": task,
        "seed": seed,
        **learned,
        "parameters": model.num_parameters(),
        "trained_with": {"torch": torch.__version__, "transformers": transformers.__version__},
        "made_by": f"python -m training.{task.replace('-', '_')}",
    }


def run_training(task: str, build: Callable[[Path, int], dict[str, float]]) -> None:
    """Parse the command line, build the sample of a task and print its held-out scores."""
    out = _SAMPLES_FOLDER / task
    parser = argparse.ArgumentParser(description=f"Train the sample model for {task}.")
    parser.add_argument("--out", type=Path, default=out, help=f"folder to write (default: {out})")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)  # sums are the same on machines with other numbers of cores
    for score, value in build(options.out, options.seed).items():
        print(f"{score}: {value:.4f}")
