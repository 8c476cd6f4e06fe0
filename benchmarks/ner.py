"""Named entities: a label for every token, merged into entities."""

from benchmarks import checkpoints, corpus, options, report
from benchmarks.pipeline_comparison import BATCHMILL_NAME, PipelineComparison, speedup


def main() -> None:
    """Print the throughput."""
    asked = options.parse_options(__doc__, items=64, distribution=True)
    model = checkpoints.ner_folder()
    tokenizer = checkpoints.load_tokenizer(model)
    texts = corpus.random_texts(tokenizer, asked.items, asked.lengths)
    warm_up = corpus.warm_up_texts(tokenizer, asked.lengths)
    told = {"aggregation_strategy": "simple"}
    standings = PipelineComparison("ner", model, texts, (1, 8, 32), told, told, warm_up_inputs=warm_up).run(
        asked.rounds
    )
    title = f"Named entities: {asked.items} texts of {asked.lengths} lengths, DistilBERT-base"
    report.print_throughput(title, "texts/s", standings, BATCHMILL_NAME, "ner")
    print(f"Against the best batch size of pipeline(): {speedup(standings):.2f} ×")


if __name__ == "__main__":
    main()
