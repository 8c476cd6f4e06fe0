"""Zero-shot classification: five labels, so five passes for every text."""

from benchmarks import checkpoints, corpus, options, report
from benchmarks.pipeline_comparison import BATCHMILL_NAME, PipelineComparison, speedup

LABELS = ["delivery", "quality", "price", "service", "size"]


def main() -> None:
    """Print the throughput."""
    asked = options.parse_options(__doc__, items=16, distribution=True)
    model = checkpoints.nli_folder()
    tokenizer = checkpoints.load_tokenizer(model)
    texts = corpus.random_texts(tokenizer, asked.items, asked.lengths)
    warm_up = corpus.warm_up_texts(tokenizer, asked.lengths, forward_passes=len(LABELS))
    told = {"candidate_labels": LABELS}
    standings = PipelineComparison(
        "zero-shot-classification", model, texts, (1, 8, 32), told, told, warm_up_inputs=warm_up
    ).run(asked.rounds)
    title = f"Zero-shot classification: {asked.items} texts of {asked.lengths} lengths by {len(LABELS)} labels"
    report.print_throughput(f"{title}, DistilBERT-base", "texts/s", standings, BATCHMILL_NAME, "zero-shot")
    print(f"Against the best batch size of pipeline(): {speedup(standings):.2f} ×")


if __name__ == "__main__":
    main()
