"""Zero-shot classification: every text by five labels, which makes five passes of each."""

from benchmarks import checkpoints, corpus, options, report
from benchmarks.duels import OURS, Duel, lead

LABELS = ["delivery", "quality", "price", "service", "size"]


def main() -> None:
    """Print the paces."""
    asked = options.parsed(__doc__, items=16, distribution=True)
    model = checkpoints.entailment()
    tokenizer = checkpoints.tokenizer(model)
    texts = corpus.texts(tokenizer, asked.items, asked.lengths)
    warm_up = corpus.warm_up(tokenizer, asked.lengths, passes=len(LABELS))
    told = {"candidate_labels": LABELS}
    standings = Duel("zero-shot-classification", model, texts, (1, 8, 32), told, told, warm_up=warm_up).run(
        asked.rounds
    )
    title = f"Zero-shot classification: {asked.items} texts of {asked.lengths} lengths by {len(LABELS)} labels"
    report.paces(f"{title}, DistilBERT-base", "texts/s", standings, OURS)
    print(f"Against the best batch size of pipeline(): {lead(standings):.2f} ×")


if __name__ == "__main__":
    main()
