"""The output and error files of a batch, as OpenAI's clients read them: from SQL on demand, in constant memory."""
