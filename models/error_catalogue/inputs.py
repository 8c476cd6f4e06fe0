"""Codes of rows and inputs that can't become work for any model."""

from models.error_catalogue.explanation import Explanation

REPAIR = "Correct the row, and put it back by a repair."

EXPLANATIONS = {
    "missing_field": Explanation(
        "Field missing",
        "The input lacks a field that the task needs.",
        "Choose the column that has the field, or add it and repair the row.",
    ),
    "not_text": Explanation("No text", "A field that must be text has a number, a list or another value.", REPAIR),
    "empty_text": Explanation(
        "Empty text", "The text is blank, or has no token that the model counts.", "Leave the row out or give it text."
    ),
    "invalid_text": Explanation(
        "Unstorable text",
        "The text has a NUL character or half a surrogate pair, which no database stores.",
        "Mend the encoding of the source, and repair the row.",
    ),
    "text_too_long": Explanation(
        "Text too long", "The text has more characters than a field may have.", "Split the text into several rows."
    ),
    "invalid_field": Explanation(
        "Invalid field", "A field has a value of a form or size that its task does not take.", REPAIR
    ),
    "invalid_messages": Explanation(
        "Invalid conversation",
        "The messages are no list of objects with a role and a content.",
        "Give each message role and content, and nothing else.",
    ),
    "missing_id": Explanation("Id missing", "The row lacks the id column that the batch was submitted with.", REPAIR),
    "invalid_id": Explanation("Invalid id", "The value can't be a custom id.", "Give a text or a whole number as id."),
    "duplicate_id": Explanation(
        "Duplicate id", "Another row of the batch has the same custom id.", "Give each row an id that no other has."
    ),
    "missing_passthrough": Explanation("Kept column missing", "The row lacks a column that was to be kept.", REPAIR),
    "invalid_passthrough": Explanation(
        "Kept column unusable", "A column that was to be kept has a value that JSON can't hold.", REPAIR
    ),
    "invalid_row": Explanation(
        "Unreadable row",
        "The row is not in the format of its file.",
        "Open the source at that row and correct its syntax, then repair the row.",
    ),
    "row_too_large": Explanation("Row too large", "The row is larger than 16 MiB.", "Split the row into several."),
    "source_failed": Explanation(
        "Source broke off",
        "The source could not be read to its end.",
        "Check the file or the query, and submit the rest as another batch.",
    ),
    "no_texts": Explanation("No texts", "The list of texts is empty.", "Give at least one text, or leave the row out."),
    "too_many_texts": Explanation("Too many texts", "The row has more texts than are taken.", "Split the texts."),
    "text_and_texts": Explanation("Text and texts", "The input has both text and texts.", "Leave one of them out."),
    "invalid_table": Explanation("Invalid table", "The table is no table of columns with equally many cells.", REPAIR),
    "table_too_large": Explanation("Table too large", "The table has more cells than are taken.", "Split the table."),
    "no_questions": Explanation(
        "No questions", "The questions are missing.", "Give them with the input, or as a parameter of the batch."
    ),
    "invalid_questions": Explanation(
        "Invalid questions", "The questions have another form than the task reads.", REPAIR
    ),
    "text_and_inputs": Explanation("Text and inputs", "The input has both text and inputs.", "Leave one of them out."),
    "no_labels": Explanation(
        "No labels", "There are no candidate labels.", "Give them with the input, or as a parameter of the batch."
    ),
    "empty_label": Explanation("Blank label", "A candidate label is blank.", "Leave the blank label out."),
    "repeated_label": Explanation(
        "Repeated label", "A candidate label appears twice, so both would share its score.", "Name each label once."
    ),
    "label_too_long": Explanation("Label too long", "A candidate label is too long.", "Shorten the label."),
    "too_many_labels": Explanation("Too many labels", "There are more labels than are taken.", "Give fewer labels."),
}
