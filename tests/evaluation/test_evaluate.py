"""Evaluating a real, small model on photos of dark spots whose masks are known."""

import csv
import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_skinseg.datasets.dataset import Case
from napari_skinseg.errors import BadInput, Cancelled
from napari_skinseg.evaluation.click_curves import CURVES
from napari_skinseg.evaluation.evaluate import EvaluateOptions, evaluate, evaluate_many
from napari_skinseg.evaluation.result_files import write_results, write_table
from napari_skinseg.evaluation.tables import as_text
from napari_skinseg.models import bundle, network
from napari_skinseg.pixels.cleaning import CleanUp
from napari_skinseg.pixels.mask import read_mask, write_mask
from napari_skinseg.pixels.metrics import agreement, dice
from napari_skinseg.segmentation.options import SegmentOptions
from napari_skinseg.segmentation.segmenter import Segmenter

QUICK = EvaluateOptions(bootstrap=200)


@pytest.fixture
def cases(photos) -> list[Case]:
    """The three photos with their true masks, in two sources."""
    found = []
    for photo, truth in photos.items():
        write_mask(photo.with_name(f"{photo.stem}_segmentation.png"), truth)
        source = photo.parent.name
        mask = photo.with_name(f"{photo.stem}_segmentation.png")
        found.append(Case(f"{source}/{photo.stem}", photo, mask, source=source, split="test", diagnosis="nv"))
    return found


def test_every_photo_is_evaluated_with_the_mask_that_a_user_gets(spot_finder, cases):
    evaluation = evaluate(spot_finder, cases, QUICK)
    segmenter = Segmenter(spot_finder)
    for case, result in zip(cases, evaluation.results, strict=True):
        truth = read_mask(case.mask)
        answer = segmenter.segment(np.asarray(Image.open(case.image)))
        assert result.agreement == agreement(answer.mask, truth)
        assert result.confidence == pytest.approx(answer.confidence, abs=1e-4)
        assert (result.id, result.source, result.diagnosis) == (case.id, case.source, "nv")
        assert (result.height, result.width) == truth.shape
        assert result.lesion_fraction == truth.mean()
        assert result.seconds > 0
    assert evaluation.summary.dice.mean > 0.9
    assert evaluation.summary.dice.mean == pytest.approx(np.mean([r.agreement.dice for r in evaluation.results]))


def test_the_header_names_data_model_device_and_command(spot_finder, cases):
    header = evaluate(spot_finder, cases, QUICK).header
    assert header["data"] == "north (2), south (1)"
    assert (header["photos"], header["split"]) == (3, "test")
    assert header["resolution"] == "each photo's own, 160x120 to 240x200"
    assert header["model"] == "spot-finder 0.1.0"
    assert header["sha256"] == bundle.load(spot_finder).sha256
    assert header["device"]
    assert header["command"]


def test_datasets_are_summarised_separately_if_there_are_several(spot_finder, cases):
    evaluation = evaluate(spot_finder, cases, QUICK)
    assert {source: scores.photos for source, scores in evaluation.strata["dataset"].items()} == {
        "north": 2,
        "south": 1,
    }
    assert evaluation.strata["dataset"]["south"].dice.mean == evaluation.results[2].agreement.dice
    assert "dataset" not in evaluate(spot_finder, cases[:2], QUICK).strata


def test_segment_options_change_the_masks(spot_finder, cases):
    strict = replace(QUICK, segment=SegmentOptions(threshold=0.999, clean_up=CleanUp(smooth=0)))
    loose = replace(QUICK, segment=SegmentOptions(threshold=0.001, clean_up=CleanUp(smooth=0)))
    strict, loose = (evaluate(spot_finder, cases, options) for options in (strict, loose))
    assert strict.summary.jaccard.mean != loose.summary.jaccard.mean
    assert "threshold 0.999" in strict.header["mask"]


