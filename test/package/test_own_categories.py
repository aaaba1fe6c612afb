"""A model of twelve categories of a user's own: what masks, draws, serves and shows it takes its names and colours."""

import copy
import importlib.util
import itertools
import json
import sys
import time
import urllib.request
from threading import Thread

import cv2
import numpy as np
import pytest
import yaml
from helpers.blue_bundle import blue_bundle
from helpers.paths import ROOT
from helpers.peer import Peer
from helpers.twelve import SIZE, TWELVE, labelled_folder, twelve_bundle, twelve_config, twelve_scene

from seg_node.__main__ import main
from seg_node.core.bundle import load_bundle
from seg_node.core.engines import create_engine
from seg_node.core.overlay import annotate, paint
from seg_node.core.taxonomy import EIGHT, Taxonomy, colorize

NODE = "/own/segmentation"


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    return twelve_bundle(tmp_path_factory.mktemp("imported"))


@pytest.fixture(scope="module")
def run(imported, tmp_path_factory):
    """Folder of a training of a few steps on what the imported network has labelled."""
    pytest.importorskip("torch", reason="torch is missing: install the training extra")
    from seg_training.__main__ import main as train

    folder = labelled_folder(tmp_path_factory.mktemp("data"), imported)
    assert train(["train", str(twelve_config(folder))]) == 0
    return folder / "runs" / "twelve"


@pytest.fixture(scope="module")
def bundle(imported, request, tmp_path_factory):
    """The trained network, scored on what it was trained on; where torch is missing, the imported one."""
    if not importlib.util.find_spec("torch"):
        return imported
    from seg_training.__main__ import main as train

    out, run = tmp_path_factory.mktemp("bundles") / "twelve", request.getfixturevalue("run")
    assert train(["export", str(run), str(out), "--precision", "fp32", "--data", str(run.parents[1])]) == 0
    return load_bundle(out)


@pytest.fixture(scope="module")
def engine(bundle):
    return create_engine(bundle, "onnxruntime")


def test_an_imported_network(imported):
    assert load_bundle(imported.path).manifest.taxonomy == TWELVE
    mask = create_engine(imported, "onnxruntime").infer(twelve_scene(1))[0]
    assert mask.max() == 11 and len(np.unique(mask)) >= 10
    assert (create_engine(imported, "openvino", precision="fp32").infer(twelve_scene(1))[0] == mask).mean() > 0.999


def test_a_trained_network(run, bundle, engine, capsys):
    from seg_training.__main__ import main as train

    manifest = bundle.manifest
    assert manifest.taxonomy == TWELVE and manifest.decoder == "fpn"
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    few = log[4]["val_few"][0]
    assert few.keys() == {"miou", "pixel_accuracy", "iou"} and tuple(few["iou"]) == TWELVE.names
    (figures,) = manifest.metrics.values()
    assert "miou_7" not in figures and "miou_8" not in figures and 0 < figures["miou"] < 100
    assert figures["miou"] == pytest.approx(np.mean([v for v in figures["iou"].values() if v is not None]), abs=0.01)
    assert np.shape(figures["confusion"]) == (12, 12) and np.sum(figures["confusion"]) == 12 * (96 * 128 - 64)
    recipe = manifest.training["recipes"][0]
    assert recipe["taxonomy"] == TWELVE.rows(), "a recipe is complete without the file"
    mask = engine.infer(twelve_scene(1))[0]
    assert len(np.unique(mask)) >= 4
    assert (create_engine(bundle, "torch", precision="fp32").infer(twelve_scene(1))[0] == mask).mean() > 0.99
    assert train(["card", str(bundle.path)]) == 0
    card = (bundle.path / "MODEL_CARD.md").read_text()
    assert "road, sidewalk, kerb" in card and f"| {figures['miou']:.1f} |" in card and "miou_7" not in card
    capsys.readouterr()
    assert train(["evaluate", str(bundle.path), "--dataset", "camvid", "--data", "nowhere"]) == 2
    assert "dataset camvid: its masks have the eight categories, not road, sidewalk" in capsys.readouterr().err


