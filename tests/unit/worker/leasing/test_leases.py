"""Held leases: which ones this process holds, and when it drops them."""

from worker.leasing.leases import HeldLeases, Job, Lease


def lease(slice_id: int, fencing_token: int = 1) -> Lease:
    return Lease(slice_id, "batch", slice_id * 10, 10, fencing_token, attempts=fencing_token)


def jobs(lease: Lease, count: int) -> list[Job]:
    return [Job(lease, lease.start_position + index, {}) for index in range(count)]


def hold(*leases: Lease, open_jobs: int = 3) -> HeldLeases:
    held_leases = HeldLeases()
    held_leases.add(leases, [job for lease in leases for job in jobs(lease, open_jobs)])
    return held_leases


class TestHeldLeases:
    def test_holds_what_was_added(self) -> None:
        held_leases = hold(lease(1), lease(2))

        assert held_leases.leases() == [lease(1), lease(2)]
        assert held_leases.is_held(lease(1))
        assert not held_leases.is_held(lease(3))
        assert held_leases.unanswered_jobs(lease(1)) == 3

    def test_counts_only_what_is_open(self) -> None:
        held_leases = HeldLeases()
        held_leases.add([lease(1)], ())  # held from the claim on, before its jobs are known
        assert held_leases.is_held(lease(1))
        assert held_leases.unanswered_jobs(lease(1)) == 0

        held_leases.add([lease(1)], jobs(lease(1), 2))

        assert held_leases.unanswered_jobs(lease(1)) == 2

    def test_may_get_one_while_a_claim_is_under_way(self) -> None:
        held_leases = HeldLeases()
        assert not held_leases.may_hold_any()

        with held_leases.claiming():
            assert held_leases.may_hold_any()

        assert not held_leases.may_hold_any()
        assert hold(lease(1)).may_hold_any()

    def test_lets_go_of_a_slice_once_all_its_jobs_are_answered(self) -> None:
        held_leases = hold(lease(1), lease(2))

        held_leases.count_results(lease(1), 2)
        assert held_leases.is_held(lease(1))
        assert held_leases.unanswered_jobs(lease(1)) == 1

        held_leases.count_results(lease(1), 1)
        assert held_leases.leases() == [lease(2)]
        assert held_leases.unanswered_jobs(lease(1)) == 0

    def test_lets_go_of_a_slice_that_had_no_open_job(self) -> None:
        held_leases = hold(lease(1), open_jobs=0)

        held_leases.count_results(lease(1), 0)

        assert held_leases.leases() == []

    def test_drops_what_was_lost(self) -> None:
        held_leases = hold(lease(1), lease(2))

        held_leases.discard([lease(1)])

        assert held_leases.leases() == [lease(2)]
        assert not held_leases.is_held(lease(1))
        assert held_leases.unanswered_jobs(lease(1)) == 0

    def test_dropping_twice_is_fine(self) -> None:
        held_leases = hold(lease(1))

        held_leases.discard([lease(1)])
        held_leases.discard([lease(1), lease(9)])

        assert held_leases.leases() == []


class TestSliceClaimedAgain:
    """A lease runs out unnoticed and the same process claims the slice again: only the later lease counts."""

    old, new = lease(1, fencing_token=1), lease(1, fencing_token=2)

    def hold_both(self) -> HeldLeases:
        held_leases = hold(self.old)
        held_leases.add([self.new], jobs(self.new, 2))
        return held_leases

    def test_the_old_lease_is_not_held(self) -> None:
        held_leases = self.hold_both()

        assert not held_leases.is_held(self.old)
        assert held_leases.is_held(self.new)
        assert held_leases.leases() == [self.new]

    def test_losing_the_old_lease_keeps_the_new_one(self) -> None:
        held_leases = self.hold_both()

        held_leases.discard([self.old])

        assert held_leases.is_held(self.new)
        assert held_leases.unanswered_jobs(self.new) == 2

    def test_answers_under_the_old_lease_do_not_count_for_the_new_one(self) -> None:
        held_leases = self.hold_both()

        held_leases.count_results(self.old, 2)

        assert held_leases.unanswered_jobs(self.new) == 2
        assert held_leases.unanswered_jobs(self.old) == 0
