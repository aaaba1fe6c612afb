"""README, the pages of docs, configuration and code say the same, and every page can be found."""

import argparse
import ast
import fnmatch
import importlib
import json
import os
import re
import subprocess

import pytest
import yaml
from helpers.paths import ROOT

from seg_node.core.bundle import DEFAULT_MODEL
from seg_node.core.taxonomy import CATEGORY_NAMES
from seg_node.core.timing import Outcome, Stage

README = (ROOT / "README.md").read_text()
DOCUMENTS = {file.relative_to(ROOT).as_posix(): file.read_text() for file in ROOT.glob("docs/*.md")}
DOCUMENTS |= {name: (ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")}
NODE = DOCUMENTS["docs/node.md"]


def _table(text, heading):
    """Cells of the first table below a heading of a document, by first cell."""
    section = text.split(f"{heading}\n", 1)[1]
    rows = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)[0].splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]
    return {row[0].strip("` "): row[1:] for row in cells}


@pytest.fixture(scope="module")
def parameters(ros):
    from seg_node.ros.parameters import PARAMETERS

    return PARAMETERS


def test_parameter_table(parameters):
    table = _table(NODE, "## Parameters")
    assert list(table) == list(parameters)
    for name, (default, meaning) in table.items():
        spec = parameters[name]
        assert meaning.rstrip("|").strip() == spec.description
        if not spec.read_only or name == "autostart":
            assert yaml.safe_load(default.strip("`")) == spec.default, name


def test_parameter_table_of_a_camera(parameters):
    from seg_node.ros.cameras.names import OF_ALL_CAMERAS, OF_ONE_CAMERA, SHARED

    section = DOCUMENTS["docs/cameras.md"].split("## Parameters of a camera", 1)[1].split("\n## ", 1)[0]
    for name, spec in OF_ALL_CAMERAS.items():
        assert f"`{name}` (`{spec.default}`)" in section, name
    table = _table(DOCUMENTS["docs/cameras.md"], "## Parameters of a camera")
    assert list(table) == [f"NAME.{name}" for name in (*OF_ONE_CAMERA, *SHARED)]
    assert table["NAME.priority"][0] == f"`{OF_ONE_CAMERA['priority'].default}`"
    assert table["NAME.priority"][1].rstrip("| ") == OF_ONE_CAMERA["priority"].description
    assert all(table[f"NAME.{name}"][0] == f"that of `{name}`" for name in SHARED)


def test_topics(ros):
    files = ("cameras/stream", "outputs", "mask_of_now", "reporter", "label_info")
    source = "".join((ROOT / "seg_node" / "ros" / f"{file}.py").read_text() for file in files)
    topics = {
        topic
        for row in _table(README, "## Topics")
        for topic in re.findall(r"[~/\w]+", row.split(" (")[0])
        if topic != "or"
    }
    in_code = set(re.findall(r'"((?:~/|/)\w+(?:/compressed)?|image(?:/compressed)?)"', source))
    assert topics == in_code


def test_words_of_the_accounting():
    section = NODE.split("## Outcomes", 1)[1].split("## Encodings", 1)[0]
    for word in [*(outcome.value for outcome in Outcome), *(stage.value for stage in Stage)]:
        assert f"`{word}`" in section
    assert all(f" {name} |" in README.split("## Topics", 1)[1] for name in CATEGORY_NAMES)


def test_metrics_in_the_readme_are_those_of_the_manifests():
    from seg_node.core.bundle import load_bundle, shipped_bundles

    table = _table(README, "### Quality on CamVid val")
    assert set(table) == set(shipped_bundles())
    for name, cells in table.items():
        manifest = load_bundle(name).manifest
        figures = manifest.metrics["camvid_val"]
        expected = [figures["miou_7"], figures["miou_8"], *(figures["iou"][c] for c in CATEGORY_NAMES[1:])]
        assert [float(cell.rstrip("| ")) for cell in cells[1:]] == [pytest.approx(v, abs=0.051) for v in expected]
        assert cells[0].strip("`") == manifest.backbone


def test_defaults_have_the_types_of_the_table(parameters):
    for name, (default, _) in _table(NODE, "## Parameters").items():
        if default != "see above":
            assert type(yaml.safe_load(default.strip("`"))) is type(parameters[name].default), name


def _launch_arguments(file):
    """Arguments of a launch file by name, with the keywords that are written out, without importing ``launch``."""
    calls = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
    declared = [call for call in calls if ast.unparse(call.func) == "DeclareLaunchArgument"]
    return {
        call.args[0].value: {word.arg: _literal(word.value) for word in call.keywords} for call in declared if call.args
    }


def _literal(node):
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def test_launch_arguments_are_parameters(parameters):
    arguments = _launch_arguments(ROOT / "launch" / "segmentation.launch.py")
    others = {"image", "use_sim_time", "namespace", "name", "params_file", "log_level", "fastdds_profile"}
    assert set(arguments) - others <= set(parameters)
    assert {"model", "engine", "image_transport", "autostart"} <= set(arguments)
    for name in set(arguments) & set(parameters):
        # Empty leaves the value of the parameter file, which is the default of the node: see above.
        assert arguments[name]["default_value"] == "", name
        if parameters[name].choices:
            assert arguments[name]["choices"] == ["", *parameters[name].choices], name


