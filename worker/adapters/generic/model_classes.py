"""Loading a model for a registered pipeline: its classes are tried in order, as `pipeline(...)` does."""

from collections.abc import Iterator
from typing import Any

import transformers
from transformers import PreTrainedModel
from transformers.decision import DecisionConfig
from transformers.decision.modeling_utils import DecisionMixin

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
                return self._load(model_class, folder, config, options)
            except WRONG_CLASS_ERRORS as error:
                if is_machine_problem(error):
                    raise
                errors.append(error)
        if not errors:
            raise ModelError("the pipeline names no class of models, and neither does config.json")
        raise next((error for error in errors if UNSUPPORTED not in str(error)), errors[0])

    def _load(self, model_class: Any, folder: Any, config: Any, options: dict[str, Any]) -> Any:
        decision_class = _decision_class(model_class, config)
        if decision_class is None:
            return model_class.from_pretrained(folder, config=config, **options)
        return _load_decision_model(decision_class, folder, config, options)

    def _candidates(self, config: Any) -> Iterator[Any]:
        yield from self._classes
        for name in config.architectures or ():
            named = getattr(transformers, str(name), None)
            if isinstance(named, type) and issubclass(named, PreTrainedModel):
                yield named


def _decision_class(model_class: Any, config: Any) -> Any:
    """The class of a decision model that a class loads for this configuration; None for every other kind."""
    named = getattr(model_class, "_model_mapping", {}).get(type(config), model_class)
    return named if isinstance(named, type) and issubclass(named, DecisionMixin) else None


def _load_decision_model(decision_class: Any, folder: Any, config: Any, options: dict[str, Any]) -> Any:
    """As `DecisionMixin.from_pretrained`, which can't report missing weights."""
    decision_config = None
    if not isinstance(config, decision_class.config_class):
        config, decision_config = decision_class.checkpoint_config(folder, local_files_only=True)
        if config is None:
            raise ValueError(f"the model has no head of {decision_class.__name__} beside its weights")
    model, report = super(DecisionMixin, decision_class).from_pretrained(folder, config=config, **options)
    model.decision_config = decision_config or DecisionConfig.from_pretrained(folder, local_files_only=True)
    return model, report
