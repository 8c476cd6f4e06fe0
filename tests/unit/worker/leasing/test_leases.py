"""Held leases: which ones this process holds, and when it drops them."""

from worker.leasing.leases import HeldLeases, Job, Lease


def lease(slice_id: int, fencing_token: int = 1) -> Lease:
    return Lease(slice_id, "batch", slice_id * 10, 10, fencing_token, attempts=fencing_token)


def jobs(lease: Lease, count: int) -> list[Job]:
    return [Job(lease, lease.start_position + place, {}) for place in range(count)]


def holding(*leases: Lease, open_jobs: int = 3) -> HeldLeases:
    held = HeldLeases()
    held.add(leases, [job for lease in leases for job in jobs(lease, open_jobs)])
    return held


class TestHeldLeases:
    def test_holds_what_was_added(self) -> None:
        held = holding(lease(1), lease(2))

        assert held.leases() == [lease(1), lease(2)]
        assert held.is_held(lease(1))
        assert not held.is_held(lease(3))
        assert held.unanswered_jobs(lease(1)) == 3

    def test_counts_only_what_is_open(self) -> None:
        held = HeldLeases()
        held.add([lease(1)], ())  # held from the claim on, before its jobs are known
        assert held.is_held(lease(1))
        assert held.unanswered_jobs(lease(1)) == 0

        held.add([lease(1)], jobs(lease(1), 2))

        assert held.unanswered_jobs(lease(1)) == 2

    def test_lets_go_of_a_slice_once_all_its_jobs_are_answered(self) -> None:
        held = holding(lease(1), lease(2))

        held.count_results(lease(1), 2)
        assert held.is_held(lease(1))
        assert held.unanswered_jobs(lease(1)) == 1

        held.count_results(lease(1), 1)
        assert held.leases() == [lease(2)]
        assert held.unanswered_jobs(lease(1)) == 0

    def test_lets_go_of_a_slice_that_had_no_open_job(self) -> None:
        held = holding(lease(1), open_jobs=0)

        held.count_results(lease(1), 0)

        assert held.leases() == []

    def test_drops_what_was_lost(self) -> None:
        held = holding(lease(1), lease(2))

        held.discard([lease(1)])

        assert held.leases() == [lease(2)]
        assert not held.is_held(lease(1))
        assert held.unanswered_jobs(lease(1)) == 0

    def test_dropping_twice_is_fine(self) -> None:
        held = holding(lease(1))

        held.discard([lease(1)])
        held.discard([lease(1), lease(9)])

        assert held.leases() == []


class TestSliceClaimedAgain:
    """A lease runs out unnoticed and the same process claims the slice again: only the later lease counts."""

    old, new = lease(1, fencing_token=1), lease(1, fencing_token=2)

    def holding_both(self) -> HeldLeases:
        held = holding(self.old)
        held.add([self.new], jobs(self.new, 2))
        return held

    def test_the_old_lease_is_not_held(self) -> None:
        held = self.holding_both()

        assert not held.is_held(self.old)
        assert held.is_held(self.new)
        assert held.leases() == [self.new]

    def test_losing_the_old_lease_keeps_the_new_one(self) -> None:
        held = self.holding_both()

        held.discard([self.old])

        assert held.is_held(self.new)
        assert held.unanswered_jobs(self.new) == 2

    def test_answers_under_the_old_lease_do_not_count_for_the_new_one(self) -> None:
        held = self.holding_both()

        held.count_results(self.old, 2)

        assert held.unanswered_jobs(self.new) == 2
        assert held.unanswered_jobs(self.old) == 0
