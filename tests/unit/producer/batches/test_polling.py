import itertools

from producer.batches.polling import LONGEST_SECONDS, SHORTEST_SECONDS, pauses


def test_pauses_grow_gently_to_a_second() -> None:
    seconds = list(itertools.islice(pauses(), 20))

    assert seconds[0] == SHORTEST_SECONDS
    assert seconds == sorted(seconds)
    assert seconds[-1] == LONGEST_SECONDS
    assert all(later <= 1.5 * earlier for earlier, later in itertools.pairwise(seconds))
