"""What an attacker may try: bundles, sources, answers, rights on the network, and what is installed."""

import ast
import asyncio
import hashlib
import importlib.util
import os
import re
import sys
import time
import tracemalloc
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import onnx
import pytest
import yaml
from helpers.paths import ROOT
from onnx import TensorProto, helper

from seg_node.core.bundle import GRAPH, MANIFEST, RANGES, BundleError, find_bundle, load_bundle
from seg_node.core.bundle.graph_check import GraphError, check_graph
from seg_node.core.bundle.plain_files import PlainFileError, read_file, read_yaml

PACKAGES = ("seg_node", "seg_training", "launch")


# Sources


def hazards(source: str) -> list[str]:
    """Calls in a Python source that run what somebody else wrote, or that could be made to."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [f"import {name}" for name in names if name.split(".")[0] in _MODULES]
        if not isinstance(node, ast.Call):
            continue
        name, keywords = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
        safe = _ONLY_WITH.get(name)
        if name in _CALLS or keywords.get("shell", "False") != "False" or keywords.get("allow_pickle") == "True":
            found.append(name)
        elif safe and keywords.get(safe[0]) != safe[1]:
            found.append(f"{name} without {safe[0]}={safe[1]}")
    return found


_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "telnetlib", "ftplib"}
_CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "tempfile.mktemp"}
_CALLS |= {f"yaml.{name}" for name in ("load", "load_all", "full_load", "unsafe_load", "unsafe_load_all")}
_CALLS |= {"subprocess.getoutput", "subprocess.getstatusoutput", "torch.hub.load", "torch.jit.load"}
_ONLY_WITH = {"torch.load": ("weights_only", "True")}


@pytest.mark.parametrize("package", PACKAGES)
def test_sources_run_nothing_of_others(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert len(files) > 2
    found = {file.relative_to(ROOT).as_posix(): hazards(file.read_text()) for file in files}
    assert {name: calls for name, calls in found.items() if calls} == {}


@pytest.mark.parametrize(
    "source",
    [
        *("eval('1')", "exec(text)", "import pickle", "from pickle import loads", "import os\nos.system('ls')"),
        *("subprocess.run('ls', shell=True)", "subprocess.Popen(c, shell=flag)", "yaml.load(text, Loader)"),
        *("torch.load(file)", "torch.load(file, weights_only=False)", "np.load(file, allow_pickle=True)"),
        "def f():\n    return [__import__(n) for n in names]",
    ],
)
def test_hazards_are_seen(source):
    assert hazards(source)


def test_hazards_are_not_seen_where_there_are_none():
    assert not hazards("subprocess.run(['ls'], shell=False)\ntorch.load(f, weights_only=True)\nyaml.safe_load(t)")


# Bundles


def graph_of(tensor: TensorProto | None = None, inner: TensorProto | None = None) -> bytes:
    """A small graph, with a tensor of its own or in the branch of an If."""
    out = helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1])
    attributes = {}
    if inner is not None:
        attributes["then_branch"] = helper.make_graph(
            [helper.make_node("Constant", [], ["x"], value=inner)], "t", [], []
        )
    node = helper.make_node("If", ["condition"], ["mask"], **attributes)
    return helper.make_model(
        helper.make_graph([node], "g", [], [out], [tensor] if tensor is not None else [])
    ).SerializeToString()


def external(location: str) -> TensorProto:
    """A tensor whose data lies in another file."""
    tensor = helper.make_tensor("weights", TensorProto.FLOAT, [1], [0.0])
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


@pytest.fixture
def bundle(tmp_path):
    """Write a bundle: ``bundle(graph, other files, **manifest fields) -> folder``."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    values = yaml.safe_load((find_bundle("fpn_resnet50") / MANIFEST).read_text())

    def write(graph: bytes = graph_of(), others: dict[str, bytes] | None = None, **changes) -> Path:
        contents = {GRAPH: graph} | (others or {})
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
        (folder / MANIFEST).write_text(yaml.safe_dump(values | {"files": hashes} | changes))
        return folder

    return write


def refusal(folder: Path) -> str:
    with pytest.raises(BundleError) as refused:
        load_bundle(folder)
    return str(refused.value)


