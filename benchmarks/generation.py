"""Text generation with skewed lengths: a short text waits for the longest of its batch, unless somebody sees to it.

48 prompts fit into one pass, so rows only leave it; with `--items 192` others enter in their place.
"""

from statistics import mean, median

from benchmarks import loops, options, report, writer
from benchmarks.duels import BATCHMILL_NAME, PIPELINE_PREFIX, PipelineComparison

GENERATION_PARAMETERS = {"max_new_tokens": writer.MAX_NEW_TOKENS, "do_sample": False, "return_full_text": False}
PEER_BATCH_SIZE = 8


def main() -> None:
    """Print the paces and how they stand to the target."""
    asked = options.parse_options(__doc__, items=48)
    model = writer.generator_folder()
    prompts = writer.random_prompts(asked.items)
    lengths = _output_lengths(model, prompts)
    standings = PipelineComparison(
        "text-generation", model, prompts, (1, PEER_BATCH_SIZE, 32), GENERATION_PARAMETERS, GENERATION_PARAMETERS
    ).run(asked.rounds)
    report.print_throughput(
        f"Text generation: {asked.items} prompts, greedy, at most {writer.MAX_NEW_TOKENS} new tokens "
        f"(mean {mean(lengths):.0f}, median {median(lengths):.0f}, longest {max(lengths)}); GPT-2 of 6 layers of 512",
        "texts/s",
        standings,
        BATCHMILL_NAME,
    )
    ours, theirs = (
        standings[BATCHMILL_NAME].items_per_second,
        standings[f"{PIPELINE_PREFIX}{PEER_BATCH_SIZE})"].items_per_second,
    )
    report.print_targets([report.Target(f"against pipeline(batch_size={PEER_BATCH_SIZE})", 1.5, ours / theirs)])


def _output_lengths(model: object, prompts: list[str]) -> list[int]:
    pipe = loops.load_pipeline("text-generation", str(model))
    written = pipe(
        prompts,
        batch_size=PEER_BATCH_SIZE,
        **{**GENERATION_PARAMETERS, "return_tensors": True, "return_full_text": None},
    )
    ends, prompt_tokens = pipe.tokenizer.eos_token_id, [len(ids) for ids in pipe.tokenizer(prompts)["input_ids"]]
    lengths = []
    for [one], size in zip(written, prompt_tokens, strict=True):
        ids = [token for token in one["generated_token_ids"] if token != pipe.tokenizer.pad_token_id]
        new = ids[size:]
        lengths.append(new.index(ends) + 1 if ends in new else len(new))
    return lengths


if __name__ == "__main__":
    main()
