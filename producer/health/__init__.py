"""`audit` proves that every job has exactly one result; `doctor` finds what is broken and says what to do."""
