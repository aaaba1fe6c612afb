"""Evaluation: every figure against a slow computation, a hand-computed case or torchmetrics, and the command."""

import json
from statistics import NormalDist

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is missing: install the training extra")
functional = pytest.importorskip(
    "torchmetrics.functional.classification", reason="torchmetrics is missing: install the training extra"
)

from seg_node.core.bundle import load_bundle  # noqa: E402
from seg_node.core.metrics import category_scores, confusion_matrix, scores  # noqa: E402
from seg_node.core.taxonomy import CATEGORY_NAMES, NO_LABEL, Category  # noqa: E402
from seg_training import quality  # noqa: E402
from seg_training.__main__ import main  # noqa: E402
from seg_training.datasets.camvid import CLASSES  # noqa: E402
from seg_training.evaluate import evaluate, observe, table  # noqa: E402
from seg_training.evaluation_plots import comparison  # noqa: E402
from seg_training.quality import (  # noqa: E402
    Observations,
    border_f1,
    confidence_counts,
    draws,
    expected_calibration_error,
    image_scores,
    intervals,
    reliability,
    summarise,
)


def _random_masks(seed=0, shape=(40, 50)):
    """Truth with void, pixels without label and no human; a prediction that is right at about half of the pixels."""
    rng = np.random.default_rng(seed)
    truth = rng.choice([0, 1, 2, 3, 4, 5, 7, NO_LABEL], shape).astype(np.uint8)
    prediction = np.where(rng.random(shape) < 0.5, truth, rng.choice([0, 1, 2, 3, 4, 5, 7], shape)).astype(np.uint8)
    prediction[truth == NO_LABEL] = Category.FLAT
    return truth, prediction


@pytest.mark.parametrize(
    ("key", "reference"),
    [
        ("iou", "multiclass_jaccard_index"),
        ("precision", "multiclass_precision"),
        ("recall", "multiclass_recall"),
        ("f1", "multiclass_f1_score"),
    ],
)
def test_category_scores_are_those_of_torchmetrics(key, reference):
    truth, prediction = _random_masks()
    found = category_scores(confusion_matrix(truth, prediction))[key]

    def theirs(truth):
        tensors = (torch.tensor(mask.astype(np.int64)) for mask in (prediction, truth))
        score = getattr(functional, reference)
        return 100 * score(*tensors, num_classes=8, average="none", ignore_index=NO_LABEL).numpy()

    assert np.isnan(found[Category.HUMAN])
    others = [category for category in Category if category not in (Category.VOID, Category.HUMAN)]
    # Pixels whose truth is void count for void alone.
    without_void = np.where(truth == Category.VOID, NO_LABEL, truth)
    assert found[others] == pytest.approx(theirs(without_void)[others], rel=1e-5)
    assert found[Category.VOID] == pytest.approx(theirs(truth)[Category.VOID], rel=1e-5)


def test_category_scores_of_a_hand_computed_case():
    """Of four sky pixels three are found, the fourth is called nature; one void pixel is called sky."""
    truth = np.array([5, 5, 5, 5, 0], np.uint8)
    found = category_scores(confusion_matrix(truth, np.array([5, 5, 5, 4, 5], np.uint8)))
    of_sky = {name: values[Category.SKY] for name, values in found.items()}
    assert of_sky == pytest.approx({"iou": 75, "precision": 100, "recall": 75, "f1": 100 * 6 / 7})
    assert found["precision"][Category.NATURE] == found["iou"][Category.NATURE] == 0
    assert np.isnan(found["recall"][Category.NATURE])
    assert found["recall"][Category.VOID] == 0
    assert np.isnan(found["f1"][Category.FLAT])


def test_category_scores_of_several_matrices_at_once():
    matrices = np.stack([confusion_matrix(*_random_masks(seed)) for seed in range(3)])
    together = category_scores(matrices)
    for index, matrix in enumerate(matrices):
        for name, values in category_scores(matrix).items():
            assert np.array_equal(values, together[name][index], equal_nan=True)


