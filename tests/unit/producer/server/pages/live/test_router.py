"""The ids of rows that a stream is asked for."""

from producer.server.pages.live.batch_rows import MAX_FOLLOWER_ROWS
from producer.server.pages.live.router import row_ids


def test_ids_that_no_database_has_are_left_out() -> None:
    assert row_ids("batch_a,,batch_b\0,batch_c") == ["batch_a", "batch_c"]
    assert row_ids("") == []


def test_a_page_has_a_bounded_number_of_rows() -> None:
    assert len(row_ids(",".join(map(str, range(MAX_FOLLOWER_ROWS + 50))))) == MAX_FOLLOWER_ROWS