def test_whole_bundle_is_accepted(bundle):
    loaded = load_bundle(bundle(graph_of(helper.make_tensor("w", TensorProto.FLOAT, [1], [2.0])), {RANGES: b"{}"}))
    assert onnx.load_from_string(loaded.graph).graph.initializer[0].float_data == [2.0]
    assert loaded.ranges == b"{}"


@pytest.mark.parametrize("location", ["weights.bin", "../outside", "/etc/passwd"])
@pytest.mark.parametrize("inner", [False, True], ids=["initializer", "branch"])
def test_tensors_in_other_files(bundle, location, inner):
    tensor = external(location)
    folder = bundle(graph_of(inner=tensor) if inner else graph_of(tensor), {"weights.bin": bytes(4)})
    assert "model.onnx: keeps tensor 'weights' in another file" in refusal(folder)


def test_bytes_that_are_no_graph_to_use():
    with pytest.raises(GraphError, match=r"^is no ONNX graph \(.+\)$"):
        check_graph(b"\xff")
    with pytest.raises(GraphError, match="^is an ONNX graph without outputs$"):
        check_graph(b"")


def test_tensors_of_functions_are_looked_at():
    """A function of the model, called by one of its nodes, may hold constants."""
    tensor = external("elsewhere")
    tensor.name = "w" * 101
    model = onnx.load_from_string(graph_of())
    node = helper.make_node("Constant", [], ["x"], value=tensor)
    model.functions.append(helper.make_function("here", "f", [], ["x"], [node], [helper.make_opsetid("", 17)]))
    with pytest.raises(GraphError, match=f"^keeps tensor '{'w' * 100}' in another file; save it with all of its data$"):
        check_graph(model.SerializeToString())


def test_a_tensor_that_names_a_file_is_refused_wherever_it_says_its_data_is():
    tensor = external("elsewhere")
    tensor.data_location = TensorProto.DEFAULT
    with pytest.raises(GraphError, match="'weights'"):
        check_graph(graph_of(tensor))


def test_plain_files_are_read_up_to_their_limit(tmp_path):
    file = tmp_path / "plain"
    file.write_bytes(b"1234")
    assert read_file(file, 4) == b"1234"
    (tmp_path / "link").symlink_to(file)
    os.mkfifo(tmp_path / "pipe")
    for name, limit, reason in (
        ("plain", 3, "is 4 bytes; at most 3 are read"),
        ("link", 4, "is a link; put the file itself into the same folder"),
        ("missing", 4, "cannot be read (No such file or directory)"),
        (".", 4, "cannot be read (Is a directory)"),
        ("pipe", 4, "cannot be read (it is no regular file)"),
    ):
        with pytest.raises(PlainFileError) as refused:
            read_file(tmp_path / name, limit)
        assert str(refused.value) == f"{tmp_path / name}: {reason}"
    with pytest.raises(PlainFileError, match=r"^'.*\\ud800': cannot be read \(surrogates not allowed\)$"):
        read_file(tmp_path / "\ud800", 4)


def test_plain_yaml(tmp_path):
    file = tmp_path / "plain.yaml"

    def read(text: str):
        file.write_text(text)
        return read_yaml(file, 1000)

    assert read("a: 2020-01-01\nb: [1, 2.5, true, null, x]") == {"a": "2020-01-01", "b": [1, 2.5, True, None, "x"]}
    assert read("[" * 20 + "]" * 20) == nested_list(20)
    assert read("- [[1]]\n" * 30) == [[[1]]] * 30, "what is closed is not deep"
    for text, reason in (
        ("a: &x 1\nb: *x", "aliases are not read.*line 2, column 4"),
        ("[" * 21 + "]" * 21, "nested deeper than 20 levels.*line 1, column 21"),
        ("a: .nan", "Out of range float"),
        ("a: !!int x", "invalid literal for int"),
        ("a: !!python/name:os.system", "could not determine a constructor"),
    ):
        with pytest.raises(PlainFileError, match=rf"(?s)^{re.escape(str(file))}: cannot be read: {reason}"):
            read(text)
    with pytest.raises(PlainFileError, match="at most 1 are read"):
        read_yaml(file, 1)


