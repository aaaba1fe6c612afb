"""The page, as Streamlit runs it; ``command`` starts it."""

import argparse
from importlib.resources import files
from pathlib import Path

import streamlit as st

from seg_node.bags.drive import Drive, open_drive
from seg_node.bags.reader import BagError
from seg_node.core.bundle import BundleError
from seg_node.core.share import shared_path
from seg_node.web.dashboard import comparison_tab, image_tab, training_tab
from seg_node.web.dashboard.maskers import InProcess, Masker, MaskError, Remote
from seg_node.web.dashboard.options import RESULTS, add_arguments
from seg_node.web.dashboard.results import find_results

# Streamlit runs this file as a script, which knows no package.
_PACKAGE = "seg_node.web.dashboard"


def page(options: argparse.Namespace) -> None:
    """Draw the page; Streamlit calls this anew after every click.

    Args:
        options: of ``command.add_arguments``.
    """
    st.set_page_config(page_title="seg_node", layout="wide")
    st.html(f"<style>{(files(_PACKAGE) / 'style.css').read_text()}</style>")
    st.title("Road-scene segmentation")
    try:
        masker = _masker(options.api, tuple(options.model), options.engine)
        models = masker.models()
    except (BundleError, MaskError) as error:
        st.error(str(error))
        return
    where = f"by the HTTP API at {options.api}" if options.api else "in this process, by the node's engines"
    st.caption(f"Masks are made {where}.")
    folders = options.results or [Path(name) for name in RESULTS if Path(name).is_dir()]
    results = find_results(folders)
    image, training, comparison = st.tabs(["Image", "Training", "Replay comparison"])
    with image:
        drive = _drive(options.bag or shared_path("rosbags/synthetic_drive"))
        image_tab.show(masker, models, drive, _drive(shared_path("rosbags/synthetic_scenes")))
    with training:
        training_tab.show(results, models)
    with comparison:
        comparison_tab.show(results)


@st.cache_resource(show_spinner="Loading models")
def _masker(api: str | None, bundles: tuple[str, ...], engine: str) -> Masker:
    return Remote(api) if api else InProcess(bundles, engine)


@st.cache_resource(show_spinner="Reading the drive")
def _drive(path: Path | None) -> Drive | str:
    """The drive whose frames are shown, or why there is none."""
    if path is None:
        return "The drives that come with seg_node are not installed; name one with --bag, or upload an image."
    try:
        return open_drive(path)
    except BagError as error:
        return str(error)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    page(parser.parse_args())
