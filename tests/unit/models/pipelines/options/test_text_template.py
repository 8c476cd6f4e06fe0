"""Text templates: plain names only, and values that are inserted once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import JobError
from models.pipelines.options.text_template import MAX_NAMES, MAX_TEMPLATE_CHARACTERS, TextTemplate
from models.tasks.fields import MAX_TEXT_CHARACTERS

names = st.from_regex(r"[^\W\d](?:[\w -]{0,8}[\w-])?", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
values = st.one_of(texts, st.sampled_from(["{a}", "{{a}}", "{", "}}", "{a.b[0]!r:>9}", "\n\r\t", "é\u0301 👩‍🚀"]))


@given(st.lists(st.tuples(texts, names, values), max_size=8), texts)
def test_a_rendered_template_is_its_texts_and_values_joined(parts: list[tuple[str, str, str]], end: str) -> None:
    known = {name: value for _, name, value in parts}
    source = "".join(f"{escape(text)}{{{name}}}" for text, name, _ in parts) + escape(end)

    template = TextTemplate.parse(source)

    expected = "".join(text + known[name] for text, name, _ in parts) + end
    assert template.render(known) == expected
    assert template.count_characters(known) == len(expected)
    assert template.names == tuple(known)


def escape(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("{a.b}", "pair 1 of braces has no plain name"),
        ("{a} {b[0]}", "pair 2 of braces has no plain name"),
        ("{0}", "no plain name"),
        ("{ a }", "no plain name"),
        ("{a\n}", "no plain name"),
        ("{" + "é" * 32 + "}", "at most 63 bytes"),
        ("{}", "has no name in it"),
        ("{a!r}", "has more than a name"),
        ("{a:>1000000000}", "has more than a name"),
        ("{a:{b}}", "has more than a name"),
        ('{"secret": 1}', "has more than a name"),
        ("{", "a single brace"),
        ("a}", "a single brace"),
        ("{a!}", "a single brace"),
        ("a\0", "a NUL character"),
        ("\ud800", "half a surrogate pair"),
        ("x" * (MAX_TEMPLATE_CHARACTERS + 1), "20,001 characters; at most 20,000"),
        ("".join(f"{{a{number}}}" for number in range(MAX_NAMES + 1)), "51 names; at most 50"),
    ],
)
def test_anything_but_plain_names_is_refused_without_a_quote(source: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        TextTemplate.parse(source)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("source", ["", "{größe}", "{_a}", "{first name}", "{a-b}", "{a}" * 100, "x" * 20_000])
def test_the_limits_are_taken(source: str) -> None:
    template = TextTemplate.parse(source)

    assert template.source == source
    assert len(template.names) <= 1


@pytest.mark.parametrize("known", [{}, {"a": None}])
def test_a_missing_value_is_the_rows_problem(known: dict[str, str]) -> None:
    with pytest.raises(JobError, match=r"^a is missing; an input needs a and b$") as caught:
        TextTemplate.parse("{a}{b}").render({"b": "x", **known})

    assert caught.value.code == "missing_field"


def test_a_value_that_is_inserted_often_is_refused_before_it_is_joined() -> None:
    template = TextTemplate.parse("{a}" * 6_000)

    with pytest.raises(JobError, match="6,000,000,000 characters; at most 1,000,000") as caught:
        template.render({"a": "x" * MAX_TEXT_CHARACTERS})

    assert caught.value.code == "text_too_long"
    assert len(template.render({"a": "x" * 166})) == 996_000
