"""Rules for every request: hosts and origins, sizes, rates, headers, its log, and an unreachable database."""
