"""Each loss against a slow computation from its definition, and what all of them promise."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is missing: install the training extra")

from seg_node.core.taxonomy import NO_LABEL, Category  # noqa: E402
from seg_training.losses import LOSS_TERMS, Boundary, SparseLovasz, category_weights, make_loss  # noqa: E402

SHARES = np.array([0.01, 0.4, 0.25, 0.02, 0.1, 0.15, 0, 0.07])
SOFTNESS = 1.1


def _random_case(seed=0, size=(2, 9, 13)):
    """Logits and a patchy target with a sixth of the pixels ignored and the human category absent."""
    rng = np.random.default_rng(seed)
    images, height, width = size
    logits = rng.normal(0, 2, (images, 8, height, width)).astype(np.float32)
    patches = rng.choice([0, 1, 2, 3, 4, 5, 7], (images, height // 3 + 1, width // 3 + 1))
    target = patches.repeat(3, 1).repeat(3, 2)[:, :height, :width].copy()
    target[rng.random(target.shape) < 1 / 6] = NO_LABEL
    return logits, target


def _labelled(logits, target):
    """Softmax [P, 8] and category [P] of the labelled pixels, in float64."""
    pixels = np.moveaxis(logits.astype(np.float64), 1, -1)[target != NO_LABEL]
    softmax = np.exp(pixels) / np.exp(pixels).sum(1, keepdims=True)
    return softmax, target[target != NO_LABEL]


def _slow_cross_entropy(logits, target):
    softmax, true = _labelled(logits, target)
    return np.mean([-np.log(p[category]) for p, category in zip(softmax, true, strict=True)])


def _slow_weighted_cross_entropy(logits, target):
    softmax, true = _labelled(logits, target)
    weight = [1 / np.log(SOFTNESS + SHARES[category]) for category in true]
    return np.average([-np.log(p[category]) for p, category in zip(softmax, true, strict=True)], weights=weight)


def _slow_dice(logits, target):
    softmax, true = _labelled(logits, target)
    total = 0.0
    for category in np.unique(true):
        p, y = softmax[:, category], (true == category).astype(float)
        # The intersection of soft sets is their minimum, which for a hard y is p y.
        total += 1 - 2 * np.minimum(p, y).sum() / (p.sum() + y.sum())
    return total / 8


def _slow_focal(logits, target):
    softmax, true = _labelled(logits, target)
    return np.mean([-((1 - p[c]) ** 2) * np.log(p[c]) for p, c in zip(softmax, true, strict=True)])


def _slow_lovasz(logits, target):
    """Lovasz extension of the Jaccard loss of each set of mispredicted pixels, from its definition.

    For errors m sorted downwards it is sum m_i (loss({1..i}) - loss({1..i-1})), where loss(M) is 1 - IoU of the truth
    with the truth in which the pixels of M are flipped. Every second row and column counts.
    """
    softmax, true = _labelled(logits[..., ::2, ::2], target[..., ::2, ::2])
    losses = []
    for category in np.unique(true):
        truth = true == category
        errors = np.where(truth, 1 - softmax[:, category], softmax[:, category])
        flipped, before, total = truth.copy(), 0.0, 0.0
        for i in sorted(range(len(errors)), key=lambda i: -errors[i]):
            flipped[i] = not truth[i]
            jaccard_loss = 1 - (truth & flipped).sum() / (truth | flipped).sum()
            total += errors[i] * (jaccard_loss - before)
            before = jaccard_loss
        losses.append(total)
    return np.mean(losses)


def _slow_ohem(logits, target):
    softmax, true = _labelled(logits, target)
    probability = sorted(p[c] for p, c in zip(softmax, true, strict=True))
    hard = [p for p in probability if p < 0.7]
    return np.mean(-np.log(hard if len(hard) >= len(true) // 16 else probability[: len(true) // 16]))


def _near_border(target, radius=2):
    """By comparing every pixel with every other one."""
    near = np.zeros(target.shape, bool)
    for n, row, column in np.argwhere(target != NO_LABEL):
        for other_row, other_column in np.argwhere((target[n] != NO_LABEL) & (target[n] != target[n, row, column])):
            near[n, row, column] |= max(abs(row - other_row), abs(column - other_column)) <= radius
    return near


def _slow_boundary(logits, target):
    return _slow_cross_entropy(logits, np.where(_near_border(target), target, NO_LABEL))


SLOW = {
    "cross_entropy": _slow_cross_entropy,
    "weighted_cross_entropy": _slow_weighted_cross_entropy,
    "dice": _slow_dice,
    "focal": _slow_focal,
    "lovasz": _slow_lovasz,
    "ohem": _slow_ohem,
    "boundary": _slow_boundary,
}


def _loss(terms, logits, target):
    return make_loss(terms, SHARES, SOFTNESS)(logits, target)


@pytest.mark.parametrize("term", LOSS_TERMS)
@pytest.mark.parametrize("seed", range(3))
def test_loss_is_what_its_definition_says(term, seed):
    logits, target = _random_case(seed)
    assert _loss({term: 1.0}, torch.tensor(logits), torch.tensor(target)).item() == pytest.approx(
        SLOW[term](logits, target), rel=1e-5
    )


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        ("cross_entropy", np.log(2)),
        ("weighted_cross_entropy", np.log(2)),
        # Of the one category that is there, over eight.
        ("dice", (1 - 2 * 0.5 / (0.5 + 1)) / 8),
        ("focal", 0.5**2 * np.log(2)),
        # The one error is 1/2, and the pixel is all of the category.
        ("lovasz", 0.5),
        ("ohem", np.log(2)),
        # A single labelled pixel has no border.
        ("boundary", 0.0),
    ],
)
def test_loss_of_a_hand_computed_case(term, expected):
    """Two pixels, of which the second is ignored; the first is flat with probability 1/2, as is construction."""
    logits = torch.full((1, 8, 1, 2), -30.0)
    logits[0, [Category.FLAT, Category.CONSTRUCTION]] = 0.0
    target = torch.tensor([[[Category.FLAT, NO_LABEL]]])
    assert _loss({term: 1.0}, logits, target).item() == pytest.approx(expected, abs=1e-4)


def test_ohem_keeps_the_hardest_where_all_are_easy():
    """32 pixels, all surer than 0.7: the two hardest count."""
    truth_logits = torch.linspace(5, 8.1, 32)
    logits = torch.zeros(1, 8, 4, 8)
    logits[0, 1] = truth_logits.reshape(4, 8)
    expected = np.mean([np.log(1 + 7 * np.exp(-float(x))) for x in truth_logits[:2]])
    assert _loss({"ohem": 1.0}, logits, torch.ones(1, 4, 8, dtype=torch.int64)).item() == pytest.approx(
        expected, rel=1e-4
    )


def test_near_border():
    """Two columns on each side of a border; pixels without label neither make one nor hide one."""
    target = torch.full((1, 3, 12), int(Category.FLAT))
    target[..., 6:] = Category.SKY
    assert Boundary().near_border(target)[0, 0].nonzero().ravel().tolist() == [4, 5, 6, 7]
    target[..., 6] = NO_LABEL
    assert Boundary().near_border(target)[0, 0].nonzero().ravel().tolist() == [5, 7]
    target[..., 7:] = NO_LABEL
    assert not Boundary().near_border(target).any()


def test_lovasz_of_every_pixel():
    """Four pixels of two categories, by hand.

    Category 1 has the errors 0.4 (its own), 0.3 (the other's), 0.2 (its own), 0.1 (the other's) in this order: 1 - IoU
    grows to 1/2, 1 - 1/3, 1 and 1. Category 2 has the same errors, of the opposite pixels.
    """
    probability = torch.tensor([0.6, 0.3, 0.8, 0.1])
    logits = torch.full((1, 8, 1, 4), -30.0)
    logits[0, 1, 0], logits[0, 2, 0] = probability.log(), (1 - probability).log()
    one = 0.4 * 1 / 2 + 0.3 * (2 / 3 - 1 / 2) + 0.2 * (1 - 2 / 3)
    two = 0.4 * 1 / 3 + 0.3 * (2 / 3 - 1 / 3) + 0.2 * (3 / 4 - 2 / 3) + 0.1 * (1 - 3 / 4)
    assert SparseLovasz(1)(logits, torch.tensor([[[1, 2, 1, 2]]])).item() == pytest.approx((one + two) / 2)


def test_terms_are_weighted_and_added():
    logits, target = (torch.tensor(array) for array in _random_case())
    terms = dict(zip(LOSS_TERMS, (1, 0.5, 2, 0.25, 3.0, 0.1, 0.7), strict=True))
    single = {name: _loss({name: 1}, logits, target).item() for name in terms}
    assert _loss(terms, logits, target).item() == pytest.approx(sum(w * single[n] for n, w in terms.items()))


@pytest.mark.parametrize("term", LOSS_TERMS)
def test_ignored_pixels_do_not_exist(term):
    """Whatever the network says there, loss and gradient stay the same, and there is no gradient."""
    first, target = _random_case()
    ignored = np.broadcast_to((target == NO_LABEL)[:, None], first.shape)
    second = np.where(ignored, np.random.default_rng(9).normal(0, 50, first.shape), first).astype(np.float32)
    results = []
    for array in (first, second):
        logits = torch.tensor(array, requires_grad=True)
        loss = _loss({term: 1.0}, logits, torch.tensor(target))
        loss.backward()
        results.append((loss.item(), logits.grad))
    assert results[0][0] == results[1][0]
    assert torch.equal(results[0][1], results[1][1])
    assert not results[0][1].numpy()[ignored].any()
    assert results[0][1].abs().sum() > 0


@pytest.mark.parametrize("term", LOSS_TERMS)
def test_batch_without_labels_costs_nothing(term):
    logits = torch.randn(2, 8, 5, 7, requires_grad=True)
    loss = _loss({term: 1.0}, logits, torch.full((2, 5, 7), NO_LABEL))
    loss.backward()
    assert loss.shape == ()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("term", LOSS_TERMS)
@pytest.mark.parametrize("scale", [0.0, 1.0, 1000.0])
def test_gradients_are_finite(term, scale):
    """At the start of a run, in its middle, and where a network is as sure as it is wrong."""
    logits, target = _random_case()
    logits = torch.tensor(logits * scale, requires_grad=True)
    loss = _loss({term: 1.0}, logits, torch.tensor(target))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("term", LOSS_TERMS)
def test_gradient_is_the_slope(term):
    """Against central differences in random directions."""
    logits, target = _random_case()
    tensor = torch.tensor(logits, requires_grad=True)
    _loss({term: 1.0}, tensor, torch.tensor(target)).backward()
    gradient = tensor.grad.double().numpy()
    for step in np.random.default_rng(5).normal(0, 1e-7, (2, *logits.shape)):
        slope = (SLOW[term](logits + step, target) - SLOW[term](logits - step, target)) / 2
        # Relative to what a step in the direction of the gradient would change.
        assert (gradient * step).sum() == pytest.approx(slope, abs=1e-3 * 1e-7 * np.linalg.norm(gradient))


@pytest.mark.parametrize("term", LOSS_TERMS)
def test_loss_is_computed_in_float32(term):
    """Also within autocast, of half precision logits."""
    logits, target = _random_case()
    half = torch.tensor(logits).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = _loss({term: 1.0}, half, torch.tensor(target))
    assert loss.dtype == torch.float32
    assert loss.item() == _loss({term: 1.0}, half.float(), torch.tensor(target)).item()


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({}, "names no terms; choose from cross_entropy, weighted_cross_entropy, dice"),
        ({"cross_entropy": 1.0, "dise": 1.0}, "unknown loss 'dise'; choose from cross_entropy"),
        ({"focal": 0}, "weight of loss focal is 0; give a number above 0"),
        ({"focal": "much"}, "weight of loss focal is 'much'"),
        ({"focal": float("nan")}, "weight of loss focal is nan"),
    ],
)
def test_refusals(terms, message):
    with pytest.raises(ValueError, match=message):
        make_loss(terms, SHARES, SOFTNESS)


def test_category_weights():
    shares = np.array([0, 0.5, 0.5, 0, 0, 0, 0, 0])
    weights = category_weights(shares, 1.1)
    assert weights.tolist() == pytest.approx([1] * 8)
    uneven = category_weights(np.array([0, 0.9, 0.1, 0, 0, 0, 0, 0]), 1.1)
    assert uneven[2] / uneven[1] == pytest.approx(np.log(2.0) / np.log(1.2))
    assert 0.9 * uneven[1] + 0.1 * uneven[2] == pytest.approx(1)
    with pytest.raises(ValueError, match="softness"):
        category_weights(shares, 1.0)