def test_launch_arguments_in_the_documents_exist():
    known = {file.name: set(_launch_arguments(file)) for file in ROOT.glob("launch/*.launch.py")}
    mentioned = 0
    for name, text in DOCUMENTS.items():
        for file, rest in re.findall(r"ros2 launch seg_node (\S+\.launch\.py)((?: \w+:=\S*)*)", text):
            assert file in known, f"{name}: {file}"
            arguments = re.findall(r"(\w+):=", rest)
            assert set(arguments) <= known[file], f"{name}: {file} {rest}"
            mentioned += len(arguments)
    assert mentioned > 2


def test_make_targets_in_the_documents_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    variables = set(re.findall(r"\$\((?:if |or |foreach lock,|)\$?\(?([A-Z_]+)\b", makefile)) | {"PYTHON", "LOCKED"}
    found = set()
    for name, text in DOCUMENTS.items():
        for command in re.findall(r"(?:^|`|&& )make((?: [A-Z_]+=\S+| [a-z][a-z-]*)+)", text, re.MULTILINE):
            words = command.split()
            named = [word for word in words if "=" not in word]
            # Of prose only the first word is a target.
            assert not named or named[0] in targets, f"{name}: make{command}"
            assert {word.split("=")[0] for word in words if "=" in word} <= variables, f"{name}: make{command}"
            found |= set(named[:1])
    assert {"demo", "test", "compare", "serve"} <= found


def _options(module):
    parser = argparse.ArgumentParser(allow_abbrev=False)
    importlib.import_module(module).add_arguments(parser)
    return _options_of(parser)


def _options_of(parser):
    """Options of a parser and of its subcommands."""
    found = {option for action in parser._actions for option in action.option_strings}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found = found.union(*map(_options_of, action.choices.values()))
    return found


def test_commands_in_the_documents_exist():
    from seg_node.__main__ import COMMANDS

    # Not imported, because it needs torch.
    training = (ROOT / "seg_training" / "__main__.py").read_text()
    in_training = re.findall(r'add_parser\(\s*"([\w-]+)"|^ {4}"([\w-]+)": \("seg_training\.', training, re.MULTILINE)
    known = {"seg_node": set(COMMANDS), "seg_training": {a or b for a, b in in_training}}
    assert known["seg_training"] >= {"train", "export", "evaluate", "study"}
    found = set()
    for name, text in DOCUMENTS.items():
        for package, command in re.findall(r"(?:-m |bin/|`)(seg_node|seg_training) ([a-z][a-z-]+)", text):
            assert command in known[package], f"{name}: -m {package} {command}"
            found.add(command)
        for executable in re.findall(r"ros2 run seg_node ([a-z]\w*)", text):
            assert f'"{executable}"' in (ROOT / "setup.py").read_text(), f"{name}: {executable}"
    assert {"train", "export", "replay"} <= found


@pytest.mark.parametrize("command", ["replay", "label", "shadow", "bag", "topics", "tune", "profile", "node"])
def test_options_of_a_command_in_the_documents_exist(command):
    from seg_node.__main__ import COMMANDS

    known = _options(COMMANDS[command][0])
    for name, text in DOCUMENTS.items():
        for line in re.findall(
            rf"(?:-m seg_node |bin/seg_node |ros2 run seg_node |`){command}\b((?: [^`\n|]*)?)", text
        ):
            mentioned = set(re.findall(r"(?<!\S)--[a-z][a-z-]*", line.partition("#")[0]))
            assert mentioned <= known, f"{name}: {command}{line}"


def _anchors(text):
    """Anchors of a document's headings, as GitHub makes them."""
    without_code = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", without_code, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def _links(name):
    """Targets of a document's links into the repository: file, relative to its root, and anchor, which may be empty."""
    for target in re.findall(r"\]\(([^)\s]+)\)", DOCUMENTS[name]):
        if not re.match(r"\w+:", target):
            file, _, anchor = target.partition("#")
            path = (ROOT / name).parent.joinpath(file).resolve() if file else ROOT / name
            yield path.relative_to(ROOT).as_posix(), anchor


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name):
    for file, anchor in _links(name):
        assert (ROOT / file).exists(), file
        assert not anchor or anchor in _anchors(DOCUMENTS[file]), f"{file}#{anchor}"


PLACE = (
    r"(?<![\w/.])(?:seg_node(?!/comparison\b)|seg_training|benchmarks|reliability|fuzz|test|config|launch|docs|examples"
    r"|rosbags|deploy|requirements)/[\w/.*-]*[\w*]"
)
"""Path into the repository; ``seg_node/comparison`` is the name of a schema."""


@pytest.mark.parametrize("name", DOCUMENTS)
def test_places_in_the_documents_exist(name):
    # Commands in result files are those of the commit that was measured.
    by_hand = re.sub(r"<!-- results:.*?<!-- /results -->", "", DOCUMENTS[name], flags=re.DOTALL)
    if not by_hand.startswith("<!-- Made by `make note`"):
        for path in re.findall(PLACE, by_hand):
            assert list(ROOT.glob(path)), path