def _slow_border_f1(truth, prediction, category, tolerance):
    height, width = truth.shape
    counted = (truth != NO_LABEL) & (truth != Category.VOID)

    def border(mask):
        for row, column in np.argwhere((mask == category) & counted):
            sides = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
            inside = [(r, c) for r, c in sides if 0 <= r < height and 0 <= c < width and counted[r, c]]
            if any(mask[r, c] != category for r, c in inside):
                yield row, column

    def share_near(these, others):
        near = [any(np.hypot(r - q, c - d) < tolerance for q, d in others) for r, c in these]
        return np.mean(near) if near else 0.0

    there, found = list(border(truth)), list(border(prediction))
    if not there and not found:
        return np.nan
    precision, recall = share_near(found, there), share_near(there, found)
    return 100 * 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize("seed", range(4))
def test_border_f1_is_what_its_definition_says(seed, monkeypatch):
    monkeypatch.setattr(quality, "BORDER_TOLERANCE", 0.06)
    rng = np.random.default_rng(seed)
    coarse = rng.choice([0, 1, 2, 3, 5, NO_LABEL], (5, 7), p=[0.1, 0.4, 0.2, 0.1, 0.1, 0.1])
    truth = cv2.resize(coarse.astype(np.uint8), (28, 20), interpolation=cv2.INTER_NEAREST)
    prediction = np.roll(np.where(truth == NO_LABEL, Category.FLAT, truth), (1, 2), (0, 1)).astype(np.uint8)
    prediction[3:6, 3:9] = Category.VEHICLE
    found = border_f1(truth, prediction)
    assert np.isnan(found[Category.VOID])
    assert 0 < np.nanmean(found) < 100
    for category in range(1, 8):
        slow = _slow_border_f1(truth, prediction, category, 0.06 * np.hypot(20, 28))
        assert found[category] == pytest.approx(slow, nan_ok=True)


def test_border_f1_of_hand_computed_cases():
    """A border that is three pixels off lies within the tolerance of 0.75 % of 500 pixels, one four off does not."""
    truth = np.full((300, 400), Category.SKY, np.uint8)
    truth[100:] = Category.FLAT
    found = {}
    for shift in (0, 3, 4):
        prediction = np.full((300, 400), Category.SKY, np.uint8)
        prediction[100 + shift :] = Category.FLAT
        found[shift] = border_f1(truth, prediction)
        assert np.isnan(found[shift][[0, 2, 3, 4, 6, 7]]).all()
    assert found[0][Category.FLAT] == found[3][Category.FLAT] == 100
    assert found[4][Category.FLAT] == 0
    # A square of flat in the middle of the sky that is not there: its border, 36 pixels inside and 40 outside, is
    # wrong, and all 400 pixels of the true border are found.
    prediction = truth.copy()
    prediction[40:50, 200:210] = Category.FLAT
    wrong_of_flat, wrong_of_sky = 36, 40
    found = border_f1(truth, prediction)
    for category, wrong in ((Category.FLAT, wrong_of_flat), (Category.SKY, wrong_of_sky)):
        precision = 400 / (400 + wrong)
        assert found[category] == pytest.approx(100 * 2 * precision / (precision + 1))


def test_borders_of_what_is_not_labelled_do_not_count():
    truth = np.full((30, 40), Category.SKY, np.uint8)
    truth[:, 20:] = NO_LABEL
    prediction = np.full((30, 40), Category.SKY, np.uint8)
    prediction[:, 20:] = Category.FLAT
    assert np.isnan(border_f1(truth, prediction)).all()
    truth[:, 20:] = Category.VOID
    assert np.isnan(border_f1(truth, prediction)).all()


def test_confidence_counts():
    truth = np.array([[Category.SKY, Category.SKY, Category.FLAT, Category.VOID, NO_LABEL]], np.uint8)
    prediction = np.array([[Category.SKY, Category.FLAT, Category.FLAT, Category.VOID, Category.SKY]], np.uint8)
    counts = confidence_counts(truth, prediction, np.array([[255, 100, 100, 7, 8]], np.uint8))
    assert counts.sum() == 3
    assert counts[255].tolist() == [0, 1]
    assert counts[100].tolist() == [1, 1]


def _confident_pixels(seed=0, count=5000):
    """uint8 confidences and whether each pixel is right, of an overconfident network."""
    rng = np.random.default_rng(seed)
    confidence = rng.integers(32, 256, count).astype(np.uint8)
    return confidence, rng.random(count) < (confidence / 255) ** 1.5


def _counts(confidence, right):
    truth = np.where(right, Category.SKY, Category.FLAT).astype(np.uint8)
    return confidence_counts(truth, np.full_like(truth, Category.SKY), confidence)


