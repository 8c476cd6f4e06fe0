"""Facts of a batch as texts."""

from producer.server.pages.batches.batch_facts import MAX_FULL, MAX_SHORT, Pair, first_text, pairs_of


def test_values_are_texts() -> None:
    assert pairs_of({"top_k": 2, "labels": ["a", "b"], "name": "x", "flag": True}) == (
        Pair("top_k", "2"),
        Pair("labels", '["a","b"]'),
        Pair("name", "x"),
        Pair("flag", "true"),
    )


def test_long_values_are_cut_and_bounded() -> None:
    pair = pairs_of({"prompt": "x" * 100_000})[0]

    assert len(pair.text) == MAX_SHORT
    assert pair.full is not None
    assert len(pair.full) == MAX_FULL


def test_the_first_text_of_an_input() -> None:
    assert first_text('{"text": "hello", "other": "x"}') == "hello"
    assert first_text('{"n": 1, "question": "why?"}') == "why?"
    assert first_text('{"n": 1}') == '{"n": 1}'
    assert first_text('["a"]') == '["a"]'
    assert first_text('{"text": "cut \\u00') == "cut "
    assert first_text('{"te') == '{"te'
    assert first_text("") == ""
