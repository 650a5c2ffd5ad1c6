"""An evaluation's figures are those of its parts, computed by hand on the same rows."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from sklearn.metrics import log_loss as reference_log_loss

from tests.training.plain_rows import served_rows
from training.bootstrap import FEWEST_ROWS
from training.calibration import fit_temperature
from training.dataset import read_dataset
from training.evaluate import POOLED, evaluate_streams, fit_logistic_baselines, gathered
from training.evaluation import Evaluation, without_reliability
from training.held_out import recorded_streams, run_forecasts
from training.metrics import direction_auc, log_softmax
from training.plots import draw_evaluation
from training.pool import LabelledStream
from training.report import comparison_lines, markdown_tables, rich_tables
from training.run_directory import read_run


@pytest.fixture(scope="module")
def streams(trained_run: Path, data_folders: dict[str, Path]) -> list[LabelledStream]:
    """The run's two streams."""
    names = ("walk", "walk-too")
    return recorded_streams(read_run(trained_run), [read_dataset(data_folders[name]) for name in names])


@pytest.fixture(scope="module")
def evaluation(trained_run: Path, streams: list[LabelledStream]) -> Evaluation:
    """The run's held-out scores on the first stream."""
    record = read_run(trained_run)
    forecasts = run_forecasts(trained_run, streams[:1], "test")
    return evaluate_streams("tiny", record, streams, streams[:1], forecasts, part="test")


def test_every_method_is_scored_on_the_same_rows(
    evaluation: Evaluation, streams: list[LabelledStream]
) -> None:
    (stream,) = evaluation.streams
    for horizon in stream.horizons:
        labels = streams[0].part_labels("test")[:, list(streams[0].horizons).index(horizon.horizon)]
        assert horizon.rows == (labels[31:] >= 0).sum()
        methods = [scores.method for scores in horizon.methods]
        assert methods == [
            "majority class",
            "microprice rule",
            "logistic, all streams",
            "logistic, this stream",
            "mambalob, seed 0",
            "mambalob, seed 1",
        ]
        for scores in horizon.methods:
            assert np.sum(scores.confusion) == horizon.rows


def test_the_models_figures_are_those_of_its_logits(
    evaluation: Evaluation, trained_run: Path, streams: list[LabelledStream]
) -> None:
    forecast = run_forecasts(trained_run, streams[:1], "test")["walk"][1]
    for index, horizon in enumerate(evaluation.streams[0].horizons):
        labels = streams[0].part_labels("test")[:, index]
        kept = served_rows(streams[0], "test", 32) & (labels >= 0)
        logits = forecast.logits[kept, index].astype(float)
        probabilities = np.exp(log_softmax(logits / forecast.temperatures[index]))
        scores = horizon.methods[-1]
        assert scores.log_loss == pytest.approx(
            reference_log_loss(labels[kept], probabilities, labels=[0, 1, 2])
        )
        assert scores.direction_auc == pytest.approx(direction_auc(logits[:, 2] - logits[:, 0], labels[kept]))


def test_the_comparisons_are_means_over_the_seeds(evaluation: Evaluation) -> None:
    for horizon in evaluation.streams[0].horizons:
        scores = {each.method: each for each in horizon.methods}
        seeds = [each for each in horizon.methods if each.seed is not None]
        assert [(each.score, each.against) for each in horizon.comparisons] == [
            ("log loss", "majority class"),
            ("log loss", "logistic, all streams"),
            ("log loss", "logistic, this stream"),
            ("direction AUC", "microprice rule"),
        ]
        for comparison in horizon.comparisons:
            field = {"log loss": "log_loss", "direction AUC": "direction_auc"}[comparison.score]
            ours = np.mean([getattr(each, field) for each in seeds])
            assert comparison.difference == pytest.approx(ours - getattr(scores[comparison.against], field))


def test_so_few_rows_get_no_interval(evaluation: Evaluation) -> None:
    (stream,) = evaluation.streams
    for horizon in stream.horizons:
        assert {(each.low, each.high) for each in horizon.comparisons} == {(None, None)}
        lines = list(comparison_lines(horizon))
        assert len(lines) == len(horizon.comparisons)
        assert lines[0].endswith(f"(no interval: {horizon.rows:,} rows, it takes {FEWEST_ROWS:,})")


def test_enough_rows_get_one(
    trained_run: Path, streams: list[LabelledStream], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.evaluate.FEWEST_ROWS", 1)
    forecasts = run_forecasts(trained_run, streams[:1], "test")
    found = evaluate_streams("tiny", read_run(trained_run), streams, streams[:1], forecasts, part="test")
    for horizon in found.streams[0].horizons:
        for comparison in horizon.comparisons:
            assert comparison.low is not None
            assert comparison.high is not None
            assert comparison.low <= comparison.high
        assert all("[" in line for line in comparison_lines(horizon))


def test_no_baseline_sees_a_row_that_is_held_out(streams: list[LabelledStream]) -> None:
    rows, labels = gathered(streams, "training", 0, warmup_rows=1)
    expected = sum((stream.part_labels("training")[:, 0] >= 0).sum() for stream in streams)
    assert len(rows) == len(labels) == expected
    baselines = fit_logistic_baselines(POOLED, streams, streams[:1], 32)
    validation_rows, validation_labels = gathered(streams[:1], "validation", 0, warmup_rows=32)
    fitted = fit_temperature(baselines.models[0].logits(validation_rows), validation_labels, overlap_rows=10)
    assert baselines.temperatures[0] == fitted


def test_an_evaluation_survives_json_and_is_small_without_its_diagrams(evaluation: Evaluation) -> None:
    text = msgspec.json.encode(evaluation)
    assert msgspec.json.decode(text, type=Evaluation) == evaluation
    bare = without_reliability(evaluation)
    assert not any(scores.reliability for each in bare.streams[0].horizons for scores in each.methods)
    assert len(msgspec.json.encode(bare)) < len(text)


def test_tables_hold_every_method_and_the_seeds_together(evaluation: Evaluation) -> None:
    text = markdown_tables(evaluation.streams[0])
    for scores in evaluation.streams[0].horizons[0].methods:
        assert f"| {scores.method} | " in text
    assert text.count("| mean of 2 seeds |") == 3
    assert text.count("direction AUC less that of microprice rule: ") == 3
    tables = list(rich_tables(evaluation.streams[0]))
    assert [table.row_count for table in tables] == [8, 8, 8]


def test_pictures_are_written(evaluation: Evaluation, tmp_path: Path) -> None:
    paths = draw_evaluation(evaluation.streams[0], tmp_path / "plots")
    assert [path.name for path in paths] == ["walk-reliability.png", "walk-confusion.png"]
    for path in paths:
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) > 5000
