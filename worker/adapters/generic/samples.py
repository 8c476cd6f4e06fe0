"""Inputs with which pipelines are tried at load: of several lengths, and different ones of equal length."""

from typing import Any

from models.tasks.generic.table_question_answering import TABLE_QUESTION_ANSWERING

TEXTS = (
    "the product works well and the quick delivery was great",
    "the delivery works great and the quick product was well",
    "the product works well",
    "great",
)


def sample_inputs(task: str) -> list[dict[str, Any]]:
    """Inputs of a task in their stored form; empty where none are worth a trial."""
    if task == TABLE_QUESTION_ANSWERING.name:
        return _tables()
    return [] if task == "decision" else [{"text": text} for text in TEXTS]


def _tables() -> list[dict[str, Any]]:
    example = TABLE_QUESTION_ANSWERING.example_input
    table: dict[str, list[str]] = example["table"]
    reversed_table = {name: cells[::-1] for name, cells in table.items()}
    first_rows = {name: cells[:1] for name, cells in table.items()}
    query: str = example["query"]
    return [
        {"table": table, "query": query},
        {"table": reversed_table, "query": query},
        {"table": first_rows, "query": query},
        {"table": table, "query": f"{query} {query}"},
    ]