def test_a_training_that_does_not_fit_its_categories(run, imported, tmp_path, capsys):
    from seg_training.__main__ import main as train

    folder = run.parents[1]
    config = folder / "config.yaml"

    def refused(*overrides: str) -> str:
        capsys.readouterr()
        assert train(["train", str(config), f"runs={tmp_path}", *overrides]) == 2
        return capsys.readouterr().err

    assert "not void, flat, construction" in refused("taxonomy=")
    assert "has categories of its own (road, sidewalk" in refused("taxonomy=[{name: a, colour: [1, 2, 3]}]")
    assert "taxonomy: category 1 is 'a', and so is" in refused("taxonomy=[" + "{name: a, colour: [1, 2, 3]}," * 2 + "]")
    assert "expected name and colour" in refused("taxonomy=[{name: a}]")
    assert "taxonomy: is 0 entries" in refused("taxonomy=[]")
    assert "no_such.yaml" in refused("taxonomy=no_such.yaml")
    assert "lists no categories" in refused("taxonomy=config/labels/camvid_ids.yaml")
    assert "dataset synthetic: its masks have the eight" in refused("train.0={dataset: synthetic, seeds: [0, 2]}")
    capsys.readouterr()
    assert train(["train", str(config), "taxonomy.0.name=lane"]) == 2
    assert capsys.readouterr().err


def test_a_run_goes_on_from_one_of_other_categories(run):
    """All but the last layer are taken over."""
    import torch

    from seg_training.config import load_config
    from seg_training.run import averaged_weights
    from seg_training.train import start

    before = averaged_weights(run)
    for own, layers in (("", 12), ("taxonomy=", 8)):
        config = load_config(run / "config.yaml", [f"start_from={run}", *([own] if own else [])])
        state = start(config).state_dict()
        head = [name for name in state if name.startswith("fpn.segmentation_head.")]
        assert head and all(len(state[name]) == layers for name in head)
        assert all(torch.equal(state[name], before[name]) for name in state if name not in head)
        assert all(torch.equal(state[name], before[name]) for name in head) == (layers == 12)


@pytest.mark.parametrize("count", [1, 2, 12, 16, 17, 254])
def test_legends_of_any_number_of_categories(count):
    taxonomy = Taxonomy(tuple(f"c{n}" for n in range(count)), tuple((n + 1, 255 - n, 7) for n in range(count)))
    mask = np.random.default_rng(0).integers(0, count, (360, 640), dtype=np.uint8)
    mask[100:200], mask[200:] = 255, count - 1
    picture = np.full((*mask.shape, 3), 200, np.uint8)
    annotate(picture, "", mask, taxonomy)
    assert (picture[60:180] == 200).all(), "the legend leaves the middle alone"
    shown = [n for n, rgb in enumerate(taxonomy.palette) if (picture[180:] == rgb[::-1]).all(-1).sum() > 20]
    assert len(shown) == min(count, 16) and count - 1 in shown


@pytest.fixture(scope="module")
def ros_nodes(ros, bundle, tmp_path_factory):
    """A peer beside a segmentation node and an overlay node, for all tests of this module."""
    from seg_node.rig.node_process import NodeProcess

    folder = tmp_path_factory.mktemp("nodes")
    parameters = {"model": str(bundle.path), "engine": "onnxruntime", "warm_up_size": list(SIZE)}
    segmentation = NodeProcess(folder / "node.log", parameters, namespace="/own")
    command = [sys.executable, "-m", "seg_node", "overlay"]
    overlay = NodeProcess(folder / "overlay.log", {}, command=command, name="overlay", namespace="/own")
    peer = Peer(ros)
    try:
        segmentation.start()
        overlay.start()
        segmentation.wait_for("active", 180)
        yield peer
    finally:
        peer.close()
        for process in (segmentation, overlay):
            process.stop()


