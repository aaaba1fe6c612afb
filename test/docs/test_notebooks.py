"""The notebooks run from top to bottom, and tell what the shipped result files say."""

import json

import numpy as np
import pytest
from helpers.paths import ROOT
from late_masks import late_masks

from seg_node.bags.drive import Frame
from seg_node.core.images import RawPixels

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.py"))


@pytest.fixture(scope="module")
def comparison():
    return json.loads((ROOT / "docs" / "results" / "comparison.json").read_text())


@pytest.fixture(scope="module")
def client():
    """Runs all notebooks in one kernel, for importing torch takes longer than most of them."""
    pytest.importorskip("ipykernel")
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    where = {"metadata": {"path": str(ROOT / "docs" / "notebooks")}}
    client = nbclient.NotebookClient(nbformat.v4.new_notebook(), timeout=600, kernel_name="python3", resources=where)
    with client.setup_kernel(cwd=where["metadata"]["path"]):
        yield client


def _run(path, client):
    """The cells of a notebook after they have run, without what another one has defined."""
    jupytext, nbformat = pytest.importorskip("jupytext"), pytest.importorskip("nbformat")
    if "seg_training" in path.read_text():
        pytest.importorskip("torch", reason="training is not installed")
    notebook = jupytext.read(path)
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs are made, not kept"
    notebook.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))
    client.nb = notebook
    return client.execute(cleanup_kc=False).cells[1:]


def _outputs(cells, kind):
    return [out["data"][kind] for cell in cells for out in cell.get("outputs", []) if kind in out.get("data", {})]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(path, comparison, client):
    cells = _run(path, client)
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert cells[0].source.startswith("# ") and len(cells) - len(code) > len(code) / 2, "it explains what it does"
    said = "\n".join(_outputs(cells, "text/markdown"))
    assert _outputs(cells, "image/svg+xml") and "| " in said
    study = ROOT / "docs" / "results" / "studies" / path.stem.removesuffix("_study") / "results.json"
    if study.exists():
        for rows in json.loads(study.read_text())["summary"].values():
            for variant, row in rows.items():
                assert f"| {variant} | {row['miou_7']['mean']:.1f}" in said
    elif path.stem == "models":
        assert comparison["decision"]["sentence"] in said
    else:
        [whole] = [gain for gain in comparison["gains"] if gain["name"] == "miou_7" and gain["estimate"] is not None]
        assert f"| miou_7 | {whole['mask']:.1f} |" in said and f" | {whole['mask_now']:.1f} |" in said


def test_every_notebook_is_one_of_the_four():
    assert [path.stem for path in NOTEBOOKS] == ["augmentation_study", "loss_study", "models", "streaming_gap"]


def _scene(steps, speed=8):
    """A textured world that moves to the left, and its mask: a bright block in front of what is dark."""
    rng = np.random.default_rng(1)
    texture = np.kron(rng.integers(40, 110, (24, 80), np.uint8), np.ones((8, 8), np.uint8))
    texture[60:140, 260:380] += 120
    for step in range(steps):
        grey = texture[:, 8 + step * speed :][:, :480]
        image = np.repeat(grey[..., None], 3, 2)
        yield Frame(0, step * 33_000_000, "camera", RawPixels(*grey.shape, "bgr8", 0, 3 * 480, image.tobytes()))


def _bright(image):
    return np.where(image[..., 0] > 150, 7, 1).astype(np.uint8)


@pytest.mark.parametrize("periods", [1, 2, 3])
def test_late_masks_are_as_late_as_the_inference_lasts(periods):
    asked = []

    def infer(image):
        asked.append(len(asked))
        return _bright(image)

    frames = list(_scene(12))
    shown = list(late_masks(frames, infer, periods))
    assert [late.frame for late in shown] == list(range(periods, 12))
    assert len(asked) == len(range(0, 12, periods)), "what is skipped is not inferred"
    for late in shown:
        assert late.inferred == late.frame // periods * periods - periods
        truth = _bright(late.image)
        assert (late.now != truth).mean() < 0.4 * (late.mask != truth).mean()
        earlier = next((other for other in shown if other.frame == late.inferred), None)
        assert earlier is None or (late.mask == _bright(earlier.image)).all()
