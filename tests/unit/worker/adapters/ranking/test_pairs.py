"""Pairs are cut as the tokenizer itself cuts them."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CanineTokenizer

from tests.factories import tiny_encoders
from worker.adapters.ranking.pairs import PairTemplate
from worker.adapters.tokenization.special_tokens import SpecialTokens


@pytest.fixture(scope="module", params=["bert", "roberta", "modernbert", "xlm-roberta", "canine"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    # CANINE's tokenizer is in plain Python.
    return CanineTokenizer() if request.param == "canine" else tiny_encoders.tokenizer_for(request.param)


@settings(max_examples=30, deadline=None)
@given(
    first=st.integers(1, 60),
    second=st.integers(1, 60),
    limit=st.integers(5, 60),
    side=st.sampled_from(["left", "right"]),
)
def test_cuts_like_the_tokenizer(tokenizer: Any, first: int, second: int, limit: int, side: str) -> None:
    tokenizer.truncation_side = side
    query, text = ("love the product " * 60)[:first], ("hate it a " * 60)[:second]
    special_tokens = SpecialTokens(tokenizer, limit, texts=2)
    query_ids, text_ids = special_tokens.tokenize([query, text])

    template = PairTemplate(tokenizer, special_tokens.template, special_tokens.max_text_tokens)

    pair = template.make_pair(query_ids, text_ids)

    whole = tokenizer([[query, text]], truncation="longest_first", max_length=limit, return_attention_mask=False)
    assert {name: [list(values)] for name, values in pair.items()} == dict(whole)
