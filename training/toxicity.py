"""Train the sample guard against toxic texts: `python -m training.toxicity [--out FOLDER] [--seed 0]`.

The sample is for demonstrations and tests only. It knows mild insults and threats, in English, under labels of which
several may be true.
"""

from pathlib import Path
from typing import Final

from training import guard_classifier, model_card
from training.hidden_sentences import HiddenSentences

TASK: Final = guard_classifier.GuardTask(
    name="toxicity",
    sentences=HiddenSentences.read(Path(__file__).with_name("insults.txt"), ("insult", "threat", "toxic")),
    labels=("toxic", "insult", "threat"),
    truths=(("toxic", "insult"), ("toxic", "threat"), ("toxic",)),
    multi_label=True,
    max_positions=128,
)


def build(folder: Path, seed: int) -> dict[str, float]:
    """Train the guard, save it in `folder` and return its held-out scores."""
    return guard_classifier.build(folder, seed, TASK)


if __name__ == "__main__":
    model_card.run_training(TASK.name, build)
