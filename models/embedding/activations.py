"""The activations that a model's files may name; other names could run any code."""

# The modules of torch.nn that take no arguments and look at one number at a time.
ACTIVATION_NAMES = (
    *("CELU", "ELU", "GELU", "Hardsigmoid", "Hardswish", "Hardtanh", "Identity", "LeakyReLU", "LogSigmoid", "Mish"),
    *("ReLU", "ReLU6", "SELU", "SiLU", "Sigmoid", "Softplus", "Softsign", "Tanh", "Tanhshrink"),
)
PLACES = ("torch.nn", "torch.nn.modules", "torch.nn.modules.activation", "torch.nn.modules.linear")


def find_activation(path: object) -> str | None:
    """Return the name in torch.nn of an activation in a model's files, None = it is not taken."""
    place, _, name = str(path).rpartition(".")
    return name if place in PLACES and name in ACTIVATION_NAMES else None
