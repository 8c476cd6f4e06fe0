"""The head of an embedding model: what its files compute after the pooling, such as dense layers and a normalization.

It is a part of the model, so that it moves between devices with it. Its weights stay float32 in every dtype.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch.nn import functional

from models.embedding.activations import find_activation
from models.embedding.recipe import Recipe
from models.embedding.sentence_files import SentenceFiles, Step
from models.errors import InvalidParameters, ModelError
from models.foreign_errors import first_line

WEIGHTS_FILE = "model.safetensors"
NORM_EPSILON, LAYER_NORM_EPSILON = 1e-12, 1e-5  # torch's own

DEFAULT_ACTIVATION = "torch.nn.Tanh"


class Dense(torch.nn.Module):
    """A linear layer with an activation, and perhaps a residual.

    activation: the name of a module of torch.nn.
    """

    def __init__(self, weights: dict[str, torch.Tensor], activation: str, *, use_residual: bool) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(weights["linear.weight"], requires_grad=False)
        bias, residual = weights.get("linear.bias"), weights.get("residual.weight")
        self.bias = None if bias is None else torch.nn.Parameter(bias, requires_grad=False)
        self.residual = None if residual is None else torch.nn.Parameter(residual, requires_grad=False)
        self._use_residual = use_residual
        self._activate: torch.nn.Module = getattr(torch.nn, activation)()

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """`(rows, size)`, of `(rows, other size)`."""
        outputs: torch.Tensor = self._activate(functional.linear(vectors, self.weight, self.bias))
        if not self._use_residual:
            return outputs
        return outputs + (vectors if self.residual is None else functional.linear(vectors, self.residual))


class LayerNorm(torch.nn.Module):
    """A layer normalization."""

    def __init__(self, weights: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(weights["norm.weight"], requires_grad=False)
        self.bias = torch.nn.Parameter(weights["norm.bias"], requires_grad=False)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """`(rows, size)`, of the same shape."""
        return functional.layer_norm(vectors, self.weight.shape, self.weight, self.bias, LAYER_NORM_EPSILON)


class Normalize(torch.nn.Module):
    """A division by the vector's length."""

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """`(rows, size)`, of the same shape."""
        return functional.normalize(vectors, dim=-1, eps=NORM_EPSILON)


class EmbeddingHead(torch.nn.Module):
    """What is computed of pooled vectors.

    files: what the model's files say.
    steps: the modules after the pooling.
    token_size: numbers in the vector of a token, None = not known.
    """

    def __init__(
        self, files: SentenceFiles, steps: Sequence[torch.nn.Module] = (), token_size: int | None = None
    ) -> None:
        super().__init__()
        self.files, self.token_size = files, token_size
        self.steps = torch.nn.ModuleList(steps)
        computing = [index for index, step in enumerate(steps) if not isinstance(step, Normalize)]
        self._unnormalized_count = computing[-1] + 1 if computing else 0

    @classmethod
    def load(cls, files: SentenceFiles, folder: Path, token_size: int | None) -> "EmbeddingHead":
        """Load the layers in a model's folder.

        Raises ModelError if they are missing or damaged, or do not fit each other.
        """
        head = cls(files, [_load_step(step, folder) for step in files.steps], token_size)
        try:
            Recipe.from_parameters({}, files, token_size)
        except InvalidParameters as error:
            raise ModelError(f"its modules do not fit each other: {error}") from None
        return head

    def forward(self, pooled: torch.Tensor, normalize: bool | None, dimensions: int | None) -> torch.Tensor:
        """`(rows, dimensions)`, of pooled vectors `(rows, size)`, both float32.

        normalize: whether to normalize after the cut, None = as the files say, before it.
        dimensions: how many numbers to keep, None = all.
        """
        vectors = pooled
        for step in self.steps if normalize is not False else self.steps[: self._unnormalized_count]:
            vectors = step(vectors)
        vectors = vectors[:, :dimensions]
        return functional.normalize(vectors, dim=-1, eps=NORM_EPSILON) if normalize else vectors


def _load_step(step: Step, folder: Path) -> torch.nn.Module:
    if step.kind == "normalize":
        return Normalize()
    weights = _load_weights(folder / step.path)
    _check_weights(step, weights)
    if step.kind == "layer_norm":
        return LayerNorm(weights)
    return Dense(weights, _find_activation(step), use_residual=bool(step.config.get("use_residual")))


def _check_weights(step: Step, weights: Mapping[str, torch.Tensor]) -> None:
    """Raise ModelError unless these are the weights that the layer's config.json describes."""
    shapes = _expected_shapes(step)
    place = f"{step.path}/{WEIGHTS_FILE}"
    for name in shapes:
        if name not in weights:
            raise ModelError(f"{place} has no {name}; fetch the model again")
    for name, tensor in weights.items():
        if name not in shapes:
            raise ModelError(f"{place} has {name[:80]}, of which its config.json does not know; fetch the model again")
        if tuple(tensor.shape) != shapes[name]:
            raise ModelError(f"{place} has other sizes than its config.json; fetch the model again")


def _expected_shapes(step: Step) -> dict[str, tuple[int | None, ...]]:
    taken, given = step.input_size, step.output_size
    if step.kind == "layer_norm":
        return {"norm.weight": (taken,), "norm.bias": (taken,)}
    shapes: dict[str, tuple[int | None, ...]] = {"linear.weight": (given, taken)}
    if step.config.get("bias", True):
        shapes["linear.bias"] = (given,)
    if step.config.get("use_residual") and taken != given:
        shapes["residual.weight"] = (given, taken)
    return shapes


def _find_activation(step: Step) -> str:
    path = step.config.get("activation_function", DEFAULT_ACTIVATION)
    name = find_activation(path)
    if name is None:
        raise ModelError(
            f"{step.path} asks for the activation {str(path)[:80]!r}, which is not taken; take another model"
        )
    return name


def _load_weights(folder: Path) -> dict[str, torch.Tensor]:
    path = folder / WEIGHTS_FILE
    try:
        # Copied, because the tensors of `load_file` change with their file.
        return {name: tensor.float().clone() for name, tensor in load_file(path).items()}
    except Exception as error:  # a damaged file can raise anything
        raise ModelError(f"{folder.name}/{WEIGHTS_FILE} can't be read: {first_line(error)}") from error
