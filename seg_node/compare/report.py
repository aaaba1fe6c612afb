"""What a replay leaves behind: a console table, JSON, pictures, a video and a web page."""

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from seg_node.bags.drive import Drive
from seg_node.bags.images import decode
from seg_node.compare.drawing import FONT, fit, label, legend_band
from seg_node.compare.page import filled, html_table, legend
from seg_node.core.overlay import paint
from seg_node.core.report.tables import Table, aligned, number, origin
from seg_node.core.taxonomy import EIGHT, Taxonomy
from seg_node.rig.frames import ArrivedMask
from seg_node.rig.scoring import Result

_LINKS = {
    "overlay.mp4": "overlay.mp4, the drive with the newest mask that had arrived",
    "as_used.webm": "as_used.webm, camera and masks side by side, as they were at hand for each frame",
    "contact_sheet.png": "contact_sheet.png, the frames below",
    "result.json": "result.json, all figures",
}
"""Files of a report and what they are."""

_LABEL = "seg_node label DRIVE --out FOLDER"

_CELL_WIDTH = 420
_VIDEO_WIDTH = 960


@dataclass(frozen=True)
class Section:
    """A table with what it shows."""

    title: str
    table: Table
    note: str = ""
    """Sentences on what its names mean."""


def sections(result: Result) -> list[Section]:
    """Counts, latencies, load and accuracy of a result for display."""
    counts = {
        "sent": result.sent,
        "lost": result.lost,
        "received": result.received,
        "masked": result.masked,
        **result.dropped,
        "late": result.late,
    }
    latencies = {
        **result.stages,
        "age at publish": result.age_at_publish,
        "camera to mask": result.camera_to_mask,
        "mask to mask": result.mask_interval,
    }
    rows = [
        [name, *(f"{v:.1f}" for v in (d.p50, d.p95, d.p99, d.max)), str(d.count)] for name, d in latencies.items() if d
    ]
    found = [
        Section("Frames", (["", *counts], [["frames", *map(str, counts.values())]])),
        Section(
            "Latency, milliseconds",
            (["milliseconds", "p50", "p95", "p99", "max", "frames"], rows),
            "Total: time in the node. Age at publish: from sending a frame until the node published its mask; camera to"
            " mask: until the mask arrived. Mask to mask: between two arrivals.",
        ),
        Section(
            "Load",
            _load_table(result),
            "Jitter: spread of the times between masks. Longest blind: time without a mask of a newer frame. Idle"
            " cores: those that nobody used.",
        ),
    ]
    if result.accuracy:
        scores = _means(result.accuracy) | result.accuracy["iou"]
        row = [f"IoU, {result.accuracy['frames']} frames", *map(number, scores.values())]
        note = "Of the frames that were masked, against the ground truth."
        if "miou_7" in scores:
            note += " miou_7 is the mean without void, miou_8 with it."
        found.append(Section("Accuracy, percent", (["percent", *scores], [row]), note))
    if result.streaming:
        found.append(_streaming_section(result.streaming))
    if result.streaming and "mask_now" in result.streaming:
        found.append(_age_section(result.streaming))
    if result.now:
        found += _now_sections(result.now)
    # Where no mask came there is nothing to time, and nothing to score by its age.
    return [section for section in found if section.table[1]]


def reading(result: Result) -> list[str]:
    """What the counts mean, in sentences: what happened to frames that have no mask, and what to do."""
    said = [f"{result.masked} of the {result.received} frames that reached the node were masked."]
    if superseded := result.dropped.get("superseded"):
        total, rate = result.stages.get("total"), result.setup.get("rate_hz")
        why = f"one frame takes {total.p50:.0f} ms in the node (median)" if total else "masking takes longer"
        pace = f", and a new one came every {1000 / rate:.0f} ms" if rate else ""
        said.append(
            f"{superseded} were superseded: {why}{pace}. When the node is free it takes the newest frame, so that masks"
            f" are as young as can be, and counts those that were passed over. To mask every frame of a recording, use"
            f" {_LABEL}; here, a lower --rate or a faster model leaves fewer out."
        )
    others = {
        "stale": "were older than max_age_ms when their turn came",
        "undecodable": "held no image that can be read",
        "failed": "failed in the model; the node's log says why",
    }
    said += [f"{count} {why}." for name, why in others.items() if (count := result.dropped.get(name))]
    if result.lost:
        said.append(
            f"{result.lost} of {result.sent} frames that were sent never reached the node: the transport lost them."
        )
    if result.late:
        said.append(f"{result.late} masks came later than the deadline.")
    return said