def _pixels(message) -> np.ndarray:
    return np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, -1)


def parameters(peer) -> tuple[tuple[str, ...], list[int]]:
    """Names and colours as the node tells them."""
    from rcl_interfaces.srv import GetParameters

    client = peer.node.create_client(GetParameters, f"{NODE}/get_parameters")
    assert client.wait_for_service(60)
    future = client.call_async(GetParameters.Request(names=["category_names", "category_colors"]))
    peer.until(future.done, "the parameters")
    names, colours = future.result().values
    peer.node.destroy_client(client)
    return tuple(names.string_array_value), list(colours.integer_array_value)


def test_node_and_overlay(ros_nodes, engine):
    from sensor_msgs.msg import Image
    from std_msgs.msg import Header

    from seg_node.ros.messages import bgr8_image

    peer = ros_nodes
    names, colours = parameters(peer)
    assert names == TWELVE.names and np.array_equal(np.reshape(colours, (-1, 3)), TWELVE.palette)

    peer.hear(Image, f"{NODE}/mask")
    peer.hear(Image, f"{NODE}/overlay")
    camera = peer.publisher(Image, "/own/image")
    bgr = twelve_scene(1)
    mask = engine.infer(bgr)[0]
    expected = paint(bgr, mask, taxonomy=TWELVE)
    annotate(expected, "", mask, TWELVE)
    image = bgr8_image(bgr, Header(frame_id="front"))
    stamps = itertools.count(1)

    def drawn_with_its_own_colours() -> bool:
        image.header.stamp.sec = next(stamps)
        camera.publish(copy.deepcopy(image))
        time.sleep(0.05)
        # Before the categories are known, overlays are of the eight.
        shown = [_pixels(message)[12:] for message in peer.heard[f"{NODE}/overlay"][-3:]]
        return any(np.array_equal(each, expected[12:]) for each in shown)

    peer.until(drawn_with_its_own_colours, "an overlay in the model's colours, with its legend")
    assert all(np.array_equal(_pixels(message)[..., 0], mask) for message in peer.heard[f"{NODE}/mask"])


def test_live_page(ros_nodes, engine):
    from rclpy.executors import SingleThreadedExecutor
    from sensor_msgs.msg import Image
    from std_msgs.msg import Header

    from seg_node.ros.messages import bgr8_image
    from seg_node.web.live.live import Live
    from seg_node.web.live.pictures import Pictures
    from seg_node.web.live.server import LiveServer
    from seg_node.web.live.watcher import Watcher

    peer, live, pictures = ros_nodes, Live(), {"mask": Pictures(), "mask_now": Pictures()}
    watcher = Watcher(NODE, live, pictures, starting=False)
    executor = SingleThreadedExecutor()
    executor.add_node(watcher)
    camera, stamps = peer.publisher(Image, "/own/image"), itertools.count(1000)
    image = bgr8_image(twelve_scene(1), Header(frame_id="front"))
    mask = engine.infer(twelve_scene(1))[0]
    shares = np.bincount(mask.ravel(), minlength=12) / mask.size
    with LiveServer("127.0.0.1", 0, live, pictures) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:

            def labels() -> list:
                executor.spin_once(timeout_sec=0.1)
                with urllib.request.urlopen(f"{server.url}/labels.json", timeout=60) as answer:
                    return json.loads(answer.read())

            assert [label["name"] for label in labels()] == list(EIGHT.names)
            assert live.snapshot()["legend"] == 0
            peer.until(lambda: labels() == TWELVE.labels(), "the legend has the model's categories")
            assert live.snapshot()["legend"] == 1, "the page asks for it anew"

            def shown() -> list[float]:
                image.header.stamp.sec = next(stamps)
                camera.publish(copy.deepcopy(image))
                picture = pictures["mask"].another(0, 0.0)
                for _ in range(5):
                    executor.spin_once(timeout_sec=0.02)
                return picture.shares if picture else []

            peer.until(lambda: len(shown()) == 12, "a picture of the model's categories")
            assert np.abs(np.array(shown()) - 100 * shares).max() < 0.1
        finally:
            server.shutdown()
            thread.join()
            executor.shutdown()
            watcher.destroy_node()


