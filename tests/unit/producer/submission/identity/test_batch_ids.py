import re

from producer.submission.identity.batch_ids import ID_ALPHABET, ID_RANDOM_BITS, format_batch_id, new_batch_id


def test_an_id_has_a_prefix_and_twenty_characters() -> None:
    assert re.fullmatch(f"batch_[{ID_ALPHABET}]{{20}}", new_batch_id())


def test_ids_sort_by_time_whatever_the_random_bits() -> None:
    max_bits = 2**ID_RANDOM_BITS - 1

    ids = [format_batch_id(1_000, max_bits), format_batch_id(1_001, 0), format_batch_id(2**48 - 1, max_bits)]

    assert ids == sorted(ids)
    assert ids[2] == "batch_" + "z" * 20
    assert format_batch_id(0, 31) == "batch_" + "0" * 19 + "z"


def test_ids_of_the_same_millisecond_differ() -> None:
    assert len({new_batch_id() for _ in range(1_000)}) == 1_000
