"""Rows in a template: their texts, their special tokens and their types."""

from hypothesis import given
from hypothesis import strategies as st

from worker.adapters.tokenization.special_tokens import Template, TemplatedRow, join_types
from worker.adapters.tokenization.token_array import token_array

tokens = st.lists(st.integers(0, 9), max_size=6)


@st.composite
def templated_rows(draw: st.DrawFn) -> list[tuple[TemplatedRow, list[list[int]]]]:
    """Rows of one template of any number of texts, and each row's texts."""
    text_count = draw(st.integers(1, 2))
    parts = draw(
        st.lists(
            st.lists(st.tuples(st.integers(90, 99), st.integers(0, 2)), max_size=3),
            min_size=text_count + 1,
            max_size=text_count + 1,
        )
    )
    template = Template(
        special_ids=tuple(token_array(token for token, _ in part) for part in parts),
        special_types=tuple(token_array(kind for _, kind in part) for part in parts),
        text_types=tuple(draw(st.integers(0, 2)) for _ in range(text_count)),
        truncation_side="right",
    )
    all_texts = draw(st.lists(st.lists(tokens, min_size=text_count, max_size=text_count), min_size=1, max_size=6))
    return [(TemplatedRow.from_texts(template, list(map(token_array, texts))), texts) for texts in all_texts]


@given(templated_rows())
def test_types_of_many_rows_are_those_of_each(rows: list[tuple[TemplatedRow, list[list[int]]]]) -> None:
    expected = [kind for row, _ in rows for kind in row["token_type_ids"]]

    assert join_types([row for row, _ in rows]).tolist() == expected


@given(templated_rows())
def test_a_row_holds_its_texts_between_special_tokens(rows: list[tuple[TemplatedRow, list[list[int]]]]) -> None:
    for row, texts in rows:
        special = row.template.special_ids
        expected = [*special[0]]
        for text, part in zip(texts, special[1:], strict=True):
            expected += [*text, *part]

        assert list(row["input_ids"]) == expected
        assert [list(text) for text in row.texts] == texts
        assert row.special_tokens_mask == [int(token >= 90) for token in expected]
        assert len(row["token_type_ids"]) == len(expected)