def test_names_and_colours_follow_a_swap(ros_nodes, tmp_path):
    """And they stay read-only for everybody else."""
    from rcl_interfaces.srv import SetParameters
    from rclpy.parameter import Parameter

    peer = ros_nodes
    client = peer.node.create_client(SetParameters, f"{NODE}/set_parameters")
    assert client.wait_for_service(60)

    def answer(name: str, value) -> object:
        future = client.call_async(SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()]))
        peer.until(future.done, "an answer")
        return future.result().results[0]

    refused = answer("category_names", ["a"])
    assert not refused.successful and "read-only" in refused.reason
    for model, taxonomy in ((blue_bundle(tmp_path), EIGHT), (twelve_bundle(tmp_path, "other"), TWELVE)):
        assert answer("model", str(model.path)).successful

        def told(of=taxonomy) -> bool:
            names, colours = parameters(peer)
            return names == of.names and np.array_equal(np.reshape(colours, (-1, 3)), of.palette)

        peer.until(told, f"the names of {model.name}")


def test_api(bundle, engine):
    pytest.importorskip("httpx", reason="httpx is missing: pip install -e '.[serving,test]'")
    pytest.importorskip("fastapi_offline", reason="fastapi_offline is missing: pip install -e '.[serving,test]'")
    from helpers.serving import in_process, post, unpacked

    bgr = twelve_scene(2)
    png = cv2.imencode(".png", bgr)[1].tobytes()
    mask = engine.infer(bgr)[0]

    async def requests(client):
        asked = ("format=json", "overlay=1&format=png", "format=png")
        return [await client.get("/v1/models"), *[await post(client, png, params=query) for query in asked]]

    models, described, overlay, plain = in_process(
        requests, lambda found: create_engine(found, "onnxruntime"), bundle=bundle
    )
    categories = [{"id": number, **label} for number, label in enumerate(TWELVE.labels())]
    assert models.json()["models"][0]["categories"] == categories
    assert np.array_equal(unpacked(plain.content), mask)
    found = described.json()["categories"]
    assert {entry["id"]: entry["pixels"] for entry in found} == {i: int((mask == i).sum()) for i in np.unique(mask)}
    for entry in found:
        assert {key: entry[key] for key in ("id", "name", "rgb")} == categories[entry["id"]]
    assert np.abs(unpacked(overlay.content) - (bgr.astype(float) + colorize(mask, TWELVE)) / 2).max() <= 0.5


def _page(options):
    from seg_node.web.dashboard.app import page

    page(options)


def test_dashboard(bundle, engine, tmp_path):
    """Beside a shipped model: the legends of both, no figures that would compare them, and its own colours."""
    pytest.importorskip("streamlit", reason="streamlit is missing: pip install -e '.[dashboard]'")
    import argparse

    from streamlit.testing.v1 import AppTest

    from seg_node.bags.drive import open_drive
    from seg_node.bags.images import decode
    from seg_node.bags.writer import BagWriter
    from seg_node.core.bundle import DEFAULT_MODEL
    from seg_node.web.dashboard import pictures

    with BagWriter(tmp_path / "drive") as writer:
        writer.write_image(1, twelve_scene(3))
        writer.write_mask(1, np.ones(SIZE, np.uint8))
    options = argparse.Namespace(
        api=None, model=[str(bundle.path)], engine="onnxruntime", bag=tmp_path / "drive", results=[]
    )
    app = AppTest.from_function(_page, default_timeout=300, args=(options,)).run()
    assert not app.exception, app.exception
    first, second = app.selectbox[:2]
    first.set_value("twelve")
    second.set_value(DEFAULT_MODEL).run()
    assert not app.exception, app.exception
    shown = "".join(element.proto.body for element in app.get("html"))
    mask = engine.infer(decode(open_drive(tmp_path / "drive").frames[0]))[0]
    assert f'alt="Mask of twelve: {pictures.in_words(mask, TWELVE)}"' in shown
    assert pictures.legend_html(TWELVE) in shown and "background:rgb(10,250,0)" in shown
    assert "7 vehicle" in shown, "the legend of the other model"
    assert "different categories" in shown and "twelve has other categories than the true mask" in shown
    painted = pictures.painted(mask, TWELVE, named=False)
    assert all((painted[mask == i] == TWELVE.palette[i][::-1]).all() for i in np.unique(mask))


