"""Claiming: which slices a process takes next, in one order for all, with turns for tenants and for quarantine."""
