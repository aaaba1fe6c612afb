"""The file of a profile, whether it fits a machine, and whether it still holds."""

import json

import pytest
import yaml
from helpers.blue_bundle import blue_bundle
from helpers.paths import ROOT
from helpers.profiles import profile_values
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seg_node.core.bundle import shipped_bundles
from seg_node.core.profile.drift import AFTER_S, CALM_S, WINDOW_S, LatencyWatch
from seg_node.core.profile.file import ProfileError, content_hash, read_profile, write_profile
from seg_node.core.profile.fit import fingerprint, misfit
from seg_node.core.share import shared_path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return blue_bundle(tmp_path_factory.mktemp("bundles"))


@pytest.fixture
def values(bundle):
    return profile_values(bundle)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "profile.yaml"


def _write(file, values):
    """As somebody writes it who knows how the hash is made."""
    file.write_text(yaml.safe_dump(values | {"sha256": content_hash(values)}))
    return file


def _whole(values):
    return {"kind": "seg_node profile", "schema": 1, **values}


def test_what_was_written_is_read(file, values, bundle):
    written = write_profile(file, values)
    read = read_profile(file)
    assert read.values == written.values
    assert (read.settings["model"], read.bundle_name, read.band) == (str(bundle.path), "blue", (20.0, 40.0))
    assert [path.name for path in file.parent.iterdir()] == ["profile.yaml"]


def test_a_link_to_a_profile_is_followed(file, values):
    write_profile(file, values)
    link = file.with_name("link.yaml")
    link.symlink_to(file)
    assert read_profile(link).values == read_profile(file).values


def test_nothing_wrong_is_written(file, values):
    values["settings"]["engine"] = "tensorflow"
    with pytest.raises(ProfileError, match=r"settings\.engine is 'tensorflow'; expected one of onnxruntime"):
        write_profile(file, values)
    assert not list(file.parent.iterdir())


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("created", 5, r"created is 5; expected a text"),
        ("settings", [], r"settings is \[\]; expected a mapping"),
        ("settings.model", "", r"settings\.model is ''; expected the name or path of a bundle"),
        ("settings.precision", "int1", r"settings\.precision is 'int1'; expected one of auto, fp32"),
        ("settings.engine", "auto", r"settings\.engine is 'auto'; expected one of onnxruntime"),
        ("settings.engine", ["openvino"], r"settings\.engine is \['openvino'\]"),
        ("settings.input_size", [448], r"settings\.input_size is \[448\]; expected \[height, width\]"),
        ("settings.input_size", [448, 31], r"settings\.input_size is \[448, 31\]"),
        ("settings.input_size", [448, 796.0], r"settings\.input_size"),
        ("settings.threads", True, r"settings\.threads is True; expected a whole number from 0 to 1024"),
        ("settings.threads", -1, r"settings\.threads is -1"),
        ("settings.propagate", "yes", r"settings\.propagate is 'yes'; expected true or false"),
        ("settings.forecast_ms", 200.5, r"settings\.forecast_ms is 200\.5"),
        ("inference_ms.low", -0.1, r"inference_ms\.low is -0\.1; expected a number of milliseconds"),
        ("inference_ms.low", 41.0, r"inference_ms\.low is greater than inference_ms\.high"),
        ("inference_ms.p50", None, r"inference_ms\.p50 is None"),
        ("machine.cores", 0, r"machine\.cores is 0"),
        ("machine.instructions", "avx2", r"machine\.instructions is 'avx2'; expected a list of names"),
        ("machine.engines", {"openvino": 2026.4}, r"machine\.engines"),
        ("bundles", {}, r"bundles has no '.*blue', which settings\.model names"),
        ("bundles", {"x": {"name": "x"}}, r"bundles\.sha256 is missing; expected a sha256 .* of x"),
        ("bundles", {"x": None}, r"bundles is None; expected a mapping"),
        ("drive.sha256", "0" * 63, r"drive\.sha256 is '0+'; expected a sha256"),
        ("winner", "me", r"winner is 'me'"),
        ("runners_up", [1], r"runners_up is \[1\]"),
    ],
)
def test_the_place_of_what_is_wrong_is_named(file, values, place, value, message):
    *parents, name = place.split(".")
    where = values
    for parent in parents:
        where = where[parent]
    where[name] = value
    with pytest.raises(ProfileError, match=message) as refused:
        read_profile(_write(file, _whole(values)))
    assert str(refused.value).startswith(f"{file}: ")