def test_shadow_mode_compares_models_of_one_list_of_categories(ros, bundle, tmp_path, capsys):
    from seg_node.shadow.pairing import Pair, compare

    other = blue_bundle(tmp_path)
    assert main(["shadow", "--image", "/own/image", "--models", str(bundle.path), str(other.path)]) == 2
    said = capsys.readouterr().err
    assert "different categories: twelve has road, sidewalk" in said and "(12 categories), blue has void" in said
    masks = np.array([[11, 11, 0, 255]], np.uint8), np.array([[11, 0, 0, 255]], np.uint8)
    agreement = compare(Pair(1, masks, ()), TWELVE)
    assert agreement.pixels == 75.0 and agreement.iou == {"road": 50.0, "car": 50.0}


GROUPING = {
    "road": "flat",
    "sidewalk": "flat",
    "kerb": "flat",
    "building": "construction",
    "pole": "object",
    "sign": "object",
    "tree": "nature",
    "grass": "nature",
    "sky": "sky",
    "person": "human",
    "rider": "human",
    "car": "vehicle",
}
COMMON_THREE = Taxonomy(("ground", "still", "moving"), ((1, 2, 3), (40, 50, 60), (200, 100, 0)))
IN_THE_THREE = {
    **dict.fromkeys(("road", "sidewalk", "kerb", "flat"), "ground"),
    **dict.fromkeys(("building", "pole", "sign", "tree", "grass", "sky"), "still"),
    **dict.fromkeys(("construction", "object", "nature"), "still"),
    **dict.fromkeys(("person", "rider", "car", "human", "vehicle"), "moving"),
    "void": "ignore",
}
COMMON = "[{name: ground, colour: [1, 2, 3]}, {name: still, colour: [4, 5, 6]}]"
IN_THE_EIGHT = np.array([EIGHT.names.index(GROUPING[name]) for name in TWELVE.names], np.uint8)


@pytest.fixture
def grouping(tmp_path):
    file = tmp_path / "grouping.yaml"
    file.write_text(yaml.safe_dump(GROUPING))
    return file


def _drive(folder, truth_of) -> object:
    """A drive of four scenes, whose truth ``truth_of`` makes of a decoded frame."""
    from seg_node.bags.drive import open_drive
    from seg_node.bags.images import decode
    from seg_node.bags.writer import BagWriter

    with BagWriter(folder / "plain") as writer:
        for number in range(4):
            writer.write_image(10**9 + number * 10**8, twelve_scene(number))
    plain = open_drive(folder / "plain")
    with BagWriter(folder / "drive") as writer:
        for number, frame in enumerate(plain.frames):
            writer.write_image(frame.stamp, twelve_scene(number))
            writer.write_mask(frame.stamp, truth_of(decode(frame)))
    return open_drive(folder / "drive")