def test_an_empty_truth_is_a_failure_without_boundary_distance(spot_finder, cases):
    write_mask(cases[0].mask, np.zeros_like(read_mask(cases[0].mask)))
    evaluation = evaluate(spot_finder, cases, QUICK)
    result = evaluation.results[0]
    assert (result.agreement.dice, result.agreement.failure, result.agreement.hausdorff95_px) == (0, True, None)
    assert evaluation.summary.failure.mean == pytest.approx(1 / 3)
    assert evaluation.summary.hausdorff95_px.n == 2
    assert "1 not measured" in as_text(evaluation)


def test_unusable_cases_are_named_and_the_others_evaluated(spot_finder, cases, tmp_path):
    broken, small = tmp_path / "broken.png", tmp_path / "small_segmentation.png"
    broken.write_bytes(cases[0].image.read_bytes()[:200])
    write_mask(small, np.ones((10, 10), dtype=bool))
    bad = [
        replace(cases[0], image=broken),
        replace(cases[0], image=tmp_path / "gone.png"),
        replace(cases[0], mask=small),
        replace(cases[1], mask=None),
    ]
    evaluation = evaluate(spot_finder, [bad[0], cases[0], *bad[1:], cases[2]], QUICK)
    assert [result.id for result in evaluation.results] == [cases[0].id, cases[2].id]
    assert [photo for photo, _ in evaluation.left_out] == [case.image for case in bad]
    assert "no mask" in evaluation.left_out[3][1]
    assert evaluation.header["left out"] == 4
    text = as_text(evaluation)
    assert "Left out, 4" in text
    assert str(broken) in text


def test_an_evaluation_without_photos_is_refused_in_one_sentence(spot_finder, cases):
    with pytest.raises(BadInput, match="no photo to evaluate"):
        evaluate(spot_finder, [], QUICK)
    with pytest.raises(BadInput, match=r"None of the 1 photos could be used.*has no mask"):
        evaluate(spot_finder, [replace(cases[0], mask=None)], QUICK)