@pytest.mark.parametrize("name", ["settings", "why", "inference_ms", "machine", "bundles", "drive", "winner", "topic"])
def test_what_is_missing_is_named(file, values, name):
    del values[name]
    with pytest.raises(ProfileError, match=rf"{name}[.\w]* is missing; expected"):
        read_profile(_write(file, _whole(values)))


def test_what_was_edited_is_refused_whatever_it_is(file, values):
    """Every value of the file, each with a hash that is left as it was."""
    write_profile(file, values)
    whole = yaml.safe_load(file.read_text())

    def others(value):
        """The same with one leaf changed."""
        if isinstance(value, dict):
            yield from ({**value, key: other} for key, item in value.items() for other in others(item))
            yield {**value, "more": 1}
        elif isinstance(value, list):
            for i, item in enumerate(value):
                yield from ([*value[:i], other, *value[i + 1 :]] for other in others(item))
        else:
            yield not value if isinstance(value, bool) else value + ("x" if isinstance(value, str) else 1)

    changed = list(others(whole))
    assert len(changed) > 30
    for content in changed:
        file.write_text(yaml.safe_dump(content))
        with pytest.raises(ProfileError):
            read_profile(file)
    file.write_text(yaml.safe_dump(whole | {"why": "I say so"}))
    with pytest.raises(ProfileError, match="was edited after it was written.*set parameters of the node beside"):
        read_profile(file)
    # Its layout is nobody's business.
    file.write_text(json.dumps(whole))
    assert read_profile(file).values == whole


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is no profile"),
        ("[]", "is no profile"),
        ("model: fpn_lite", "is no profile: its `kind` is not 'seg_node profile'; `seg_node tune` writes one"),
        ("kind: seg_node profile\nschema: 0", "schema is 0, this version reads 1; run `seg_node tune` again"),
        ("kind: seg_node profile\nschema: 2", "schema is 2, this version reads 1"),
        ("kind: seg_node profile", "schema is None"),
        ("kind: [", "cannot be read"),
        ("a: &a [1]\nb: *a", "aliases are not read"),
        ("kind: !!python/object/apply:os.system [ls]", "cannot be read"),
        ("\x00", "cannot be read"),
    ],
)
def test_what_is_no_profile_is_refused(file, content, message):
    file.write_text(content)
    with pytest.raises(ProfileError) as refused:
        read_profile(file)
    assert message in str(refused.value)


@pytest.mark.parametrize("name", ["missing.yaml", "", "a\0b"])
def test_what_is_no_file_is_refused(tmp_path, name):
    with pytest.raises(ProfileError):
        read_profile(str(tmp_path / name) if name != "a\0b" else name)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists) | st.binary())
def test_anything_is_refused_and_nothing_else_is_raised(file, content):
    file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(ProfileError):
        read_profile(file)


def test_a_profile_of_this_machine_fits(file, values):
    assert misfit(write_profile(file, values)) == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cpu": "A Faster One"}, "on another machine: cpu A Faster One instead of"),
        ({"cores": 1024}, "on another machine: cores 1024 instead of"),
        ({"instructions": []}, "on another machine: instructions without"),
        ({"gpus": ["NVIDIA H200"]}, "on another machine: gpus NVIDIA H200 instead of none"),
        ({"engines": {"onnxruntime": "0.1"}}, "on another machine: onnxruntime 0.1 instead of"),
        ({"engines": {"torch": "9"}}, "its engine onnxruntime is not installed; installed: torch"),
        ({"engines": {}}, "installed: none"),
    ],
)
def test_another_machine_is_told_apart(file, values, change, message):
    values["machine"] |= {"instructions": ["avx2"], "gpus": []}
    here = fingerprint() | {"instructions": ["avx2"], "gpus": []}
    profile = write_profile(file, values)
    assert misfit(profile, here) == ""
    assert message in misfit(profile, here | change)


