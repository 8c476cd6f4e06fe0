"""Codes of batches that failed as a whole."""

from models.error_catalogue.explanation import Explanation, Remedy

SUBMIT_AGAIN = "Submit the batch again."

EXPLANATIONS = {
    "too_many_failures": Explanation(
        "Too many failures",
        "More jobs failed than the batch's max_failures allows, so the rest was not tried.",
        "Look at the failures, correct their cause, then retry failed and cancelled jobs.",
        Remedy.RETRY,
    ),
    "model_unusable": Explanation(
        "Model unusable",
        "The model's files can't do what the pipeline asks of them.",
        "Correct the pipeline as the message says, then retry.",
        Remedy.CHANGE,
    ),
    "model_missing": Explanation(
        "Model missing",
        "The model's files were found neither on a worker's machine nor on the Hub.",
        "Correct the model's name or fetch its files, then retry.",
        Remedy.CHANGE,
    ),
    "crash_loop": Explanation(
        "Workers crashed repeatedly",
        "Many inputs in a row crashed or hung their workers.",
        "Find the reason in the worker's log; correct it, then retry.",
        Remedy.CHANGE,
    ),
    "source_failed": Explanation(
        "Source broke off",
        "The source could not be read to its end; rows before it were run.",
        "Check the file or the query, and submit it again.",
    ),
    "submission_abandoned": Explanation(
        "Submission abandoned", "The process that submitted the batch ended before it was done.", SUBMIT_AGAIN
    ),
    "invalid_rows": Explanation(
        "Invalid rows",
        "Rows of the file can't be jobs, so nothing was submitted.",
        "Correct these rows, and submit again.",
    ),
    "intake_crashed": Explanation(
        "Server crashed while reading",
        "The processes that read the file were ended repeatedly at the same row.",
        "Look into the server's log, and submit the file without that row.",
    ),
    "intake_abandoned": Explanation(
        "File not read in time",
        "No machine that has the file and the pipeline read it in time.",
        "Check that a server or worker runs there, and submit again.",
    ),
    "internal_error": Explanation(
        "Internal error", "An error of Batchmill ended the reading of the file.", "Find the reason in the server's log."
    ),
}