def test_calibration_error_is_what_its_definition_says():
    confidence, right = _confident_pixels()
    expected = 0.0
    for m in range(1, 16):
        # Guo et al.: I_m = ((m - 1) / M, m / M], here times 255 so that the edges are whole numbers.
        inside = (confidence > (m - 1) * 17) & (confidence <= m * 17)
        if inside.any():
            gap = abs(right[inside].mean() - (confidence[inside] / 255.0).mean())
            expected += inside.sum() / len(confidence) * gap
    diagram = reliability(_counts(confidence, right))
    assert expected_calibration_error(diagram) == pytest.approx(100 * expected)
    assert diagram["pixels"].sum() == len(confidence)


def test_calibration_error_is_that_of_torchmetrics():
    confidence, right = _confident_pixels()
    # On the edge between two bins the two differ: theirs are closed below.
    inside = confidence % 17 != 0
    confidence, right = confidence[inside], right[inside]
    reference = functional.binary_calibration_error(
        torch.tensor(confidence / 255.0), torch.tensor(right.astype(np.int64)), n_bins=15, norm="l1"
    )
    assert expected_calibration_error(reliability(_counts(confidence, right))) == pytest.approx(
        100 * reference.item(), rel=1e-5
    )


def test_calibration_of_a_hand_computed_case():
    """Ten pixels at 40 % confidence of which nine are right, and ten at 100 % that are all right."""
    confidence = np.repeat(np.uint8([102, 255]), 10)
    right = np.ones(20, bool)
    right[0] = False
    diagram = reliability(_counts(confidence, right))
    assert diagram["pixels"].nonzero()[0].tolist() == [5, 14]
    assert diagram["accuracy"][[5, 14]].tolist() == [90, 100]
    assert diagram["confidence"][[5, 14]].tolist() == [40, 100]
    assert expected_calibration_error(diagram) == pytest.approx((50 + 0) / 2)
    assert np.isnan(expected_calibration_error(reliability(np.zeros((256, 2), np.int64))))


def _matrices(count, seed=0):
    """Confusion matrices of images whose difficulty drifts, as that of a drive does; no human, little object."""
    rng = np.random.default_rng(seed)
    difficulty = 0.3 + 0.25 * np.sin(np.arange(count) / 6)
    matrices = []
    for hard in difficulty:
        truth = rng.choice([1, 2, 3, 4, 5, 7], 800, p=[0.4, 0.2, 0.01, 0.1, 0.2, 0.09]).astype(np.uint8)
        wrong = rng.random(800) < hard
        matrices.append(confusion_matrix(truth, np.where(wrong, Category.FLAT, truth).astype(np.uint8)))
    return np.stack(matrices)


@pytest.mark.parametrize("block", [1, 5])
def test_intervals_are_those_of_images_drawn_one_by_one(block, monkeypatch):
    monkeypatch.setattr(quality, "RESAMPLES", 200)
    matrices = _matrices(20)
    count = 20 // block
    miou, flat = [], []
    for drawn in draws(count):
        images = [b * block + i for b, times in enumerate(drawn) for _ in range(times) for i in range(block)]
        assert len(images) == 20
        result = scores(np.sum([matrices[image] for image in images], axis=0))
        miou.append(result["miou_7"])
        flat.append(result["iou"]["flat"])
    # Student's t at 0.975 for 19 and 3 degrees of freedom, from a table.
    width = {1: 2.0930, 5: 3.1824}[block] * np.sqrt(count / (count - 1))
    tail = NormalDist().cdf(-width)
    found, by_category = intervals(matrices, block)
    assert found == pytest.approx(np.quantile(miou, [tail, 1 - tail]), abs=0.02)
    assert by_category[Category.FLAT] == pytest.approx(np.quantile(flat, [tail, 1 - tail]), abs=0.02)
    assert by_category[Category.HUMAN] is None


def test_intervals_hold_the_figure_and_know_that_neighbours_are_alike():
    matrices = _matrices(100)
    miou = scores(matrices.sum(0))["miou_7"]
    single, blocks = (intervals(matrices, block)[0] for block in (1, 10))
    assert single[0] < miou < single[1]
    assert blocks[0] < miou < blocks[1]
    assert blocks[1] - blocks[0] > 1.5 * (single[1] - single[0])
    assert intervals(matrices, 10)[0] == blocks
    assert intervals(matrices[:5], 10) == (None, [None] * 8)