def test_a_comparison_through_a_grouping(ros, bundle, imported, engine, grouping, tmp_path):
    """Two models of twelve categories and one of the eight: each right by its own truth, brought together by names."""
    from helpers.made_up import experiment

    from seg_node.bags.ground_truth import TruthByFrame
    from seg_node.compare.offline import evaluate_offline, segment_offline
    from seg_node.compare.page import to_html
    from seg_node.compare.text import to_text
    from seg_node.core.grouping import load_grouping, scoring_of

    drive = _drive(tmp_path, lambda bgr: IN_THE_EIGHT[engine.infer(bgr)[0]])
    bundles = [bundle, imported, blue_bundle(tmp_path)]
    comparison = experiment((10.0, 10.0, 10.0), qualities=None)
    comparison.drive.times_s, comparison.flicker, comparison.pictures = [0.0, 0.1, 0.2, 0.3], [], []
    comparison.configuration["grouping"] = "grouping.yaml"
    taxonomies = [each.manifest.taxonomy for each in bundles]
    for model, taxonomy in zip(comparison.models, taxonomies, strict=True):
        model.labels = [] if taxonomy.is_eight else taxonomy.labels()
    scorings = [scoring_of("m", taxonomy, EIGHT, load_grouping(grouping)) for taxonomy in taxonomies]
    found = segment_offline(bundles, drive, 1e6, "onnxruntime")
    evaluate_offline(comparison, drive, TruthByFrame(drive, drive.masks), found, scorings, taxonomies)
    first, second, third = comparison.offline
    assert first.miou_7 == 100.0, "the truth is what this one said, brought to the eight"
    assert third.miou_7 < 60 and set(first.iou) == set(EIGHT.names)
    masks = [IN_THE_EIGHT[found.get(model, 0)] for model in (0, 1)] + [found.get(2, 0)]
    differ = 100 * np.any([mask != masks[0] for mask in masks], axis=0).mean()
    assert comparison.disagreement.share[0] == pytest.approx(differ, abs=1e-3)
    same = 100 * (masks[0] == masks[1]).mean()
    assert second.per_frame()[0] < 100 or same == 100
    page = to_html(comparison)
    assert page.count("</i>sidewalk</span>") == 2 and "</i>vehicle</span>" in page and "rgb(10,250,0)" in page
    assert "scored in the eight categories by grouping.yaml" in to_text(comparison)


