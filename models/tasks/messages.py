"""Chat messages as an input: roles and contents in order."""

from collections.abc import Mapping
from dataclasses import dataclass

from models.errors import JobError
from models.tasks.spec import MAX_TEXT_CHARACTERS, TextField, describe_type, parse_json_list

ROLES = ("system", "developer", "user", "assistant", "tool")
MAX_MESSAGES = 1_000


@dataclass(frozen=True, slots=True)
class MessagesField:
    """A list of messages with `role` and `content`, joined by the model's chat template."""

    name: str
    help: str
    required: bool = True
    bare_type: type | None = list

    def check(self, value: object) -> list[dict[str, str]]:
        """Return the messages to store; raises JobError if no model could answer them."""
        value = parse_json_list(value)
        if not isinstance(value, list):
            raise JobError("invalid_messages", f"{self.name} must be a list of messages, not {describe_type(value)}")
        if not 1 <= len(value) <= MAX_MESSAGES:
            raise JobError(
                "invalid_messages", f"{self.name} has {len(value):,} messages; give from 1 to {MAX_MESSAGES:,}"
            )
        messages = [self._check_message(message, f"{self.name}[{place}]") for place, message in enumerate(value)]
        size = sum(len(message["content"]) for message in messages)
        if size > MAX_TEXT_CHARACTERS:
            problem = f"{self.name} has {size:,} characters in all"
            raise JobError("text_too_long", f"{problem}; at most {MAX_TEXT_CHARACTERS:,} are taken")
        if not any(message["content"].strip() for message in messages):
            raise JobError("empty_text", f"no message in {self.name} says anything; leave the row out or give it text")
        return messages

    def _check_message(self, message: object, path: str) -> dict[str, str]:
        if not isinstance(message, Mapping):
            raise JobError(
                "invalid_messages", f"{path} must be an object with role and content, not {describe_type(message)}"
            )
        # Other keys (tool calls, images) would be dropped silently.
        if set(message) != {"role", "content"}:
            raise JobError("invalid_messages", f"{path} must have role and content, and nothing else")
        if message["role"] not in ROLES:
            raise JobError("invalid_messages", f"{path}.role must be one of {', '.join(ROLES)}")
        content = message["content"]
        # An empty content is common where the answer starts, and needs no check.
        if not isinstance(content, str) or content.strip():
            content = TextField(f"{path}.content", "").check(content)
        return {"role": message["role"], "content": content}
