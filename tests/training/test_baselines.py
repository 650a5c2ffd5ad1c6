"""The baselines: they recover what was put into their data."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lob.errors import InputError
from training.baselines import LogisticBaseline, fit_microprice_rule, prior_log_probabilities
from training.metrics import class_shares, log_softmax


@given(
    values=st.lists(st.floats(-2, 2, width=32), min_size=3, max_size=80, unique=True),
    seed=st.integers(0, 100),
)
def test_the_rule_decides_each_class_as_often_as_it_came(values: list[float], seed: int) -> None:
    microprice = np.array(values)
    labels = np.random.default_rng(seed).integers(0, 3, len(values))
    rule = fit_microprice_rule(microprice, labels)
    counts = np.bincount(rule.decide(microprice), minlength=3)
    np.testing.assert_array_equal(counts, np.bincount(labels, minlength=3))


@given(st.lists(st.tuples(st.integers(-1, 1), st.integers(0, 2)), min_size=1, max_size=60))
def test_ties_stay_on_one_side(rows: list[tuple[int, int]]) -> None:
    microprice = np.array([float(value) for value, _ in rows])
    rule = fit_microprice_rule(microprice, np.array([label for _, label in rows]))
    assert rule.lower <= rule.upper
    decisions = rule.decide(microprice)
    order = np.argsort(microprice)
    assert (np.diff(decisions[order]) >= 0).all()


def test_the_rule_cuts_a_known_sample_where_it_should() -> None:
    rule = fit_microprice_rule(np.array([-2.0, -1.0, 0.0, 1.0, 2.0]), np.array([0, 1, 1, 2, 2]))
    assert (rule.lower, rule.upper) == (-1.5, 0.5)


def test_a_class_that_never_came_keeps_a_finite_log_probability() -> None:
    result = prior_log_probabilities(np.array([0, 0, 2, 2]))
    np.testing.assert_allclose(np.exp(result), [0.5, 1e-6, 0.5])


def test_the_logistic_regression_equals_scikit_learns_pipeline() -> None:
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(600, 5)) * [1, 10, 100, 0.1, 1] + 7).astype(np.float32)
    labels = (rows[:, 0] - 7 + rng.normal(size=600) > 0).astype(int) * 2
    labels[rng.random(600) < 0.3] = 1
    baseline = LogisticBaseline(rows, labels)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    expected = pipeline.fit(rows.astype(float), labels).predict_proba(rows.astype(float))
    np.testing.assert_allclose(np.exp(log_softmax(baseline.logits(rows))), expected, atol=1e-9)
    assert class_shares(baseline.logits(rows).argmax(axis=1)).max() < 0.9


def test_a_class_without_rows_is_refused() -> None:
    with pytest.raises(InputError, match=r"only the classes \[0, 1\] came"):
        LogisticBaseline(np.zeros((4, 2), dtype=np.float32), np.array([0, 1, 0, 1]))
