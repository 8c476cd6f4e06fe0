"""Train the sample guard against prompt injections: `python -m training.prompt_injection [--out FOLDER] [--seed 0]`.

The sample is for demonstrations and tests only. It knows plain orders such as "ignore all previous instructions", in
English; anybody who tries gets past it.
"""

from pathlib import Path
from typing import Final

from training import guard_classifier, model_card
from training.hidden_sentences import HiddenSentences

TASK: Final = guard_classifier.GuardTask(
    name="prompt-injection",
    sentences=HiddenSentences.read(Path(__file__).with_name("injections.txt"), ("injection",)),
    labels=("SAFE", "INJECTION"),
    truths=(("INJECTION",),),
    multi_label=False,
    max_positions=64,
)


def build(folder: Path, seed: int) -> dict[str, float]:
    """Train the guard, save it in `folder` and return its held-out scores."""
    return guard_classifier.build(folder, seed, TASK)


if __name__ == "__main__":
    model_card.run_training(TASK.name, build)