def _means(scored: Mapping[str, Any]) -> dict[str, float]:
    """Mean IoUs of ``core.metrics.scores``: ``miou_7`` and ``miou_8``, or ``miou`` of other categories."""
    return {name: scored[name] for name in ("miou_7", "miou_8", "miou") if name in scored}


def _streaming_section(streaming: Mapping[str, Any]) -> Section:
    """What a decision module had when each frame was published."""
    names = [name for name in ("mask", "mask_now") if name in streaming]
    columns = [*_means(streaming["mask"]), *streaming["mask"]["iou"]]
    rows = []
    for name in names:
        scored = streaming[name]
        values = _means(scored) | scored["iou"]
        rows.append([f"~/{name}, {scored['frames']} instants", *map(number, values.values())])
    return Section(
        "Masks at the moment of use, percent",
        (["streaming", *columns], rows),
        "The truth of each frame against the newest mask at hand when that frame was published.",
    )


def _age_section(streaming: Mapping[str, Any]) -> Section:
    """What carrying a mask is worth, by how old the inferred mask was."""
    by_age = {name: {row["from_ms"]: row for row in streaming[f"{name}_by_age"]} for name in ("mask", "mask_now")}
    ends = {row["from_ms"]: row["to_ms"] for name in by_age for row in streaming[f"{name}_by_age"]}
    headline = next(iter(_means(streaming["mask"])))
    shown = [name for name in ("human", "vehicle") if name in streaming["mask"]["iou"]]
    columns = ["instants", headline, *shown]
    rows = []
    for begin, end in sorted(ends.items()):
        cells = [f"{begin} to {end} ms"]
        for rows_of in by_age.values():
            row = rows_of.get(begin)
            values = [None] * len(columns[1:]) if row is None else [row[headline], *(row["iou"][n] for n in shown)]
            cells += [str(row["frames"]) if row else "0", *map(number, values)]
        rows.append(cells)
    return Section(
        "By the age of the inferred mask, percent",
        (["age", *(f"{'now ' * (name == 'mask_now')}{column}" for name in by_age for column in columns)], rows),
        "Columns that begin with now are of ~/mask_now, the others of ~/mask. Instants at which what was inferred was"
        " equally old: their difference is what carrying it forward is worth.",
    )


def _now_sections(now: Mapping[str, Any]) -> list[Section]:
    counts = {name: str(now[name]) for name in ("received", "propagated", "again")}
    counts |= {name: str(count) for name, count in now["dropped"].items()}
    if now["covered"] is not None:
        counts["covered %"] = number(100 * now["covered"])
    durations = {**now["stages"], "camera to mask": now["camera_to_mask"], "keyframe's age": now["keyframe_age"]}
    rows = [
        [name, *(f"{d[p]:.1f}" for p in ("p50", "p95", "p99", "max")), str(d["count"])]
        for name, d in durations.items()
        if d
    ]
    return [
        Section("Masks of now", (["", *counts], [["masks of now", *counts.values()]])),
        Section(
            "Masks of now, milliseconds",
            (["milliseconds", "p50", "p95", "p99", "max", "frames"], rows),
            "Keyframe's age: time since the camera published the frame whose inferred mask was carried forward.",
        ),
    ]


def _load_table(result: Result) -> Table:
    """How regular the masks came, and what the node's process used."""
    usage = result.usage or {}
    values = {
        "masks/s": (result.masks_per_second, "{:.1f}", 1),
        "jitter ms": (result.jitter, "{:.1f}", 1),
        "delay variation ms": (result.delay_variation, "{:.1f}", 1),
        "longest blind ms": (result.longest_blind, "{:.0f}", 1),
        "CPU cores": (usage.get("cpu_cores"), "{:.2f}", 1),
        "idle cores": (usage.get("idle_cpu_cores"), "{:.2f}", 1),
        "memory MiB": (usage.get("rss_peak_bytes"), "{:.0f}", 2**20),
        "GPU %": (usage.get("gpu_percent"), "{:.0f}", 1),
        "GPU MiB": (usage.get("gpu_peak_bytes"), "{:.0f}", 2**20),
    }
    shown = {name: form.format(value / unit) for name, (value, form, unit) in values.items() if value is not None}
    return ["", *shown], [["load", *shown.values()]]