def test_the_table_and_the_report_can_be_read_back(spot_finder, cases, tmp_path):
    write_mask(cases[0].mask, np.zeros_like(read_mask(cases[0].mask)))
    evaluation = evaluate(spot_finder, cases, QUICK)
    write_results(evaluation, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "evaluation.csv",
        "evaluation.html",
        "evaluation.json",
    ]
    with (tmp_path / "out" / "evaluation.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [case.id for case in cases]
    assert [row["failure"] for row in rows] == ["true", "false", "false"]
    assert rows[0]["hausdorff95_px"] == ""
    assert float(rows[2]["dice"]) == pytest.approx(evaluation.results[2].agreement.dice, abs=1e-5)
    assert {row["sha256"] for row in rows} == {evaluation.header["sha256"]}
    report = json.loads((tmp_path / "out" / "evaluation.json").read_text(encoding="utf-8"))
    assert report == json.loads(json.dumps(evaluation.to_json()))
    assert report["summary"]["dice"]["mean"] == evaluation.summary.dice.mean


def test_text_has_all_figures_with_intervals(spot_finder, cases):
    evaluation = evaluate(spot_finder, cases, QUICK)
    text = as_text(evaluation)
    summary = evaluation.summary.dice
    assert f"{summary.mean:.3f} ± {summary.sd:.3f}" in text
    assert f"{summary.low:.3f} to {summary.high:.3f}" in text
    for words in (
        "Thresholded Jaccard",
        "Failures (Jaccard < 0.65)",
        "Hausdorff",
        "Pooled Dice at 256x256",
        "Confidence",
    ):
        assert words in text
    assert evaluation.header["sha256"] in text


def test_one_photo_has_no_standard_deviation_and_no_correlation(spot_finder, cases):
    evaluation = evaluate(spot_finder, cases[:1], QUICK)
    assert (evaluation.summary.dice.sd, evaluation.summary.confidence_correlation) == (None, None)
    assert "± –" in as_text(evaluation)


def test_pooled_dice_is_the_dice_of_all_pixels_together(spot_finder, cases):
    pooled = evaluate(spot_finder, cases, QUICK).summary.pooled_dice_256
    segmenter = Segmenter(spot_finder)
    masks, truths = [], []
    for case in cases:
        masks.append(_at_256(segmenter.segment(np.asarray(Image.open(case.image))).mask))
        truths.append(_at_256(read_mask(case.mask)))
    assert pooled == pytest.approx(dice(np.concatenate(masks), np.concatenate(truths)), abs=1e-9)


def test_progress_counts_every_case_and_cancel_stops_the_run(spot_finder, cases):
    events = []
    evaluate(spot_finder, cases, QUICK, events.append)
    assert [(event.done, event.total) for event in events] == [(1, 3), (2, 3), (3, 3)]
    assert all("dice" in event.values for event in events)
    token = threading.Event()
    with pytest.raises(Cancelled):
        evaluate(spot_finder, cases * 20, QUICK, lambda event: token.set(), token)


def test_the_batch_size_does_not_change_the_figures(spot_finder, cases):
    one, many = (evaluate(spot_finder, cases * 3, replace(QUICK, batch_size=size)) for size in (1, 5))
    assert [r.id for r in one.results] == [r.id for r in many.results]
    assert one.summary.jaccard.mean == pytest.approx(many.summary.jaccard.mean, abs=1e-3)


@pytest.fixture
def bare_case(bare_photo) -> Case:
    """A photo without a lesion, with an empty mask."""
    mask = bare_photo.with_name("bare_segmentation.png")
    write_mask(mask, np.zeros((100, 120), dtype=bool))
    return Case("bare", bare_photo, mask, source="north")


@pytest.fixture
def untrained(spot_finder, tmp_path) -> Path:
    """A model with the architecture of the spot finder and random weights."""
    import torch

    torch.manual_seed(0)
    spec = replace(bundle.load(spot_finder).spec, name="untrained")
    return bundle.save(tmp_path / "untrained", spec, network.build(spec.network, spec.network_arguments))


def test_a_photo_correctly_left_empty_is_counted_in_detection(spot_finder, cases, bare_case):
    without_specks = SegmentOptions(clean_up=CleanUp(min_area=0.005))
    evaluation = evaluate(spot_finder, [*cases, bare_case], replace(QUICK, segment=without_specks))
    assert evaluation.results[3].found_fraction == 0
    assert (evaluation.detection.without_lesion, evaluation.detection.left_empty.mean) == (1, 1.0)
    assert (evaluation.detection.with_lesion, evaluation.detection.missed.mean) == (3, 0.0)
    assert evaluation.strata["lesion's share of the frame"]["no lesion"].dice.mean == 1
    assert "correctly left empty" in as_text(evaluation)


def test_a_lesion_at_the_edge_of_the_frame_is_its_own_group(spot_finder, cases, spot, tmp_path):
    image, truth = spot(60, 155, 30, (120, 160))
    Image.fromarray(image).save(tmp_path / "cut.png")
    write_mask(tmp_path / "cut_segmentation.png", truth)
    cut = Case("cut", tmp_path / "cut.png", tmp_path / "cut_segmentation.png", source="north")
    evaluation = evaluate(spot_finder, [*cases, cut], QUICK)
    assert [result.touches_edge for result in evaluation.results] == [False, False, False, True]
    assert evaluation.strata["frame's edge"]["touches the edge"].photos == 1
    assert "touches the edge" in as_text(evaluation)


def test_clicks_start_from_the_evaluated_mask_and_are_in_the_table(spot_finder, cases, bare_case, tmp_path):
    evaluation = evaluate(spot_finder, [bare_case, *cases], replace(QUICK, clicks=2))
    assert list(evaluation.clicks) == list(CURVES)
    assert evaluation.results[0].clicks == {}, "a photo without a lesion gets no clicks"
    for result in evaluation.results[1:]:
        assert result.clicks["automatic_centre"][0] == result.agreement.jaccard
        assert result.clicks["nothing_jittered"][0] == 0
    curve = evaluation.clicks["automatic_jittered"]
    assert (curve.photos, len(curve.jaccard)) == (3, 3)
    assert "Mean clicks to a Jaccard" in as_text(evaluation)
    assert "up to 2" in evaluation.header["clicks"]
    write_table(evaluation, tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="", encoding="utf-8") as file:
        bare, *rows = csv.DictReader(file)
    assert bare["nothing_centre_2"] == ""
    assert float(rows[0]["nothing_centre_2"]) == pytest.approx(
        evaluation.results[1].clicks["nothing_centre"][2], abs=1e-5
    )
    assert json.loads(json.dumps(evaluation.to_json()))["clicks"]["nothing_centre"]["to"][0]["goal"] == 0.85


def test_the_batch_size_does_not_change_jittered_clicks(spot_finder, cases):
    one, many = (evaluate(spot_finder, cases, replace(QUICK, clicks=1, batch_size=size)).results for size in (1, 3))
    for a, b in zip(one, many, strict=True):
        assert a.clicks["nothing_jittered"] == pytest.approx(b.clicks["nothing_jittered"], abs=1e-3)


def test_several_models_are_compared_on_the_same_photos(spot_finder, untrained, cases, tmp_path):
    broken = replace(cases[0], image=tmp_path / "gone.png")
    events = []
    comparison = evaluate_many([spot_finder, untrained, spot_finder], [broken, *cases], QUICK, events.append)
    good, bad, _ = comparison.evaluations
    assert good.summary == evaluate(spot_finder, cases, QUICK).summary
    assert bad.header["model"] == "untrained 0.1.0"
    assert len(set(comparison.names)) == 3
    assert comparison.names[1] == "untrained 0.1.0"
    worse, same = comparison.differences
    assert worse["dice"].mean == pytest.approx(bad.summary.dice.mean - good.summary.dice.mean)
    assert worse["dice"].high < 0
    assert (same["dice"].mean, same["dice"].low, same["dice"].high) == (0, 0, 0)
    assert comparison.left_out == good.left_out == bad.left_out
    assert [(event.done, event.total) for event in events] == [(n, 12) for n in range(1, 13)]


def test_a_comparison_is_written_as_csv_json_and_text(spot_finder, untrained, cases, tmp_path):
    comparison = evaluate_many([spot_finder, untrained], cases, replace(QUICK, clicks=1))
    write_results(comparison, tmp_path / "out")
    with (tmp_path / "out" / "evaluation.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == ["spot-finder 0.1.0"] * 3 + ["untrained 0.1.0"] * 3
    document = json.loads((tmp_path / "out" / "evaluation.json").read_text(encoding="utf-8"))
    assert list(document["models"]) == list(comparison.names)
    (difference,) = document["differences"]
    assert (difference["model"], difference["minus"]) == ("untrained 0.1.0", "spot-finder 0.1.0")
    assert difference["figures"]["dice"]["mean"] == comparison.differences[0]["dice"].mean
    text = as_text(comparison)
    for words in (
        "untrained 0.1.0 minus spot-finder 0.1.0",
        "interval excludes 0",
        "Dice by dataset",
        "to 0.90",
        "sha256",
    ):
        assert words in text


def test_a_comparison_needs_a_model(cases):
    with pytest.raises(BadInput, match="no model to evaluate"):
        evaluate_many([], cases, QUICK)


@pytest.mark.parametrize(
    "options",
    [
        EvaluateOptions(clicks=-1),
        EvaluateOptions(clicks=21),
        EvaluateOptions(batch_size=0),
        EvaluateOptions(bootstrap=3),
        EvaluateOptions(seed=-1),
        EvaluateOptions(segment=SegmentOptions(threshold=2)),
    ],
)
def test_options_out_of_range_are_refused_before_anything_runs(options):
    with pytest.raises(BadInput):
        evaluate(Path("no-such-model"), [Case("a", Path("a.png"))], options)


def _at_256(mask):
    return np.asarray(Image.fromarray(mask).resize((256, 256), Image.Resampling.NEAREST))
