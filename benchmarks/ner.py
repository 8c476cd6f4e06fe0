"""Named entities: a label for every token, joined to entities."""

from benchmarks import checkpoints, corpus, options, report
from benchmarks.duels import OURS, Duel, lead


def main() -> None:
    """Print the paces."""
    asked = options.parsed(__doc__, items=64, distribution=True)
    model = checkpoints.tagger()
    tokenizer = checkpoints.tokenizer(model)
    texts = corpus.texts(tokenizer, asked.items, asked.lengths)
    warm_up = corpus.warm_up(tokenizer, asked.lengths)
    told = {"aggregation_strategy": "simple"}
    standings = Duel("ner", model, texts, (1, 8, 32), told, told, warm_up=warm_up).run(asked.rounds)
    title = f"Named entities: {asked.items} texts of {asked.lengths} lengths, DistilBERT-base"
    report.paces(title, "texts/s", standings, OURS)
    print(f"Against the best batch size of pipeline(): {lead(standings):.2f} ×")


if __name__ == "__main__":
    main()