def caption(result: Result) -> list[str]:
    """What was played through what, in a few lines."""
    setup = result.setup
    return [
        f"drive    {setup['drive']}, {setup['frames']} frames {setup['width']}x{setup['height']} {setup['transport']},"
        f" {setup['rate_hz']:.1f} Hz ({setup['rate']})",
        f"model    {setup['model']} on {setup['engine']}",
        f"machine  {origin(result.machine)}",
    ]


def to_text(result: Result) -> str:
    """The console report."""
    parts = ["\n".join(caption(result)), *(aligned(section.table) for section in sections(result))]
    if not result.accuracy:
        parts.append("no ground truth for a masked frame: no mIoU")
    if result.masks_arrived < result.masked:
        parts.append(f"{result.masked - result.masks_arrived} of {result.masked} masks did not reach this harness")
    closes = "received = masked + dropped, sent = received + lost: the counts add up"
    parts.append("\n".join(f"FAULT: {fault}" for fault in result.faults) or closes)
    return "\n\n".join(parts)


def write_report(
    folder: Path,
    result: Result,
    drive: Drive,
    published: Mapping[int, int],
    masks: Mapping[int, ArrivedMask],
    video: bool = True,
    categories: Taxonomy = EIGHT,
    truth_categories: Taxonomy = EIGHT,
    beside: Sequence[Path] = (),
) -> list[Path]:
    """Write ``result.json``, ``contact_sheet.png``, ``overlay.mp4`` and ``report.html``.

    Pictures and video are left out where no frame was masked.

    Args:
        folder: an existing folder.
        result: what to report.
        drive: what was played.
        published: time of publishing each frame, nanoseconds, by header stamp.
        masks: masks by header stamp.
        video: write the overlay video too.
        categories: of the masks.
        truth_categories: of the ground truth.
        beside: other files of the report that lie in the folder already, for the page to name.

    Returns:
        The files written, and those beside.
    """
    files = [folder / "result.json"]
    files[0].write_text(result.to_json())
    sheet = contact_sheet(drive, masks, categories=categories, truth_categories=truth_categories)
    if sheet is not None:
        files.append(folder / "contact_sheet.png")
        cv2.imwrite(str(files[-1]), sheet)
        if video and write_video(folder / "overlay.mp4", drive, published, masks, categories=categories):
            files.append(folder / "overlay.mp4")
    files += beside
    page = folder / "report.html"
    page.write_text(to_html(result, sheet, files, categories))
    return [*files, page]


def contact_sheet(
    drive: Drive,
    masks: Mapping[int, ArrivedMask],
    count: int = 6,
    categories: Taxonomy = EIGHT,
    truth_categories: Taxonomy = EIGHT,
) -> np.ndarray | None:
    """Frames spread over the drive: camera, overlay and, where the drive has it, ground truth.

    Args:
        drive: what was played.
        masks: masks by header stamp.
        count: most rows; one frame each.
        categories: of the masks; the legend has these.
        truth_categories: of the ground truth.

    Returns:
        uint8 [H, W, 3] BGR, or None if no frame has a mask.
    """
    masked = [frame for frame in drive.frames if frame.stamp in masks]
    if not masked:
        return None
    picked = [masked[i] for i in sorted(set(np.linspace(0, len(masked) - 1, count).round().astype(int)))]
    columns = ["camera", "camera and mask"] + ["ground truth"] * any(frame.stamp in drive.masks for frame in picked)
    rows = [legend_band(_CELL_WIDTH * len(columns), categories), _titles(columns)]
    for frame in picked:
        bgr = decode(frame)
        cells = [bgr, paint(bgr, masks[frame.stamp].decode(), taxonomy=categories)]
        if len(columns) == 3:
            truth = drive.masks.get(frame.stamp)
            missing = np.full_like(bgr, 255)
            cells.append(missing if truth is None else paint(bgr, truth, taxonomy=truth_categories))
        row = np.hstack([fit(cell, _CELL_WIDTH) for cell in cells])
        seconds = (frame.log_time - drive.frames[0].log_time) / 1e9
        rows.append(label(row, f"{seconds:.2f} s"))
    return np.vstack(rows)