def nested_list(depth: int) -> list:
    """An empty list in a list in a list."""
    return [] if depth == 1 else [nested_list(depth - 1)]


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/hostname", "a/../../outside", "..", ".", "", "a\0b", "sub/model.onnx"]
)
def test_names_that_leave_the_folder(bundle, name, tmp_path):
    (tmp_path / "outside").write_bytes(b"")
    hashes = {GRAPH: hashlib.sha256(graph_of()).hexdigest(), name: hashlib.sha256(b"").hexdigest()}
    assert "does not lie in the bundle's own folder" in refusal(bundle(files=hashes))


@pytest.mark.parametrize("name", [GRAPH, MANIFEST])
def test_links_out_of_the_folder(bundle, name, tmp_path):
    folder = bundle()
    (folder / name).rename(tmp_path / "outside")
    (folder / name).symlink_to(tmp_path / "outside")
    assert f"{name}: is a link" in refusal(folder)


def test_link_to_the_folder_is_no_link_out_of_it(bundle, tmp_path):
    (tmp_path / "current").symlink_to(bundle())
    assert load_bundle(tmp_path / "current").path == tmp_path / "current"


@pytest.mark.parametrize("name", [GRAPH, MANIFEST])
def test_pipes_and_folders_are_not_waited_for(bundle, name):
    folder = bundle()
    (folder / name).unlink()
    os.mkfifo(folder / name)
    # A pipe in the place of the manifest makes the folder no bundle at all.
    assert ("no regular file" if name == GRAPH else "neither a folder with") in refusal(folder)
    (folder / name).unlink()
    (folder / name).mkdir()
    assert ("cannot be read" if name == GRAPH else "neither a folder with") in refusal(folder)


def test_size_of_a_manifest_is_limited(bundle):
    folder = bundle()
    with (folder / MANIFEST).open("a") as manifest:
        manifest.write("#" * 2**18)
    assert re.search(r"is \d+ bytes; at most 262144 are read", refusal(folder))


def test_reading_takes_no_more_memory_than_the_file(tmp_path):
    (tmp_path / "small").write_bytes(bytes(100))
    tracemalloc.start()
    assert read_file(tmp_path / "small", 2**31 - 1) == bytes(100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize("change", [b"x", b""])
def test_one_changed_byte(bundle, change):
    folder = bundle()
    content = (folder / GRAPH).read_bytes()
    (folder / GRAPH).write_bytes(content[:-1] + change)
    assert "sha256 is" in refusal(folder)


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.mkdir [{marker}]",
        "!!python/name:os.system",
        "!!python/object/new:os.mkdir [{marker}]",
        "!!python/module:antigravity",
    ],
)
def test_manifest_runs_no_code(bundle, text, tmp_path):
    folder = bundle()
    with (folder / MANIFEST).open("a") as manifest:
        manifest.write("training: " + text.format(marker=tmp_path / "marker"))
    assert "could not determine a constructor" in refusal(folder)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &a [x, x]\nb: &b [*a, *a]\n", "aliases are not read"),
        ("training: " + "[" * 100, "nested deeper than 20 levels"),
        ("training: " + "{a: " * 10**4, "nested deeper than 20 levels"),
        ("training: {seed: .nan}", "not JSON compliant"),
        ("training: {seed: !!binary AAAA}", "not JSON serializable"),
        ("training: 2026-13-45", "training is '2026-13-45'"),
        ("training: " + "9" * 5000, "cannot be read"),
    ],
)
def test_yaml_that_would_multiply_or_surprise(bundle, text, reason):
    folder = bundle()
    kept = [line for line in (folder / MANIFEST).read_text().splitlines() if re.match("schema|files|  model", line)]
    values = {"name": "x", "decoder": "fpn", "backbone": "x", "input_size": [32, 32], "mean": [0, 0, 0], "date": "x"}
    lines = [f"{key}: {value}" for key, value in (values | {"std": [1, 1, 1]}).items()]
    (folder / MANIFEST).write_text("\n".join([*kept, *lines, text]))
    assert re.search(reason, refusal(folder))


