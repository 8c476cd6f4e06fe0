"""The bars of the lengths."""

from producer.server.pages.submit.check_view import LengthBar, length_bars


def test_bars_are_shares_of_the_highest() -> None:
    bars = length_bars([(1, 5), (2, 0), (4, 10), (1024, 1)], 512)

    assert bars == [
        LengthBar("1", 5, 0.5, is_over=False),
        LengthBar("2", 0, 0.0, is_over=False),
        LengthBar("3 to 4", 10, 1.0, is_over=False),
        LengthBar("513 to 1,024", 1, 0.1, is_over=True),
    ]


def test_without_inputs_there_are_no_bars() -> None:
    assert length_bars([], None) == []
    assert length_bars([(1, 0)], None) == [LengthBar("1", 0, 0.0, is_over=False)]