def test_image_scores():
    matrices = _matrices(4)
    assert image_scores(matrices) == pytest.approx([scores(matrix)["miou_7"] for matrix in matrices])
    assert np.isnan(image_scores(np.zeros((1, 8, 8), np.int64))).all()


class _Oracle:
    """An engine that reads the mask off the image and is sure of it to 80 %."""

    name = "oracle"

    def infer(self, bgr, confidence=False):
        mask = bgr[..., 0].copy()
        return mask, np.full(mask.shape, 204, np.uint8) if confidence else None


def _samples(count=4):
    for seed in range(count):
        truth, prediction = _random_masks(seed)
        yield np.repeat(prediction[..., None], 3, 2), truth


def test_observations_are_summed_up():
    observations = observe(_Oracle(), _samples())
    assert observations.confusion.shape == (4, 8, 8)
    whole = evaluate(lambda image: _Oracle().infer(image)[0], _samples(), progress=False)
    assert np.array_equal(observations.confusion.sum(0), whole)
    figures = summarise(observations, 1)
    assert json.loads(json.dumps(figures)) == figures
    assert figures["images"] == 4
    expected = scores(whole)
    for key in ("miou_7", "miou_8", "pixel_accuracy"):
        assert figures[key] == round(expected[key], 2)
    assert figures["ece"] == pytest.approx(abs(80 - expected["pixel_accuracy"]), abs=0.01)
    assert figures["confusion"] == whole.tolist()
    assert figures["iou"]["human"] is None is figures["f1"]["human"]
    borders = np.stack([border_f1(truth, image[..., 0]) for image, truth in _samples()])
    assert figures["boundary_f1"]["sky"] == round(borders[:, Category.SKY].mean(), 2)
    known = [value for name, value in figures["f1"].items() if name not in ("void", "human")]
    assert figures["mean_f1"] == pytest.approx(np.mean(known), abs=0.01)


def test_nothing_to_evaluate_on():
    with pytest.raises(ValueError, match="no image"):
        observe(_Oracle(), [])
    unlabelled = Observations(np.zeros((2, 8, 8), np.int64), np.full((2, 8), np.nan), np.zeros((256, 2), np.int64))
    figures = summarise(unlabelled, 1)
    assert figures["miou_7"] is figures["ece"] is figures["mean_f1"] is figures["miou_7_ci"] is None
    assert "miou_7                 -" in table("nothing", figures)
    assert "percent, without intervals: too little for two single images\n" in table("nothing", figures)


def test_a_table_without_intervals_says_why():
    figures = summarise(observe(_Oracle(), list(_samples())[:2]), 10)
    assert "percent, without intervals: too little for two blocks of 10 images, see --block\n" in table("few", figures)


def test_table():
    figures = summarise(observe(_Oracle(), _samples()), 1)
    lines = table("an oracle on noise", figures).splitlines()
    assert lines[0].startswith("an oracle on noise; percent, [95% bootstrap interval over single images]")
    low, high = figures["miou_7_ci"]
    assert f"{figures['miou_7']:.2f}  [{low:.2f}, {high:.2f}]" in lines[1]
    sky = next(line for line in lines if line.split()[0] == "sky").split()
    assert float(sky[1]) == figures["iou"]["sky"]
    assert [float(value) for value in sky[4:]] == [
        figures[key]["sky"] for key in ("precision", "recall", "f1", "boundary_f1")
    ]


