"""The words of errors that are not ours, such as those of a library."""


def first_line(error: BaseException) -> str:
    """Return the first line of a foreign exception's message, without a final colon, for use in a message of ours.

    A first line that ends in a colon introduces the next one, so that line is appended.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].endswith(":"):
        lines[0] += f" {lines[1].lstrip('- ')}"
    first_text = lines[0].rstrip(": ") if lines else ""
    return first_text or type(error).__name__
