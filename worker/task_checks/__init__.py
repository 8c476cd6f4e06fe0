"""Tries a task and its adapter without a database: `batchmill tasks check`. Each check is one line of its report."""