def test_folders_that_the_documents_name_for_results_are_ignored():
    written = set()
    for name in ("README.md", "docs/howto.md", "docs/replay.md", "docs/training.md", "docs/serving.md"):
        for block in re.findall(r"```sh\n(.*?)```", DOCUMENTS[name], re.DOTALL):
            written |= set(re.findall(r"(?:OUT=|--out | -o |--png |--plots )([\w.]+)(?=\s|$)", block))
    assert {"my_masks", "labelled"} <= written
    patterns = [line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines()]
    for path in written:
        assert any(fnmatch.fnmatch(path, pattern) for pattern in patterns), path


def test_no_document_calls_the_development_drive_held_out():
    """0001TP is left out of training, but recipes were chosen on it: no text may sell it as unseen."""
    files = [path for folder in ("docs", "config", "seg_node/models") for path in sorted((ROOT / folder).rglob("*"))]
    for path in [ROOT / "README.md", *files]:
        if path.suffix in (".md", ".yaml", ".json"):
            text = " ".join(path.read_text().split())
            assert not re.search("held[- ]out drive|0001TP (is )?held out|drive that (is|was) held out", text), path


def test_every_page_is_reached_from_the_index():
    reached, ahead = set(), ["docs/README.md"]
    while ahead:
        name = ahead.pop()
        if name in DOCUMENTS and name not in reached:
            reached.add(name)
            ahead += [file for file, _ in _links(name)]
    assert reached == set(DOCUMENTS)


def test_the_readme_is_one_that_people_read():
    assert len(README.splitlines()) <= 220
    for table in re.findall(r"(?:^\|.*\n)+", README, re.MULTILINE):
        assert len(table.splitlines()) - 2 <= 12


def test_the_picture_of_the_readme_moves_and_says_what_it_is():
    """Its caption tells the rate and the ages with which `make pictures` worked it out."""
    import make_pictures
    from PIL import Image

    [(words, file)] = re.findall(r"!\[([^]]+)\]\((\S+\.webp)\)", README)
    assert (ROOT / file).stat().st_size < 3_000_000 and len(words) > 60
    with Image.open(ROOT / file) as picture:
        assert picture.n_frames > 50 and picture.width == 3 * make_pictures._MOVING_WIDTH
        picture.load()
        rate = 1000 * make_pictures._EVERY / picture.info["duration"]
    caption = README.split(file, 1)[1].split("\n\n", 2)[1]
    periods = round(rate / make_pictures._MASKS_PER_S)
    oldest = 2 * periods - 1
    assert make_pictures._MASKS_PER_S == 5 and "five frames a second" in caption
    assert f"{1000 * periods / rate:.0f} to {1000 * oldest / rate:.0f} ms late" in caption and DEFAULT_MODEL in caption


def test_gpu_figures_are_those_of_the_benchmark():
    page = DOCUMENTS["docs/results.md"]
    found = json.loads((ROOT / "docs/results/gpu.json").read_text())
    for row in found["rows"]:
        figures = f"{row['p50_ms']:.2f} | {row['p99_ms']:.2f} | {row['agreement']:.2f} | {row['floors']:.1f}"
        assert f"| `{row['model']}` | {row['engine']} | {row['precision']} | {figures} |" in page
    runs = [run for row in found["nodes"] for run in row["runs"].values()]
    for run in runs:
        latency = f"{run['latency']['p50_ms']:.2f} | {run['latency']['p99_ms']:.2f}"
        counts = f"{run['hz']:.1f} | {run['masked']} of {run['sent']} | {run['masks_per_s']:.1f}"
        assert f"| {counts} | {latency} |" in page
    assert found["rows"] and runs


def _make(*arguments):
    """What ``make`` would do, without doing it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", "-n", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)


def test_no_variable_of_make_is_ignored():
    makefile = (ROOT / "Makefile").read_text()
    taken = {name: words.split() for name, words in re.findall(r"^TAKES_([\w-]+) := (.+)$", makefile, re.MULTILINE)}
    for target, recipe in re.findall(r"^([a-z][a-z-]*):.*\n((?:\t.*\n)*)", makefile, re.MULTILINE):
        options = {name for names in taken.values() for name in names}
        used = {name for name in re.findall(r"\b[A-Z_]+\b", recipe) if name in options}
        used |= {"WORKERS"} if "IN_PARALLEL" in recipe else set()
        assert used == set(taken.get(target, ())), target
    for target, names in taken.items():
        accepted = _make(target, *(f"{name}=x" for name in names))
        assert "takes no" not in accepted.stderr
    for command in (["view", "MODELS=a b"], ["demo", "MODELS=a b"], ["serve", "MODEL=a"], ["lint", "OUT=there"]):
        refused = _make(*command)
        assert refused.returncode == 2 and f"takes no {command[1].partition('=')[0]}=;" in refused.stderr
    assert '--video "my.mp4"' in _make("view", "VIDEO=my.mp4").stdout
