"""Holdings: what this process holds, and when it lets go."""

from worker.leasing.leases import HeldLeases, Job, Lease


def lease(slice_id: int, token: int = 1) -> Lease:
    return Lease(slice_id, "batch", slice_id * 10, 10, token, attempts=token)


def jobs(lease: Lease, count: int) -> list[Job]:
    return [Job(lease, lease.start_position + place, {}) for place in range(count)]


def holding(*leases: Lease, open_jobs: int = 3) -> HeldLeases:
    holdings = HeldLeases()
    holdings.add(leases, [job for lease in leases for job in jobs(lease, open_jobs)])
    return holdings


class TestHoldings:
    def test_holds_what_was_added(self) -> None:
        holdings = holding(lease(1), lease(2))

        assert holdings.leases() == [lease(1), lease(2)]
        assert holdings.is_held(lease(1))
        assert not holdings.is_held(lease(3))
        assert holdings.unanswered_jobs(lease(1)) == 3

    def test_counts_only_what_is_open(self) -> None:
        holdings = HeldLeases()
        holdings.add([lease(1)], ())  # held from the claim on, before anybody knows its jobs
        assert holdings.is_held(lease(1))
        assert holdings.unanswered_jobs(lease(1)) == 0

        holdings.add([lease(1)], jobs(lease(1), 2))

        assert holdings.unanswered_jobs(lease(1)) == 2

    def test_lets_go_of_a_slice_once_all_its_jobs_are_answered(self) -> None:
        holdings = holding(lease(1), lease(2))

        holdings.count_results(lease(1), 2)
        assert holdings.is_held(lease(1))
        assert holdings.unanswered_jobs(lease(1)) == 1

        holdings.count_results(lease(1), 1)
        assert holdings.leases() == [lease(2)]
        assert holdings.unanswered_jobs(lease(1)) == 0

    def test_lets_go_of_a_slice_that_had_no_open_job(self) -> None:
        holdings = holding(lease(1), open_jobs=0)

        holdings.count_results(lease(1), 0)

        assert holdings.leases() == []

    def test_drops_what_was_lost(self) -> None:
        holdings = holding(lease(1), lease(2))

        holdings.discard([lease(1)])

        assert holdings.leases() == [lease(2)]
        assert not holdings.is_held(lease(1))
        assert holdings.unanswered_jobs(lease(1)) == 0

    def test_dropping_twice_is_fine(self) -> None:
        holdings = holding(lease(1))

        holdings.discard([lease(1)])
        holdings.discard([lease(1), lease(9)])

        assert holdings.leases() == []


class TestSliceClaimedAgain:
    """A lease runs out unnoticed and the same process claims the slice anew: only the later lease counts."""

    old, new = lease(1, token=1), lease(1, token=2)

    def holding_both(self) -> HeldLeases:
        holdings = holding(self.old)
        holdings.add([self.new], jobs(self.new, 2))
        return holdings

    def test_the_old_lease_is_not_held(self) -> None:
        holdings = self.holding_both()

        assert not holdings.is_held(self.old)
        assert holdings.is_held(self.new)
        assert holdings.leases() == [self.new]

    def test_losing_the_old_lease_keeps_the_new_one(self) -> None:
        holdings = self.holding_both()

        holdings.discard([self.old])

        assert holdings.is_held(self.new)
        assert holdings.unanswered_jobs(self.new) == 2

    def test_answers_under_the_old_lease_do_not_count_for_the_new_one(self) -> None:
        holdings = self.holding_both()

        holdings.count_results(self.old, 2)

        assert holdings.unanswered_jobs(self.new) == 2
        assert holdings.unanswered_jobs(self.old) == 0