def write_video(
    file: Path,
    drive: Drive,
    published: Mapping[int, int],
    masks: Mapping[int, ArrivedMask],
    progress: bool = True,
    categories: Taxonomy = EIGHT,
) -> bool:
    """Write the drive with, on every frame, the newest mask that had arrived when that frame was published.

    That is what a decision module has at that moment: masks lag behind by their latency.

    Returns:
        False if OpenCV cannot write MP4 here.
    """
    by_arrival = sorted((mask.arrived, stamp) for stamp, mask in masks.items())
    writer, current, arrived = None, None, 0
    for frame in tqdm(drive.frames, desc="overlay video", unit="frame", disable=not progress):
        while arrived < len(by_arrival) and by_arrival[arrived][0] <= published[frame.stamp]:
            stamp = by_arrival[arrived][1]
            # A mask that overtook a newer one is not the newest.
            current = stamp if current is None else max(current, stamp)
            arrived += 1
        bgr = decode(frame)
        if bgr is None:
            continue
        if current is not None:
            mask = masks[current].decode()
            bgr = paint(bgr, mask, taxonomy=categories) if mask.shape == bgr.shape[:2] else bgr
        text = "no mask yet" if current is None else f"mask of {(frame.stamp - current) / 1e6:.0f} ms ago"
        picture = label(fit(bgr, min(_VIDEO_WIDTH, bgr.shape[1])), text)
        picture = picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]
        if writer is None:
            size = picture.shape[1::-1]
            writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"mp4v"), drive.rate or 10.0, size)
            if not writer.isOpened():
                return False
        writer.write(picture)
    if writer:
        writer.release()
    return writer is not None


def to_html(result: Result, sheet: np.ndarray | None, files: Sequence[Path] = (), categories: Taxonomy = EIGHT) -> str:
    """The report as one self-contained page.

    Args:
        result: what to report.
        sheet: see ``contact_sheet``.
        files: that lie beside the page, which links to them.
        categories: of the masks.
    """
    setup = result.setup
    drive = Path(setup["drive"]).name
    lines = [
        f"{drive}: {setup['frames']} frames of {setup['width']}x{setup['height']} pixels, {setup['transport']}, at"
        f" {setup['rate_hz']:.1f} Hz ({setup['rate']}).",
        f"{setup['model']} on {setup['engine']}; {origin(result.machine)}.",
    ]
    body = [f"<p>{html.escape(line)}</p>" for line in lines]
    body += [f'<p class="fault">{html.escape(fault)}</p>' for fault in result.faults]
    points = [f"<li>{html.escape(line)}</li>".replace(_LABEL, f"<code>{_LABEL}</code>") for line in reading(result)]
    body.append(f"<ul class=reading>{''.join(points)}</ul>")
    links = [f'<a href="{html.escape(file.name)}">{html.escape(_LINKS[file.name])}</a>' for file in files]
    if links:
        body.append(f"<p>Beside this page: {', '.join(links)}.</p>")
    if sheet is not None:
        data = base64.b64encode(cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, 90])[1]).decode()
        picture = f'<img alt="frames of the drive with their masks" src="data:image/jpeg;base64,{data}">'
        of_void = "void is what belongs to no category, such as the bonnet of the own car."
        void = "" if categories.void is None else f"<p class=note>{of_void}</p>"
        body += ["<h2>Masks over the camera's frames</h2>", legend(categories), void, picture]
    body.append("<div class=tables>")
    for section in sections(result):
        note = f"<p class=note>{html.escape(section.note)}</p>" if section.note else ""
        body.append(
            f"<section><h2>{html.escape(section.title)}</h2>{html_table(_upright(section.table))}{note}</section>"
        )
    body.append("</div>")
    return filled("report.html", html.escape(f"{setup['model']} on {drive}"), body)


def _upright(table: Table) -> Table:
    """A table of one row as one of two columns, which a telephone can show."""
    header, rows = table
    if len(rows) > 1:
        return table
    (row,) = rows
    return [header[0], row[0]], [list(pair) for pair in zip(header[1:], row[1:], strict=True)]


def _titles(columns: list[str]) -> np.ndarray:
    band = np.full((30, _CELL_WIDTH * len(columns), 3), 255, np.uint8)
    for i, text in enumerate(columns):
        cv2.putText(band, text, (i * _CELL_WIDTH + 6, 21), FONT, 0.6, (0, 0, 0), 1, cv2.LINE_AA)
    return band