def test_comparison_shows_errors_in_red():
    image = np.full((2, 3, 3), 200, np.uint8)
    truth = np.array([[5, 5, 1], [NO_LABEL, 1, 1]], np.uint8)
    prediction = np.array([[5, 1, 1], [1, 1, 1]], np.uint8)
    picture = comparison(image, truth, prediction)
    assert picture.shape == (2, 12, 3)
    assert picture[0, 10].tolist() == [0, 0, 255]
    assert picture[1, 9].tolist() == [255, 255, 255]
    assert picture[0, 9].tolist() == [100, 100, 100]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder laid out as CamVid: two drives in train, one in val."""
    root = tmp_path_factory.mktemp("camvid")
    names = list(CLASSES)
    for split, drives in (("train", ("one", "two")), ("val", ("three",))):
        for kind in ("images", "labels"):
            (root / split / kind).mkdir(parents=True)
        for drive in drives:
            for number in range(3):
                label = np.full((64, 96), names.index("sky"), np.uint8)
                label[30 + number :] = names.index("road")
                label[:, :2] = names.index("unlabelled")
                image = np.repeat(label[..., None] * 40, 3, 2)
                cv2.imwrite(str(root / split / "images" / f"{drive}_{number}.png"), image)
                cv2.imwrite(str(root / split / "labels" / f"{drive}_{number}.png"), label)
    return root


def test_command(data, tmp_path, capsys):
    plots = tmp_path / "plots"
    options = ["--split", "val", "--json", "--block", "1", "--plots", str(plots)]
    assert main(["evaluate", "fpn_resnet50", "--data", str(data), *options]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["images"] == 3
    assert figures["engine"] == "onnxruntime"
    assert "CamVid val" in figures["data"]
    assert set(figures["iou"]) == set(CATEGORY_NAMES)
    assert figures["miou_7_ci"][0] <= figures["miou_7"] <= figures["miou_7_ci"][1]
    assert np.sum(figures["confusion"]) == 3 * 64 * 94
    assert sum(figures["reliability"]["pixels"]) == 3 * 64 * 94
    written = sorted(file.name for file in plots.iterdir())
    assert written == ["confusion.png", "reliability.png", "worst_1.jpg", "worst_2.jpg", "worst_3.jpg"]
    assert cv2.imread(str(plots / "worst_1.jpg")).shape == (64, 4 * 96, 3)
    assert cv2.imread(str(plots / "confusion.png")).std() > 10


def test_command_on_drives_of_train(data, capsys):
    assert main(["evaluate", "fpn_resnet50", "--data", str(data), "--drives", "two", "--block", "1"]) == 0
    out = capsys.readouterr().out
    assert "fpn_resnet50 on CamVid train, drive two only (3 images), onnxruntime fp32; percent" in out
    assert "miou_7" in out


def test_command_on_some_images(data, tmp_path, capsys):
    options = ["--data", str(data), "--split", "val", "--every", "2", "--block", "1"]
    assert main(["evaluate", "fpn_resnet50", *options, "--plots", str(tmp_path)]) == 0
    assert "(3 images), one in 2 of them, onnxruntime fp32; percent" in capsys.readouterr().out
    assert len(list(tmp_path.glob("worst_*.jpg"))) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--drives", "four"], "expected a list of drives"),
        (["--split", "test"], "test"),
        (["--every", "0"], "--every is 0; give a number of images, at least 1"),
        (["--block", "0"], "--block is 0; give a number of images, at least 1"),
        (["--dataset", "camvit"], "unknown dataset 'camvit'; there are camvid"),
    ],
)
def test_command_refusals(data, capsys, options, message):
    assert main(["evaluate", "fpn_resnet50", "--data", str(data), *options]) == 2
    assert message in capsys.readouterr().err


FIGURES = ("miou_7", "miou_8", "pixel_accuracy")
EVERY_8TH = {"fpn_convnextv2": (80.78, 70.68, 95.94), "fpn_resnet50": (82.74, 82.74, 96.33)}
"""What ``evaluate MODEL --every 8 --block 1`` printed when the manifests' figures, those of every image, were right."""


@pytest.mark.parametrize("model", EVERY_8TH)
@pytest.mark.parametrize("every", [8, 1])
def test_shipped_metrics(data_dir, model, every, request, capsys):
    """The manifest's figures on CamVid val are those that the documented command prints."""
    if every == 1 and not request.config.getoption("--whole"):
        pytest.skip("all 101 images take minutes: pytest --whole")
    options = ["--split", "val", "--every", str(every), "--block", "1", "--json"]
    assert main(["evaluate", model, "--data", str(data_dir / "camvid"), *options]) == 0
    printed = json.loads(capsys.readouterr().out)
    shipped = load_bundle(model).manifest.metrics["camvid_val"]
    images, figures = (101, [shipped[name] for name in FIGURES]) if every == 1 else (13, EVERY_8TH[model])
    assert printed["images"] == images
    assert shipped["images"] == 101
    # Another processor rounds some sums differently, which moves a few pixels in a million.
    assert [printed[name] for name in FIGURES] == pytest.approx(figures, abs=0.05)
