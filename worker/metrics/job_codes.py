"""The error codes of jobs that metrics tell apart, as docs/reference/output.md lists them; a test compares both.

Own tasks may make up others. They count as `other`, so that no label has more values than this list.
"""

OTHER_CODE = "other"

JOB_CODES = frozenset(
    (
        "chat_template_hung",
        "deadline_exceeded",
        "doc_stride_too_large",
        "duplicate_id",
        "empty_label",
        "empty_text",
        "forward_timeout",
        "guard_blocked",
        "guard_failed",
        "hypothesis_too_long",
        "input_too_long",
        "invalid_field",
        "invalid_id",
        "invalid_messages",
        "invalid_output",
        "invalid_parameters",
        "invalid_passthrough",
        "invalid_questions",
        "invalid_row",
        "invalid_table",
        "invalid_text",
        "label_too_long",
        "mask_truncated",
        "missing_field",
        "missing_id",
        "missing_language",
        "missing_package",
        "missing_passthrough",
        "model_error",
        "needs_fast_tokenizer",
        "no_chat_template",
        "no_labels",
        "no_mask",
        "no_questions",
        "no_texts",
        "not_text",
        "out_of_memory",
        "output_too_large",
        "processor_error",
        "query_too_long",
        "question_too_long",
        "repeated_label",
        "row_too_large",
        "schema_unmet",
        "source_failed",
        "stride_too_large",
        "table_too_large",
        "task_error",
        "text_and_inputs",
        "text_and_texts",
        "text_too_long",
        "too_many_failures",
        "too_many_labels",
        "too_many_texts",
        "too_many_tokens",
        "too_many_windows",
        "unknown_language",
        "unknown_target",
        "unknown_token",
        "unknown_token_type",
        "unreadable_input",
        "unsuitable_pipeline",
        "unsupported_pair",
        "worker_crashed",
        "wrong_mask",
    )
)


def label_for(code: str) -> str:
    """Return the code if it is one of ours."""
    return code if code in JOB_CODES else OTHER_CODE
