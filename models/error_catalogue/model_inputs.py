"""Codes of inputs that the batch's model or its parameters do not take."""

from models.error_catalogue.explanation import Explanation, Remedy

SHORTEN = "Shorten or split the text, or set the pipeline to cut or to read in windows."

EXPLANATIONS = {
    "invalid_parameters": Explanation(
        "Unsuitable parameters",
        "The model does not take these parameters.",
        "Submit the inputs as another batch with other parameters.",
    ),
    "input_too_long": Explanation("Input too long", "The input has more tokens than the pipeline takes.", SHORTEN),
    "question_too_long": Explanation(
        "Question too long", "The question leaves too little room for its context.", "Shorten the question."
    ),
    "hypothesis_too_long": Explanation(
        "Hypothesis too long",
        "A label in its sentence leaves too little room for the text.",
        "Shorten the label or the hypothesis template.",
    ),
    "query_too_long": Explanation(
        "Query too long", "The query leaves too little room for the texts.", "Shorten the query."
    ),
    "too_many_tokens": Explanation(
        "Too many tokens",
        "The texts have too many tokens in all, since each is read with the query.",
        "Split the texts.",
    ),
    "too_many_windows": Explanation(
        "Too many windows",
        "The text is so long that it takes too many windows.",
        "Split the text, or lower the stride.",
    ),
    "stride_too_large": Explanation(
        "Stride too large", "Windows are to share more tokens than they have.", "Submit again with a smaller stride."
    ),
    "doc_stride_too_large": Explanation(
        "Stride too large",
        "Windows are to share more tokens than they have.",
        "Submit again with a smaller doc_stride.",
    ),
    "unsupported_pair": Explanation(
        "Pairs unsupported", "The pipeline can't read a second text in windows.", "Shorten both texts, or send one."
    ),
    "no_mask": Explanation("No mask", "The text has no mask.", "Write the model's mask where a word is to be found."),
    "wrong_mask": Explanation(
        "Mask of another model", "The text has another model's mask.", "Write the mask that the message names."
    ),
    "mask_truncated": Explanation(
        "Mask cut off", "A mask lies after the tokens that the model reads.", "Shorten the text before the mask."
    ),
    "unknown_target": Explanation(
        "Unknown target", "A target is not one token of the model.", "Write targets as the model's vocabulary has them."
    ),
    "unknown_token": Explanation(
        "Unknown token",
        "The tokenizer gives a token for which the model has no embedding.",
        "Set the tokenizer that belongs to the model, then retry.",
        Remedy.CHANGE,
    ),
    "unknown_token_type": Explanation(
        "No second text", "The model has no embedding for the tokens of a second text.", "Send one text only."
    ),
    "missing_language": Explanation(
        "Language missing",
        "The translation needs a source or a target language.",
        "Submit again with src_lang and tgt_lang.",
    ),
    "unknown_language": Explanation(
        "Unknown language",
        "The model does not know a language of the translation.",
        "Take a code that the message names.",
    ),
    "no_chat_template": Explanation(
        "No chat template",
        "The tokenizer has no chat template, so it can't read messages.",
        "Send text, or take a model that was trained for chat.",
    ),
    "chat_template_hung": Explanation(
        "Chat template hung",
        "The tokenizer's chat template did not finish in time.",
        "Shorten the conversation, or take another model.",
    ),
    "needs_fast_tokenizer": Explanation(
        "Fast tokenizer missing",
        "A parameter needs a fast tokenizer, which the model lacks.",
        "Submit again without that parameter.",
    ),
    "unreadable_input": Explanation(
        "Unreadable input", "The pipeline of transformers can't read this input.", "See its documentation for the form."
    ),
    "unsuitable_pipeline": Explanation(
        "Unsuitable pipeline",
        "The pipeline of transformers can't run this input in a micro-batch.",
        "Write a task of your own for this model.",
    ),
}
