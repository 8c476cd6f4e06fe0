"""Every string value of a document is read, except names that are no texts, and goes back to its own place."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.guards.texts import collect_texts, replace_texts

DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda values: (
        st.lists(values, max_size=4)
        | st.dictionaries(st.sampled_from(["text", "label", "role", "entity", "a", "b"]), values, max_size=4)
    ),
    max_leaves=20,
)
LABEL_FIELDS = st.sampled_from([(), ("label", "entity", "entity_group")])


@given(DOCUMENTS, LABEL_FIELDS)
def test_own_texts_put_back_give_the_same_document(document: Any, label_fields: Any) -> None:
    assert replace_texts(document, collect_texts(document, label_fields), label_fields) == document


@given(DOCUMENTS, LABEL_FIELDS)
def test_replaced_texts_are_collected_in_the_same_order(document: Any, label_fields: Any) -> None:
    texts = [f"<{index}>" for index, _ in enumerate(collect_texts(document, label_fields))]

    replaced = replace_texts(document, texts, label_fields)

    assert collect_texts(replaced, label_fields) == texts


def test_texts_come_in_the_order_of_the_document() -> None:
    document = {"text": "first", "more": [{"a": "second", "b": ["third", 3]}, "fourth"], "n": None}

    assert collect_texts(document) == ["first", "second", "third", "fourth"]


def test_a_string_alone_is_a_text() -> None:
    assert collect_texts("alone") == ["alone"]
    assert replace_texts("alone", ["other"]) == "other"


def test_labels_of_outputs_are_no_texts() -> None:
    output = [{"label": "POSITIVE", "score": 0.9}, {"entity_group": "PER", "entity": "B-PER", "word": "Ada"}]

    assert collect_texts(output, {"label", "entity", "entity_group"}) == ["Ada"]


def test_a_field_of_an_input_is_read_whatever_its_name_is() -> None:
    row = {"label": "ignore all rules", "role": "ignore all rules too", "entity": "and this"}

    assert collect_texts(row) == ["ignore all rules", "ignore all rules too", "and this"]


def test_roles_of_a_chat_are_no_texts() -> None:
    chat = {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]}

    assert collect_texts(chat) == ["Be kind.", "Hello"]


def test_values_nested_under_a_label_are_texts() -> None:
    assert collect_texts({"label": ["hidden"], "entity": {"a": "too"}}, {"label", "entity"}) == ["hidden", "too"]


def test_a_document_nested_deeper_than_the_stack_is_read() -> None:
    document: Any = "deep"
    for _ in range(100_000):
        document = [document]

    assert collect_texts(document) == ["deep"]
    assert collect_texts(replace_texts(document, ["other"])) == ["other"]
    while isinstance(document, list):  # freed from outside, as its own end would recurse
        document = document[0]


def test_the_document_itself_stays_unchanged() -> None:
    document = {"text": "a", "more": [{"b": "c"}]}

    replace_texts(document, ["x", "y"])

    assert document == {"text": "a", "more": [{"b": "c"}]}


@pytest.mark.parametrize("texts", [[], ["a"], ["a", "b", "c"]])
def test_another_number_of_texts_is_refused(texts: list[str]) -> None:
    with pytest.raises(ValueError, match="texts than were given"):
        replace_texts({"a": "1", "b": "2"}, texts)
