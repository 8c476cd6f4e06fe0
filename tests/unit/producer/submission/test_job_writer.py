from producer.submission.job_writer import LocationIndex


def test_locations_are_exact_and_take_an_entry_per_gap() -> None:
    index = LocationIndex()

    index.add(0, [2, 3, 4])
    index.add(3, [5, 9, 10])
    index.add(6, [11])

    assert [index[position] for position in range(7)] == [2, 3, 4, 5, 9, 10, 11]
    assert len(index._locations) == 2