@pytest.mark.parametrize("name", ["a\r\nSet-Cookie: b", "../up", "a/b", "a b", "é", "", ".hidden", "x" * 101])
def test_names_that_would_break_headers_or_paths(bundle, name):
    assert "name is" in refusal(bundle(name=name))


# Answers


def test_answers_tell_nothing_of_the_machine():
    pytest.importorskip("fastapi", reason="fastapi is missing: pip install -e '.[serving]'")
    httpx = pytest.importorskip("httpx", reason="httpx is missing: pip install -e '.[test]'")
    from http_surface import PATHS, Instant

    from seg_node.core.bundle import DEFAULT_MODEL
    from seg_node.web.api.app import make_app
    from seg_node.web.api.limits import Limits
    from seg_node.web.api.models import Models

    models = Models([load_bundle(DEFAULT_MODEL)], Instant)

    async def answers():
        transport = httpx.ASGITransport(make_app(models, Limits()), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            pages = (
                "/v1/models",
                "/openapi.json",
                "/docs",
                "/healthz",
                "/readyz",
                "/metrics",
                "/nothing",
                "/v1/videos/x",
            )
            return {page: await client.get(page) for page in pages}

    try:
        for page, answer in asyncio.run(answers()).items():
            assert answer.status_code < 500 or page == "/readyz"
            assert not PATHS.search(answer.content), page
    finally:
        models.close()


def test_http_has_a_limit_for_everything():
    from dataclasses import asdict

    from seg_node.web.api.limits import Limits

    limits = asdict(Limits())
    assert limits.keys() >= {"max_bytes", "max_pixels", "max_side", "queue", "timeout", "body_timeout", "batch_files"}
    assert limits.keys() >= {"batch_bytes", "video_bytes", "video_frames", "video_work", "video_jobs", "video_kept"}
    assert all(0 < value < float("inf") for value in limits.values())


# Rights on the network


def policy(node: str) -> dict[tuple[str, str], set[str]]:
    """Names that the SROS2 policy allows a node, by kind and direction."""
    root = ElementTree.parse(ROOT / "config" / "sros2" / "segmentation.policy.xml").getroot()
    (profile,) = root.findall(f"./enclaves/enclave[@path='/{node}']/profiles/profile")
    assert (profile.get("ns"), profile.get("node")) == ("/", node)
    allowed: dict[tuple[str, str], set[str]] = {}
    for group in profile:
        ((direction, verdict),) = group.attrib.items()
        assert verdict == "ALLOW"
        allowed[group.tag, direction] = {name.text.replace("~", f"/{node}") for name in group}
    return allowed


EVERY_NODE = {"/parameter_events", "/rosout"}


def topics_of_a_table(file: str, heading: str, end: str) -> tuple[set[str], set[str]]:
    """Subscribed and published names of a document's table."""
    section = (ROOT / file).read_text().split(heading, 1)[1].split(end, 1)[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    subscribed = {name for row in rows if "subscribed" in row for name in re.findall("`(.+?)`", row)}
    return subscribed, {name for row in rows for name in re.findall("`(.+?)`", row)} - subscribed


def test_policy_allows_the_topics_of_the_readme():
    subscribed, published = topics_of_a_table("README.md", "## Topics\n", "The mask holds")
    allowed = policy("segmentation")
    assert allowed["topics", "subscribe"] == subscribed | {"/clock", "/parameter_events"}
    published = {name.replace("~", "/segmentation") for name in published}
    assert allowed["topics", "publish"] == published | EVERY_NODE | {"/segmentation/transition_event"}


def test_policy_allows_the_overlay_the_topics_of_its_document():
    subscribed, published = topics_of_a_table("docs/viewing.md", "The overlay node runs", "| parameter")
    allowed = policy("overlay")
    assert allowed["topics", "subscribe"] == subscribed | {"camera_info", "/clock", "/parameter_events"}
    assert allowed["topics", "publish"] == published | EVERY_NODE


def test_policy_allows_the_projection_the_topics_of_its_document():
    subscribed, published = topics_of_a_table("docs/planner.md", "## Topics", "## What the grid")
    allowed = policy("projection")
    assert allowed["topics", "subscribe"] == subscribed | {"/tf", "/tf_static", "/clock", "/parameter_events"}
    published = {name.replace("~", "/projection") for name in published}
    assert allowed["topics", "publish"] == published | EVERY_NODE


@pytest.mark.parametrize("node", ["segmentation", "overlay", "projection"])
def test_policy_allows_what_a_running_node_has(ros, node_process, node):
    """All of it, and no service that the node does not have."""
    from rclpy._rclpy_pybind11 import NodeNameNonExistentError

    if node == "segmentation":
        process = node_process({"autostart": False}, state="unconfigured")
    else:
        command = [sys.executable, "-m", "seg_node", node]
        parameters = {"camera_height": 1.0} if node == "projection" else {}
        process = node_process(parameters, command=command, name=node, state=None)
    observer = ros.create_node("observer")
    name, namespace = process.full_name.rsplit("/", 1)[::-1]

    def graph(of_kind) -> set[str]:
        try:
            found = of_kind(name, namespace or "/")
        except NodeNameNonExistentError:
            return set()
        return {topic.replace(process.full_name, f"/{node}") for topic, _ in found}

    # As in the graph: the policy's relative names are those of the namespace.
    allowed = {
        key: {topic if topic.startswith("/") else f"{namespace}/{topic}" for topic in topics}
        for key, topics in policy(node).items()
    }
    deadline = time.monotonic() + 60
    try:
        # Discovery tells of one thing after the other.
        while time.monotonic() < deadline:
            services = graph(observer.get_service_names_and_types_by_node)
            published = graph(observer.get_publisher_names_and_types_by_node)
            if services >= allowed["services", "reply"] and "/diagnostics" in published:
                break
            time.sleep(0.1)
    finally:
        observer.destroy_node()
    assert services == allowed["services", "reply"]
    assert {"/diagnostics"} <= published <= allowed["topics", "publish"]


# What is installed


def requirements(name: str) -> list[tuple[str, str]]:
    """Pinned packages of a lock file by normalised name, each with the lines that belong to it.

    A package has several where Pythons need different versions.
    """
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    blocks = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    return [(_normalised(re.match(r"[A-Za-z0-9._-]+", block)[0]), block) for block in blocks]


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared() -> dict[str, list[str]]:
    """What setup.py asks for, by extra; what every installation needs under ''."""
    import setuptools

    captured = {}
    original, setuptools.setup = setuptools.setup, lambda **options: captured.update(options)
    folder = os.getcwd()
    try:
        os.chdir(ROOT)
        spec = importlib.util.spec_from_file_location("package_setup", ROOT / "setup.py")
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    finally:
        setuptools.setup = original
        os.chdir(folder)
    return {"": captured["install_requires"]} | captured["extras_require"]


LOCKS = {"demo": ("", "ros"), "test": ("", "ros", "training", "serving", "dashboard", "note", "test")}


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_covers_what_setup_asks_for(lock):
    from packaging.requirements import Requirement
    from packaging.version import Version

    locked, asked = requirements(lock), declared()
    for extra in LOCKS[lock]:
        for wanted in map(Requirement, asked[extra]):
            versions = [
                re.match(r"[^=]+==([^\s;]+)", block)[1] for name, block in locked if name == _normalised(wanted.name)
            ]
            assert versions, f"requirements/{lock}.txt lacks {wanted}; run make lock"
            assert all(wanted.specifier.contains(Version(version)) for version in versions), (wanted, versions)


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_pins_and_hashes_everything_and_names_no_server(lock):
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    blocks = requirements(lock)
    assert len(blocks) > 20
    for name, block in blocks:
        assert re.match(r"[A-Za-z0-9._-]+==\S+", block), name
        assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", block)) >= 1, name
    assert not re.search(r"https?:|index-url|find-links|file:|\+cpu|@ ", text)


def test_make_installs_what_the_lock_covers():
    """The extras that the Makefile installs for its two commands are those of the lock files."""
    makefile = (ROOT / "Makefile").read_text()
    assert '".[ros]"' in makefile
    assert f'".[{",".join(LOCKS["test"][2:])}]"' in makefile
    for lock, (_, *extras) in LOCKS.items():
        assert f"$(LOCK){''.join(f' --extra {extra}' for extra in extras)} -o requirements/{lock}.txt" in makefile
