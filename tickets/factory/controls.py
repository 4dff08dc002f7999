"""The baseline anyone would try first: TF-IDF and a linear SVM, trained on the same texts.

Its in-scope score is the margin of the best label over the out-of-scope class, so that its
threshold is fitted as every ticket's is. (The zero-layer control is a tier like any other: see
`tickets.factory.find`.)
"""

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline, make_union
from sklearn.svm import LinearSVC

from tickets.factory.data import DomainData, Examples
from tickets.factory.quality import Floats, with_last_column


class LinearControl:
    """TF-IDF of words and character n-grams with a linear SVM over the labels and out of scope."""

    def __init__(self, data: DomainData, seed: int) -> None:
        features = make_union(
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
            TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True),
        )
        self._model = make_pipeline(features, LinearSVC(class_weight="balanced", random_state=seed))
        self._model.fit(list(data.train.texts), data.train.targets)
        self._labels = len(data.labels)

    def logits(self, examples: Examples) -> Floats:
        """Decision values [n, labels + 1]."""
        values = np.asarray(self._model.decision_function(list(examples.texts)), np.float32)
        if values.ndim == 1:  # two classes: sklearn gives one margin
            values = np.stack([-values, values], axis=1)
        return with_last_column(values, self._labels)
