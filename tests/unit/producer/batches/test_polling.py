import itertools

from producer.batches.polling import MAX_INTERVAL_SECONDS, MIN_INTERVAL_SECONDS, poll_intervals


def test_intervals_grow_to_one_second() -> None:
    seconds = list(itertools.islice(poll_intervals(), 20))

    assert seconds[0] == MIN_INTERVAL_SECONDS
    assert seconds == sorted(seconds)
    assert seconds[-1] == MAX_INTERVAL_SECONDS
    assert all(later <= 1.5 * earlier for earlier, later in itertools.pairwise(seconds))