def test_a_comparison_in_common_categories_of_ones_own(ros, imported, tmp_path):
    """Models of twelve categories and of the eight meet in three, and each figure is a mean over these."""
    from helpers.made_up import PAIRS, experiment, measured, simulated_run

    from seg_node.bags.ground_truth import TruthByFrame
    from seg_node.compare.comparison import Scored, load_comparison
    from seg_node.compare.now_gain import gains
    from seg_node.compare.offline import evaluate_offline, segment_offline
    from seg_node.compare.page import to_html
    from seg_node.compare.text import to_text
    from seg_node.compare.verdict import judge
    from seg_node.core.grouping import load_grouping, scoring_of
    from seg_node.core.metrics import confusion_with_misses, scores

    file = tmp_path / "common.yaml"
    file.write_text(yaml.safe_dump({"categories": COMMON_THREE.rows(), "grouping": IN_THE_THREE}))
    grouping = load_grouping(file)
    assert grouping.taxonomy == COMMON_THREE
    teacher = create_engine(imported, "onnxruntime")
    drive = _drive(tmp_path, lambda bgr: teacher.infer(bgr)[0])
    bundles = [imported, blue_bundle(tmp_path)]
    taxonomies = [each.manifest.taxonomy for each in bundles]
    scorings = [scoring_of("m", taxonomy, TWELVE, grouping) for taxonomy in taxonomies]
    assert all(scoring.taxonomy == COMMON_THREE for scoring in scorings)
    comparison = experiment((10.0, 10.0), qualities=None)
    comparison.categories = COMMON_THREE.labels()
    comparison.drive.truth, comparison.configuration["grouping"] = "/mask", "common.yaml"
    truth = TruthByFrame(drive, drive.masks.of(len(TWELVE)), scorings[0].truth)
    found = segment_offline(bundles, drive, 1e6, "onnxruntime")
    times, comparison.drive.times_s = comparison.drive.times_s, [0.0, 0.1, 0.2, 0.3]
    comparison.flicker, comparison.pictures = [], []
    evaluate_offline(comparison, drive, truth, found, scorings, taxonomies)
    first, second = comparison.offline
    assert (first.miou, first.miou_7, first.miou_8) == (100.0, None, None) and first.headline == 100.0
    assert tuple(second.iou) == COMMON_THREE.names and len(second.hits[0]) == 3
    table = np.array([COMMON_THREE.names.index(IN_THE_THREE[name]) for name in EIGHT.names[1:]], np.uint8)
    by_hand = sum(
        confusion_with_misses(truth[i], np.append(255, table).astype(np.uint8)[found.get(1, i)], 3) for i in range(4)
    )
    assert second.miou == pytest.approx(scores(by_hand, COMMON_THREE)["miou"])
    assert "miou " in comparison.pictures[0].text and "miou_7" not in comparison.pictures[0].text
    # Streaming scores of all processes, with somebody who listens to the mask of now.
    comparison.drive.times_s = times
    for model, hits in ((0, 800), (1, 500)):
        for repetition in range(PAIRS):
            rng = np.random.default_rng(10 * model + repetition)
            confusions = [np.diag([hit] * 3) + 10 for hit in rng.integers(hits - 20, hits, len(times))]
            scored = Scored.of(model, repetition, list(range(len(times))), confusions, taxonomy=COMMON_THREE)
            comparison.streaming.append(scored)
            if model == 0:
                run = measured(simulated_run(10.0, repetition), 0, repetition, "listened", "with ~/mask_now", 10.0)
                comparison.runs.append(run)
                comparison.streaming_listened.append(scored)
                comparison.streaming_now.append(scored)
    comparison.gains = gains(comparison)
    assert [gain.name for gain in comparison.gains] == ["miou", *COMMON_THREE.names]
    assert comparison.gains[0].estimate == 0.0 and comparison.gains[0].offline == 100.0
    comparison.verdicts, comparison.decision = judge(comparison)
    streaming = next(verdict for verdict in comparison.verdicts if verdict.question == "streaming")
    assert streaming.title == "Streaming miou" and streaming.winner == 0
    assert "points more streaming miou" in comparison.decision.sentence
    said, page = to_text(comparison), to_html(comparison)
    assert "scored in ground, still, moving by common.yaml" in said
    for shown in (said, page):
        assert "miou_7" not in shown and "human" not in shown.replace("</i>human</span>", "")
    assert "miou is the mean IoU of 3 categories" in page and "rgb(1,2,3)" in page
    comparison.save(tmp_path / "comparison.json")
    again = load_comparison(tmp_path / "comparison.json")
    assert again.taxonomy == COMMON_THREE and again.streaming[0].headline == comparison.streaming[0].headline


def test_models_and_truth_of_the_same_categories_need_no_grouping(ros, imported, tmp_path):
    from seg_node.commands.compare import _scorings

    drive = _drive(tmp_path, lambda bgr: np.zeros(bgr.shape[:2], np.uint8))
    found = _scorings(["a", "b"], [TWELVE, TWELVE], drive, TWELVE, None)
    assert [scoring.taxonomy for scoring in found] == [TWELVE, TWELVE] and found[0].masks is None


def test_shipped_groupings_know_what_is_shipped():
    from seg_node.core.grouping import load_grouping
    from seg_node.core.label_table import load_taxonomy

    classes = load_taxonomy(ROOT / "config" / "labels" / "cityscapes_classes.yaml")
    for file in sorted((ROOT / "config" / "groupings").glob("*.yaml")):
        grouping = load_grouping(file)
        for taxonomy in (EIGHT, classes):
            table = grouping.table(taxonomy, "shipped")
            assert table is None or set(table[: len(taxonomy)]) - {255} == set(
                range(int(grouping.taxonomy.is_eight), len(grouping.taxonomy))
            )


