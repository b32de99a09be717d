"""What is reached on a table without a network: the largest class, logistic regression, gradient boosting."""

from collections.abc import Callable
from dataclasses import dataclass
from time import process_time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.card import Baseline
from models.table_columns import Columns
from models.tables import TableInput
from training.datasets import Split
from training.figures import baseline

BINS = 254  # categories that boosting can tell apart: of columns with more, the code is a number
TWICE = 150_000  # rows times classes, above which nothing is learned a second time
REGRESSED = 20_000  # training rows that the regression sees at most
Predict = Callable[[Tensor], Tensor]  # rows to probabilities, float64 [N, classes]


@dataclass(frozen=True)
class Rows:
    """Rows as the network takes them: splits, and which rows of the validation split are compared."""

    train: Split
    validation: Split | None
    compared: Tensor
    test: Split


def baselines(spec: TableInput, classes: int, rows: Rows, seed: int, threads: int) -> dict[str, Baseline]:
    """On the test split, learned from training and validation rows together; their log loss on the compared
    rows is that of the same learned from training rows alone; of a large table both are learned from these.
    Rows are encoded by `spec`.
    """
    from threadpoolctl import threadpool_limits

    together = rows.train if rows.validation is None else rows.train + rows.validation
    if len(together) * classes > TWICE:
        together = rows.train
    found = {}
    with threadpool_limits(threads):
        for name, learn in (
            ("majority", majority),
            ("logistic-regression", regression),
            ("gradient-boosting", boosting),
        ):
            begun = process_time()
            predict = learn(spec, classes, together, seed)
            probabilities = predict(rows.test.images)
            update: dict[str, Any] = {"seconds": process_time() - begun}
            if rows.validation is not None and len(rows.compared):
                compared = rows.validation[rows.compared]
                if together is not rows.train:
                    predict = learn(spec, classes, rows.train, seed)
                answers = predict(compared.images)
                update["validation_nll"] = baseline(answers, compared.labels).nll
            if name == "majority":
                update["auc"] = 0.5
            found[name] = baseline(probabilities, rows.test.labels).model_copy(update=update)
    return found


def majority(spec: TableInput, classes: int, train: Split, seed: int) -> Predict:
    """The shares of the classes."""
    counts = torch.bincount(train.labels, minlength=classes).double()
    shares = (counts + 1) / (counts.sum() + classes)
    return lambda rows: shares.expand(len(rows), -1)


def regression(spec: TableInput, classes: int, train: Split, seed: int) -> Predict:
    """On standardised numbers and a column for each category."""
    from scipy import sparse
    from sklearn.linear_model import LogisticRegression

    columns = Columns(*spec.layout, 1)
    columns.fit(train.images)

    def encoded(rows: Tensor) -> Any:
        numbers, _, codes = columns(rows)
        plain = sparse.csr_matrix(numbers.flatten(1).numpy().astype(np.float64))
        ones = np.ones(codes.numel())
        starts = np.arange(len(codes) + 1) * codes.shape[1]
        chosen = sparse.csr_matrix((ones, codes.flatten().numpy(), starts), (len(codes), columns.total))
        return sparse.hstack([plain, chosen]).tocsr()

    few = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:REGRESSED]
    labels = train.labels[few].numpy()
    if len(np.unique(labels)) < 2:
        return majority(spec, classes, train, seed)
    model = LogisticRegression(max_iter=300, tol=1e-3, random_state=0).fit(encoded(train.images[few]), labels)
    return lambda rows: _all_classes(model.predict_proba(encoded(rows)), model.classes_, classes)


def boosting(spec: TableInput, classes: int, train: Split, seed: int) -> Predict:
    """scikit-learn's histogram-based gradient boosting (after LightGBM), as it comes."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    labels = train.labels.numpy()
    if len(np.unique(labels)) < 2:
        return majority(spec, classes, train, seed)
    _, categorical, sizes = spec.layout
    chosen = [place for place, size in zip(categorical, sizes, strict=True) if size < BINS]
    # an early end by rows held out needs some of each class, which small classes have not
    early = "auto" if np.bincount(labels)[np.unique(labels)].min() > 20 else False
    model = HistGradientBoostingClassifier(categorical_features=chosen, early_stopping=early, random_state=seed)
    model.fit(train.images.numpy(), labels)
    return lambda rows: _all_classes(model.predict_proba(rows.numpy()), model.classes_, classes)


def _all_classes(found: NDArray[np.float64], seen: NDArray[np.int64], classes: int) -> Tensor:
    """With a column for classes that do not occur in training."""
    probabilities = torch.zeros(len(found), classes, dtype=torch.float64)
    probabilities[:, torch.from_numpy(seen)] = torch.from_numpy(found).double()
    return probabilities
