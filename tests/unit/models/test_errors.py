import inspect

from models import errors
from models.errors import BatchmillError, InvalidRows, UnknownPipeline, UsageError

ALL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, BatchmillError)]


def test_codes_are_unique_and_stable_words() -> None:
    codes = [kind.code for kind in ALL]

    assert len(set(codes)) == len(codes)
    assert all(code.replace("_", "").isalpha() and code.islower() for code in codes)


def test_exit_codes_are_the_documented_ones() -> None:
    assert {kind.exit_code for kind in ALL} == {1, 2, 4, 5, 6, 124}
    assert all(kind.exit_code == 2 for kind in ALL if issubclass(kind, UsageError))


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = [line.split("──")[1].split()[0] for line in (errors.__doc__ or "").splitlines() if "──" in line]

    assert sorted(drawn) == sorted(kind.__name__ for kind in ALL if kind is not BatchmillError)


def test_an_unknown_pipeline_lists_what_exists() -> None:
    assert str(UnknownPipeline("x", ["b", "a"])).endswith("this catalogue has: a, b")


def test_a_refused_batch_lists_its_rows() -> None:
    error = InvalidRows("a.jsonl", ["line 2: is empty"])

    assert str(error).splitlines() == [
        "a.jsonl was refused and nothing was submitted; mend these rows first:",
        "  line 2: is empty",
    ]
