"""Loading a model for a registered pipeline: its classes are tried in order, as `pipeline(...)` does."""

from collections.abc import Iterator
from typing import Any

import transformers
from transformers import PreTrainedModel

from models.errors import ModelError
from worker.adapters.generic.registry import RegisteredPipeline
from worker.failures import is_machine_problem

# What transformers' own loader takes as "not this class".
WRONG_CLASS_ERRORS = (OSError, ValueError, TypeError, RuntimeError, KeyError)
UNSUPPORTED = "Unrecognized configuration class"


class ModelClasses:
    """Takes the place of an auto class of transformers."""

    def __init__(self, registered: RegisteredPipeline) -> None:
        self.__name__ = f"the models of {registered.name}"
        self._classes = registered.model_classes

    def from_pretrained(self, folder: Any, *, config: Any, **options: Any) -> Any:
        """As that of an auto class. Raises the first error that is more than an unsupported model."""
        errors: list[Exception] = []
        for model_class in self._candidates(config):
            try:
                return model_class.from_pretrained(folder, config=config, **options)
            except WRONG_CLASS_ERRORS as error:
                if is_machine_problem(error):
                    raise
                errors.append(error)
        if not errors:
            raise ModelError("the pipeline names no class of models, and neither does config.json")
        raise next((error for error in errors if UNSUPPORTED not in str(error)), errors[0])

    def _candidates(self, config: Any) -> Iterator[Any]:
        yield from self._classes
        for name in config.architectures or ():
            named = getattr(transformers, str(name), None)
            if isinstance(named, type) and issubclass(named, PreTrainedModel):
                yield named
