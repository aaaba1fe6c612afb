"""Folders of images and masks, as people, cameras and full disks leave them."""

import os
import shutil
import warnings
from pathlib import Path
from random import Random

import cv2
import numpy as np
from cases import Case
from mutate import damaged
from PIL import Image
from surfaces import ACCEPTED, Surface, expect, refused

from seg_training.datasets import open_dataset, report

_TABLE = {"labels": [{"id": 0, "category": "flat"}, {"id": 1, "category": "sky"}, {"id": 255, "category": "ignore"}]}
_NAMES = ("a", "b", "a.b", "ü", " ", "a_L", "x" * 200, "{name}", "-", ".hidden", "A")
_IMAGES = (".jpg", ".JPG", ".png", ".bmp", ".webp", ".tif", ".ppm", ".gif", "", ".txt")
_MASKS = (".png", ".png", ".png", ".PNG", ".bmp", ".tif", ".gif", ".jpg", ".json")
_FOLDERS = ("", "", "seq", "seq/deep", ".cache")


class DatasetSurface(Surface):
    """``open_dataset`` of a folder, and every sample of it; refuses with ``ValueError`` or ``OSError``."""

    def __init__(self, folder):
        super().__init__(folder)
        warnings.simplefilter("ignore")
        self._root = folder / "set"
        pixels = np.random.default_rng(3).integers(0, 256, (12, 16, 3), np.uint8)
        mask = np.where(pixels[..., 0] < 99, 1, 0).astype(np.uint8)
        files = folder / "seed"
        files.mkdir()
        self._images, self._masks = {}, {}
        for ending in (".jpg", ".png", ".bmp", ".webp", ".tif", ".ppm"):
            self._images[ending] = [cv2.imencode(ending, pixels)[1].tobytes()]
        for turn in (3, 6):
            exif = Image.Exif()
            exif[0x0112] = turn
            for ending in (".jpg", ".png", ".webp"):
                Image.fromarray(pixels).save(files / f"photo{ending}", exif=exif.tobytes())
                self._images[ending].append((files / f"photo{ending}").read_bytes())
        for ending in (".png", ".bmp", ".tif"):
            turned = np.ascontiguousarray(np.rot90(mask, -1))
            self._masks[ending] = [cv2.imencode(ending, shape)[1].tobytes() for shape in (mask, mask, mask, turned)]
        Image.fromarray(mask).save(files / "mask.gif")
        self._masks[".gif"] = [(files / "mask.gif").read_bytes()]
        self._masks[".png"].append(cv2.imencode(".png", mask + 7)[1].tobytes())

    def draw(self, rng: Random) -> Case:
        files: dict[str, bytes] = {}
        suffix = rng.choice(("", "", "_L", "{name}"))
        for _ in range(rng.choice((1, 1, 2, 3))):
            name = f"{rng.choice(_FOLDERS)}/{rng.choice(_NAMES)}".lstrip("/")
            for kind, endings, seeds in (("images", _IMAGES, self._images), ("masks", _MASKS, self._masks)):
                ending = rng.choice((endings[0], rng.choice(endings)))
                data = rng.choice(seeds.get(ending.lower(), seeds[".png"]))
                if not rng.randrange(8):
                    data = damaged(rng, data, limit=2**14)
                end = suffix if kind == "masks" and rng.randrange(12) else ""
                if rng.randrange(16):
                    files[f"{kind}/{name}{end}{ending}"] = data
        links = {}
        if not rng.randrange(5):
            links[f"{rng.choice(('images', 'masks'))}/link"] = rng.choice(("..", "nowhere", "../masks", ".", "link"))
        names = (f"{{name}}{suffix}.png", f"{{name}}{suffix}.png", "{name}.png", "{name}.bmp", "{name}")
        options = {"mask_name": rng.choice(names), "check": rng.choice(("full", "full", "quick", "none"))}
        return {"files": files, "links": links, "options": options}

    def feed(self, case: Case) -> str:
        shutil.rmtree(self._root, ignore_errors=True)
        for kind in ("images", "masks"):
            (self._root / kind).mkdir(parents=True)
        for path, data in case["files"].items():
            (self._root / path).parent.mkdir(parents=True, exist_ok=True)
            (self._root / path).write_bytes(data)
        for path, target in case["links"].items():
            (self._root / path).symlink_to(target)
        spec = {"dataset": "folder", "root": self._root, "labels": _TABLE, **case["options"]}
        try:
            dataset = open_dataset(spec, progress=False)
        except (ValueError, OSError) as error:
            return refused(error)
        for balance in dataset.balances:
            left = sum(map(len, balance.left_out.values()))
            expect(balance.found == balance.used + left, str(balance))
            expect(case["links"] or balance.found == _files(balance.folder), f"{balance}: {_files(balance.folder)}")
            expect(balance.used == len(dataset), str(balance))
        expect(report([dataset]), "no report")
        for index in range(len(dataset)):
            try:
                image, mask = dataset[index]
            except ValueError as error:
                expect(case["options"]["check"] != "full", f"a full check let {error} pass")
                refused(error)
                continue
            expect(image.dtype == mask.dtype == np.uint8 and image.shape == (*mask.shape, 3), f"{image.shape}")
            expect(np.isin(mask, (1, 5, 255)).all(), f"categories {np.unique(mask)}")
        return ACCEPTED


def _files(folder: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(folder))
