"""All SQL about slices: claim, lease, commit, release and reclaim. Review this room for correctness."""
