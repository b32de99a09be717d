"""Linear regression, softmax regression and a perceptron with one hidden layer, by hand on tensors.

No layer, loss, gradient or update rule of the library is used: each loss stands beside the
gradient that a textbook derives for it, and the tests compare both with `torch.nn` and autograd.
Run directories, schedules and checkpoints are those of all recipes.

To be read beside Dive into Deep Learning (d2l.ai), chapters 3 to 5. n is the number of rows in a batch,
d of features, q of classes, h of hidden units.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

Tensors = dict[str, Tensor]


# Data


def synthetic_line(
    w: Tensor, b: float, rows: int, noise: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Features x [rows, d] from N(0, 1) and targets y = xw + b + N(0, noise), [rows]."""
    x = torch.randn(rows, len(w), generator=generator)
    return x, x @ w + b + noise * torch.randn(rows, generator=generator)


def minibatches(x: Tensor, y: Tensor, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """All rows once, shuffled, `size` at a time (fewer in the last batch)."""
    order = torch.randperm(len(x), generator=generator)
    for start in range(0, len(x), size):
        index = order[start : start + size]
        yield x[index], y[index]


# Models


def linear(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """xw + b: one output per column of w, or a single one where w is a vector."""
    return x @ w + b


def relu(x: Tensor) -> Tensor:
    """max(x, 0), element by element."""
    return x * (x > 0)


def softmax(logits: Tensor) -> Tensor:
    """exp(o_j) / sum_k exp(o_k) in each row of [n, q].

    Subtracting the row's maximum leaves the quotient as it is and keeps exp from overflowing.
    """
    exponentials = (logits - logits.max(dim=1, keepdim=True).values).exp()
    return exponentials / exponentials.sum(dim=1, keepdim=True)


def log_softmax(logits: Tensor) -> Tensor:
    """log softmax = o_j - log sum_k exp(o_k), [n, q], where a probability itself may round to 0."""
    shifted = logits - logits.max(dim=1, keepdim=True).values
    return shifted - shifted.exp().sum(dim=1, keepdim=True).log()


# Losses


def entropy(p: Tensor) -> Tensor:
    """H(p) = -sum_j p_j log p_j in nats, of each distribution in the last dimension."""
    return cross_entropy(p, p)


def cross_entropy(p: Tensor, q: Tensor) -> Tensor:
    """H(p, q) = -sum_j p_j log q_j in nats; 0 log 0 is 0."""
    return -torch.where(p > 0, p * q.log(), 0).sum(dim=-1)


def kl_divergence(p: Tensor, q: Tensor) -> Tensor:
    """D(p || q) = H(p, q) - H(p), in nats: the cost of coding p by q."""
    return cross_entropy(p, q) - entropy(p)


def squared_loss(predicted: Tensor, y: Tensor) -> Tensor:
    """Mean of (predicted - y)² / 2 over the batch."""
    return ((predicted - y) ** 2 / 2).mean()


def squared_loss_gradient(predicted: Tensor, y: Tensor) -> Tensor:
    """d loss / d predicted = (predicted - y) / n."""
    return (predicted - y) / len(y)


def softmax_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of the labels [n] against softmax(logits).

    With one-hot labels only -log of the true class's probability is left of the sum.
    """
    return -log_softmax(logits)[torch.arange(len(labels), device=labels.device), labels].mean()


def softmax_loss_gradient(logits: Tensor, labels: Tensor) -> Tensor:
    """d loss / d logits = (softmax(logits) - one-hot labels) / n, [n, q]."""
    gradient = softmax(logits)
    gradient[torch.arange(len(labels), device=labels.device), labels] -= 1
    return gradient / len(labels)


# One pass forward and back: the loss, the predictions, and the gradient of the loss by each weight


def linear_regression(weights: Tensors, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensors]:
    """Weights w [d] and b []; x [n, d], y [n]."""
    predicted = linear(x, weights["w"], weights["b"])
    error = squared_loss_gradient(predicted, y)
    return squared_loss(predicted, y), predicted, {"w": x.T @ error, "b": error.sum()}


def softmax_regression(weights: Tensors, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensors]:
    """Weights W [d, q] and b [q]; x [n, d], labels [n]."""
    logits = linear(x, weights["W"], weights["b"])
    error = softmax_loss_gradient(logits, labels)
    return softmax_loss(logits, labels), logits, {"W": x.T @ error, "b": error.sum(dim=0)}


def perceptron(weights: Tensors, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensors]:
    """Weights W1 [d, h], b1 [h], W2 [h, q], b2 [q]; x [n, d], labels [n].

    Backpropagation is the chain rule from the last line of the forward pass to the first.
    """
    hidden = relu(linear(x, weights["W1"], weights["b1"]))
    logits = linear(hidden, weights["W2"], weights["b2"])
    error = softmax_loss_gradient(logits, labels)
    hidden_error = (error @ weights["W2"].T) * (hidden > 0)  # ReLU passes on what it let through
    gradients = {
        "W1": x.T @ hidden_error,
        "b1": hidden_error.sum(dim=0),
        "W2": hidden.T @ error,
        "b2": error.sum(dim=0),
    }
    return softmax_loss(logits, labels), logits, gradients


# Updates


def sgd(weights: Iterable[Tensor], gradients: Iterable[Tensor], lr: float) -> None:
    """Stochastic gradient descent: each weight, in place, a step down its gradient."""
    for weight, gradient in zip(weights, gradients, strict=True):
        weight -= lr * gradient


# The interface to the training loop


CLASSIFIERS: Mapping[str, Callable[[Tensors, Tensor, Tensor], tuple[Tensor, Tensor, Tensors]]] = {
    "softmax-scratch": softmax_regression,
    "mlp-scratch": perceptron,
}


@torch.no_grad()
def backward(architecture: str, model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Loss and logits of a batch; leaves the gradients in `.grad`, where an optimizer expects them."""
    weights: Tensors = dict(model.named_parameters())
    loss, logits, gradients = CLASSIFIERS[architecture](weights, images.flatten(1), labels)
    for name, weight in weights.items():
        weight.grad = gradients[name]
    return loss, logits


class SGD(torch.optim.Optimizer):
    """`sgd` as the optimizer that a schedule and a checkpoint expect."""

    def __init__(self, weights: Iterable[nn.Parameter], lr: float) -> None:
        super().__init__(weights, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every weight from its `.grad`."""
        for group in self.param_groups:
            sgd(group["params"], (weight.grad for weight in group["params"]), group["lr"])