def test_comparisons_that_need_a_grouping_are_refused_by_name(ros, imported, grouping, tmp_path, capsys):
    drive = _drive(tmp_path, lambda bgr: np.ones(bgr.shape[:2], np.uint8)).path
    twelve, blue = str(imported.path), str(blue_bundle(tmp_path).path)

    def refused(*arguments: object) -> str:
        out = tmp_path / "out"
        assert (
            main(["compare", "--bag", str(drive), "--engine", "onnxruntime", "--out", str(out), *map(str, arguments)])
            == 2
        )
        return capsys.readouterr().err

    said = refused("--models", twelve, blue)
    assert "twelve has road, sidewalk" in said and "blue has void, flat" in said and "--grouping" in said
    assert "the ground truth void, flat" in refused("--models", twelve, twelve)
    short = tmp_path / "short.yaml"
    short.write_text(yaml.safe_dump({name: common for name, common in GROUPING.items() if name != "kerb"}))
    assert f"{short} does not say what kerb of twelve are" in refused("--models", twelve, blue, "--grouping", short)
    for text, says in (
        ("", "is empty"),
        ("[road]", "is list"),
        ("road: {", "is not YAML"),
        ("road: flat\nroad: sky", "road is there more than once"),
        ("road: street", "road belongs to 'street'; expected one of void, flat"),
        ("road:", "road belongs to 'None'"),
        ("7: flat", "7 is no name"),
        ("'': flat", "'' is no name"),
        ("categories: []\ngrouping: {road: flat}", "is 0 entries"),
        (
            "categories: [{name: ground}]\ngrouping: {road: ground}",
            "expected name and colour",
        ),
        (
            f"categories: {COMMON}\ngrouping: {{road: flat}}",
            "road belongs to 'flat'; expected one of ground, still, ignore",
        ),
        (f"categories: {COMMON}\ngrouping: {{road: still, road: ground}}", "road is there more than once"),
        (f"categories: {COMMON}\ngrouping: []", "is empty; expected own names with common ones, such as road: ground"),
        (f"categories: {COMMON}", "has the keys categories; expected categories and grouping"),
        (f"categories: {COMMON}\ngrouping: {{road: ground}}\nx: y", "has the keys categories, grouping, x; expected"),
        (f"categories: {COMMON}\ngrouping: {{road: ground}}", "does not say what sidewalk, kerb"),
    ):
        short.write_text(text)
        assert says in refused("--models", twelve, blue, "--grouping", short)
    assert "no_such.yaml" in refused("--models", twelve, blue, "--grouping", "no_such.yaml")


def test_replays_score_in_the_models_categories_or_through_a_grouping(ros, imported, grouping, tmp_path, capsys):
    teacher = create_engine(imported, "onnxruntime")
    drive = _drive(tmp_path, lambda bgr: teacher.infer(bgr)[0])
    table = tmp_path / "twelve.yaml"
    table.write_text(yaml.safe_dump({"categories": TWELVE.rows()}))

    def replay(*arguments: object) -> tuple[dict, str]:
        given = ["--bag", drive.path, "--model", imported.path, "--engine", "onnxruntime", "--rate", "5"]
        assert main(["replay", *map(str, [*given, "--out", tmp_path / "out", "--no-video", *arguments])]) == 0
        return json.loads((tmp_path / "out" / "result.json").read_text()), capsys.readouterr().out

    found, said = replay("--truth-categories", table)
    assert (found["accuracy"]["miou"], found["accuracy"]["pixel_accuracy"]) == (100.0, 100.0)
    assert "miou_7" not in found["accuracy"] and tuple(found["accuracy"]["iou"]) == TWELVE.names
    assert tuple(found["streaming"]["mask"]["iou"]) == TWELVE.names and "miou_7" not in said
    assert "</i>sidewalk</span>" in (tmp_path / "out" / "report.html").read_text()
    found, _ = replay("--truth-categories", table, "--grouping", grouping)
    assert found["accuracy"]["miou_7"] == 100.0 and tuple(found["accuracy"]["iou"]) == EIGHT.names
