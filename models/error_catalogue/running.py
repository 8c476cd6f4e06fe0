"""Codes of jobs that failed while they ran, or that were not run."""

from models.error_catalogue.explanation import Explanation, Remedy

EXPLANATIONS = {
    "invalid_output": Explanation(
        "Invalid output",
        "The model gave scores that are no numbers, or an output that is no JSON.",
        "Set dtype float32 for the pipeline, then retry.",
        Remedy.CHANGE,
    ),
    "output_too_large": Explanation(
        "Output too large",
        "The output is larger than the database stores.",
        "Split the input, or submit it with parameters that give less, such as a lower top_k.",
    ),
    "task_error": Explanation(
        "Task raised an error",
        "A task of one's own raised an exception on this input.",
        "Let its author correct the method that the message names, then retry.",
        Remedy.CHANGE,
    ),
    "model_error": Explanation(
        "Model raised an error",
        "The model raised an exception on this input alone.",
        "Read the message; correct the input or the model, then retry.",
        Remedy.CHANGE,
    ),
    "schema_unmet": Explanation(
        "Schema not met",
        "The text ended before it met the batch's output_schema, or no allowed token was left.",
        "Submit the input again with a higher max_new_tokens, or a simpler schema.",
    ),
    "missing_package": Explanation(
        "Package missing",
        "The worker lacks the package that output_schema needs.",
        "Install it with the command in the message, then retry.",
        Remedy.CHANGE,
    ),
    "processor_error": Explanation(
        "Logits processor failed",
        "A logits processor raised an exception on this row, or left no token.",
        "Correct the processor, then retry.",
        Remedy.CHANGE,
    ),
    "guard_blocked": Explanation(
        "Blocked by a guard",
        "A guard of the pipeline caught the input or the output.",
        "The same guard blocks the same input again; send another input, or change the guard and retry.",
        Remedy.CHANGE,
    ),
    "guard_failed": Explanation(
        "Guard could not read",
        "A guard could not read this text, so nothing was let through.",
        "Read the reason in the message; correct the guard or the text, then retry.",
        Remedy.CHANGE,
    ),
    "out_of_memory": Explanation(
        "Out of memory",
        "The input does not fit into the device's memory, even alone.",
        "Retry where the device has more free memory, or shorten the input.",
        Remedy.RETRY,
    ),
    "worker_crashed": Explanation(
        "Worker crashed",
        "Workers crashed while they ran this input.",
        "Retry once; if it crashes again, look into the worker's log.",
        Remedy.RETRY,
    ),
    "forward_timeout": Explanation(
        "Took too long",
        "The model or a guard did not finish this input in time, repeatedly.",
        "Retry where the device is less busy, or shorten the input.",
        Remedy.RETRY,
    ),
    "too_many_failures": Explanation(
        "Not tried: too many failures",
        "The batch had more failures than its max_failures allows, so this job was not tried.",
        "Look at the first failures, correct their cause, then retry.",
        Remedy.RETRY,
    ),
    "deadline_exceeded": Explanation(
        "Not tried: deadline passed",
        "The batch's deadline passed before the job was run.",
        "Retry with a new deadline, or without one.",
        Remedy.RETRY,
    ),
}
