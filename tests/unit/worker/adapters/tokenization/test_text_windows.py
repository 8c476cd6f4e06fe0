"""Windows cover a text from one end to the other, and share what they should."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import JobError, ModelError
from worker.adapters.tokenization import text_windows
from worker.adapters.tokenization.special_tokens import Template
from worker.adapters.tokenization.text_windows import TextWindow, WindowSize, check_stride, describe_room
from worker.adapters.tokenization.token_array import token_array

SIZES = st.integers(1, 40).flatmap(lambda room: st.builds(WindowSize, st.just(room), st.integers(0, room - 1)))
TEMPLATE = Template(
    special_ids=(token_array([1]), token_array([2, 2]), token_array([3])),
    special_types=(token_array([0]), token_array([0, 1]), token_array([1])),
    text_types=(0, 1),
    truncation_side="right",
)


class TestRanges:
    @given(size=SIZES, length=st.integers(0, 300))
    def test_cover_the_text_and_share_the_overlap(self, size: WindowSize, length: int) -> None:
        ranges = size.ranges(length, from_the_end=False)

        assert len(ranges) == size.count(length)
        assert (ranges[0][0], ranges[-1][1]) == (0, length)
        for (start, end), (next_start, next_end) in itertools.pairwise(ranges):
            assert end - start == size.room
            assert end - next_start == size.overlap
            assert next_end > end

    @given(size=SIZES, length=st.integers(0, 300))
    def test_from_the_end_are_those_of_the_text_turned_round(self, size: WindowSize, length: int) -> None:
        mirrored = [(length - end, length - start) for start, end in size.ranges(length, from_the_end=False)]

        assert size.ranges(length, from_the_end=True) == mirrored

    def test_are_bounded_before_they_are_made(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(text_windows, "MAX_WINDOWS", 4)

        assert len(WindowSize(10, 5).ranges(25, from_the_end=False)) == 4
        with pytest.raises(JobError, match=r"100,000,000,000 windows; at most 4 are read") as caught:
            WindowSize(1, 0).ranges(10**11, from_the_end=False)
        assert caught.value.code == "too_many_windows"


class TestSize:
    def test_shares_a_quarter_where_no_stride_is_set(self) -> None:
        assert [WindowSize.for_room(room, None).overlap for room in (1, 3, 4, 510)] == [0, 0, 1, 127]
        assert WindowSize.for_room(10, 0) == WindowSize(10, 0)

    def test_must_be_greater_than_the_stride(self) -> None:
        check_stride(9, 10)
        check_stride(None, 1)
        check_stride(10, None)
        with pytest.raises(ModelError, match="stride 10 is too large: windows have 10 tokens; give fewer"):
            check_stride(10, 10)

    def test_that_is_too_small_is_explained(self) -> None:
        assert describe_room(WindowSize(-3, 4), "the text") == "no room for the text"
        assert describe_room(WindowSize(1_024, 2_048), "it") == "room for 1,024 of it, of which they share 2,048"


class TestTextWindow:
    @pytest.mark.parametrize(
        ("index", "ids", "types"),
        [
            (0, [1, 11, 12, 2, 2, 20, 21, 22, 3], [0, 0, 0, 0, 1, 1, 1, 1, 1]),
            (1, [1, 10, 11, 12, 13, 2, 2, 21, 22, 3], [0, 0, 0, 0, 0, 0, 1, 1, 1, 1]),
        ],
    )
    def test_has_a_part_of_one_text_and_all_of_the_other(self, index: int, ids: list[int], types: list[int]) -> None:
        texts = token_array([10, 11, 12, 13]), token_array([20, 21, 22])

        window = TextWindow(TEMPLATE, texts, index, (1, 3))

        assert list(window["input_ids"]) == ids
        assert list(window["token_type_ids"]) == types
        assert window.window_tokens == 2