def test_another_engine_may_change(file, values):
    """What the profile does not use has no influence on what it says."""
    here = fingerprint()
    here["engines"] = {"onnxruntime": here["engines"]["onnxruntime"], "openvino": "9999"}
    assert misfit(write_profile(file, values), here) == ""


def test_a_bundle_that_is_gone_or_new_is_named(file, bundle, values, tmp_path):
    other = blue_bundle(tmp_path, "other")
    profile = write_profile(file, profile_values(other))
    assert misfit(profile) == ""
    blue_bundle(tmp_path, "other", bits=2)
    assert "other has another graph than the one that was measured" in misfit(profile)
    (other.path / "manifest.yaml").write_text("name: [")
    assert "its bundle is not there" in misfit(profile)
    (other.path / "manifest.yaml").unlink()
    assert "its bundle is not there: no bundle" in misfit(profile)


def _looks(watch, times, rate=1.0, at=0.0):
    """What a watch says of inference times that come at a rate, as (seconds, text)."""
    return [(at + i / rate, watch.look(time, at + i / rate)) for i, time in enumerate(times)]


@pytest.mark.parametrize("rate", [1.0, 4.0])
@pytest.mark.parametrize("elsewhere", [19.0, 41.0, 400.0])
def test_drift_is_told_within_a_minute_and_forgotten_after_it(rate, elsewhere):
    watch = LatencyWatch(20.0, 40.0)
    assert not any(text for _, text in _looks(watch, [30.0] * 100, rate))
    begin = 100 / rate
    hog = _looks(watch, [elsewhere] * int(120 * rate), rate, begin)
    told = [at - begin for at, text in hog if text]
    assert AFTER_S <= told[0] <= 60 and len(told) == len([at for at, _ in hog if at - begin >= told[0]])
    assert f"takes {elsewhere:.0f} ms, and took 20 to 40 ms" in hog[-1][1] and "`seg_node tune`" in hog[-1][1]
    calm = _looks(watch, [30.0] * int(60 * rate), rate, begin + 120)
    assert max(at - begin - 120 for at, text in calm if text) <= WINDOW_S + CALM_S


@settings(max_examples=100)
@given(
    times=st.lists(st.sampled_from([10.0, 25.0, 39.0, 90.0, None]), min_size=1, max_size=300),
)
def test_drift_is_what_a_slow_reference_says(times):
    """One look a second: told once the median of ten seconds was outside for 45 s on end, forgotten after 5 inside."""
    watch, told = LatencyWatch(20.0, 40.0), False
    sides = []
    for at in range(len(times)):
        window = sorted(time for time in times[max(0, at - 9) : at + 1] if time is not None)
        middle = len(window) // 2
        median = (window[middle] + window[-1 - middle]) / 2 if window else None
        sides.append(None if median is None else not 20.0 <= median <= 40.0)
        same = next((i for i, side in enumerate(reversed(sides)) if side != sides[-1]), len(sides))
        if sides[-1] is None:
            told = False
        elif same - 1 >= (AFTER_S if sides[-1] else CALM_S):
            told = sides[-1]
        assert bool(watch.look(times[at], float(at))) == told, at


def test_a_camera_that_stops_is_no_drift():
    watch = LatencyWatch(20.0, 40.0)
    _looks(watch, [90.0] * 30)
    assert not any(text for _, text in _looks(watch, [None] * 100, at=30.0))
    assert not any(text for _, text in _looks(watch, [90.0] * 40, at=130.0))


@pytest.mark.parametrize("path", sorted((ROOT / "config" / "profiles").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_profiles_are_whole_and_for_one_machine(path):
    profile = read_profile(path)
    assert profile.settings["model"] in shipped_bundles()
    assert profile.values["winner"]["low"] <= profile.values["winner"]["score"] <= profile.values["winner"]["high"]
    here = fingerprint() | {"cpu": "another processor"}
    assert "it was measured on another machine" in misfit(profile, here) or "is not installed" in misfit(profile, here)


def test_profiles_are_shipped_of_a_processor_with_vnni_and_of_one_without():
    files = sorted(shared_path("config/profiles").glob("*.yaml"))
    have = {file.name: "avx512_vnni" in read_profile(file).values["machine"]["instructions"] for file in files}
    assert have == {"xeon_amx_2_cores.yaml": True, "xeon_avx512_2_cores.yaml": False}
