"""Text generation with skewed lengths: a short text waits for the longest of its batch, unless somebody sees to it.

48 prompts fit into one pass, so rows only leave it; with `--items 192` others enter in their place.
"""

from statistics import mean, median

from benchmarks import loops, options, report, writer
from benchmarks.duels import OURS, PLAIN, Duel

TOLD = {"max_new_tokens": writer.MOST_TOKENS, "do_sample": False, "return_full_text": False}
PEER_SIZE = 8


def main() -> None:
    """Print the paces and how they stand to the target."""
    asked = options.parsed(__doc__, items=48)
    model = writer.checkpoint()
    prompts = writer.prompts(asked.items)
    lengths = _lengths(model, prompts)
    standings = Duel("text-generation", model, prompts, (1, PEER_SIZE, 32), TOLD, TOLD).run(asked.rounds)
    report.paces(
        f"Text generation: {asked.items} prompts, greedy, at most {writer.MOST_TOKENS} new tokens "
        f"(mean {mean(lengths):.0f}, median {median(lengths):.0f}, longest {max(lengths)}); GPT-2 of 6 layers of 512",
        "texts/s", standings, OURS,
    )  # fmt: skip
    ours, theirs = standings[OURS].pace, standings[f"{PLAIN}{PEER_SIZE})"].pace
    report.targets([report.Target(f"against pipeline(batch_size={PEER_SIZE})", 1.5, ours / theirs)])


def _lengths(model: object, prompts: list[str]) -> list[int]:
    pipe = loops.transformers_pipeline("text-generation", str(model))
    written = pipe(prompts, batch_size=PEER_SIZE, **{**TOLD, "return_tensors": True, "return_full_text": None})
    ends, prompt_tokens = pipe.tokenizer.eos_token_id, [len(ids) for ids in pipe.tokenizer(prompts)["input_ids"]]
    lengths = []
    for [one], size in zip(written, prompt_tokens, strict=True):
        ids = [token for token in one["generated_token_ids"] if token != pipe.tokenizer.pad_token_id]
        new = ids[size:]
        lengths.append(new.index(ends) + 1 if ends in new else len(new))
    return lengths


if __name__ == "__main__":
    main()
