"""Named entities: a label for every token, joined to entities."""

from benchmarks import checkpoints, corpus, options, report
from benchmarks.duels import OURS, Duel, lead


def main() -> None:
    """Print the paces."""
    asked = options.parsed(__doc__, items=96, distribution=True)
    model = checkpoints.tagger()
    texts = corpus.texts(checkpoints.tokenizer(model), asked.items, asked.lengths)
    told = {"aggregation_strategy": "simple"}
    standings = Duel("ner", model, texts, (1, 8, 32), told, told).run(asked.rounds)
    title = f"Named entities: {asked.items} texts of {asked.lengths} lengths, DistilBERT-base"
    report.paces(title, "texts/s", standings, OURS)
    print(f"Against the best batch size of pipeline(): {lead(standings):.2f} ×")


if __name__ == "__main__":
    main()
