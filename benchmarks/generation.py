"""Text generation with skewed lengths, where a short text waits for its batch's longest unless rows can leave.

48 prompts fit into one pass, so rows only leave it. With `--items 192`, waiting rows take their places.
"""

from statistics import mean, median

from benchmarks import inference_loops, options, report, synthetic_generator
from benchmarks.pipeline_comparison import BATCHMILL_NAME, PIPELINE_PREFIX, PipelineComparison

GENERATION_PARAMETERS = {
    "max_new_tokens": synthetic_generator.MAX_NEW_TOKENS,
    "do_sample": False,
    "return_full_text": False,
}
PEER_BATCH_SIZE = 8


def main() -> None:
    """Print the throughput and compare it with the target."""
    asked = options.parse_options(__doc__, items=48)
    model = synthetic_generator.generator_folder()
    prompts = synthetic_generator.random_prompts(asked.items)
    lengths = _output_lengths(model, prompts)
    standings = PipelineComparison(
        "text-generation", model, prompts, (1, PEER_BATCH_SIZE, 32), GENERATION_PARAMETERS, GENERATION_PARAMETERS
    ).run(asked.rounds)
    report.print_throughput(
        f"Text generation: {asked.items} prompts, greedy, at most {synthetic_generator.MAX_NEW_TOKENS} new tokens "
        f"(mean {mean(lengths):.0f}, median {median(lengths):.0f}, longest {max(lengths)}); GPT-2 of 6 layers of 512",
        "texts/s",
        standings,
        BATCHMILL_NAME,
        "generation",
    )
    ours, theirs = (
        standings[BATCHMILL_NAME].items_per_second,
        standings[f"{PIPELINE_PREFIX}{PEER_BATCH_SIZE})"].items_per_second,
    )
    report.print_targets([report.Target(f"against pipeline(batch_size={PEER_BATCH_SIZE})", 1.5, ours / theirs)])


def _output_lengths(model: object, prompts: list[str]) -> list[int]:
    pipe = inference_loops.load_pipeline("text-generation", str(model))
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
