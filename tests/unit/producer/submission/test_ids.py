import re

from producer.submission.ids import ALPHABET, RANDOM_BITS, format_batch_id, new_batch_id


def test_an_id_is_batch_and_twenty_characters() -> None:
    assert re.fullmatch(f"batch_[{ALPHABET}]{{20}}", new_batch_id())


def test_ids_sort_by_time_whatever_chance_gives() -> None:
    most = 2**RANDOM_BITS - 1

    ids = [format_batch_id(1_000, most), format_batch_id(1_001, 0), format_batch_id(2**48 - 1, most)]

    assert ids == sorted(ids)
    assert ids[2] == "batch_" + "z" * 20
    assert format_batch_id(0, 31) == "batch_" + "0" * 19 + "z"


def test_ids_of_the_same_millisecond_differ() -> None:
    assert len({new_batch_id() for _ in range(1_000)}) == 1_000
