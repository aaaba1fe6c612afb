"""Which samples a run sees, in which order and how they are augmented: all of it a function of the configuration."""

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from seg_training.augmentation import Augmentation, AugmentationConfig
from seg_training.config import TrainingConfig


def plan(sizes: list[int], config: TrainingConfig) -> np.ndarray:
    """Lay down the samples of a whole run.

    A resumed run, or one on more devices, goes through the same samples. Each data set is passed through in random
    order before any of its samples comes again.

    Args:
        sizes: samples of each entry of ``config.train``.
        config: of the run.

    Returns:
        int64 [steps * batch_size, 2], the data set and the index in it.
    """
    rng = np.random.default_rng(config.seed)
    chosen = []
    for step in range(config.steps):
        mix = np.array(config.stage(step).mix or sizes, float)
        chosen.append(rng.choice(len(sizes), config.batch_size, p=mix / mix.sum()))
    sets = np.concatenate(chosen)
    result = np.stack([sets, np.zeros_like(sets)], axis=1)
    for number, size in enumerate(sizes):
        mine = np.flatnonzero(sets == number)
        epochs = [rng.permutation(size) for _ in range(-(-len(mine) // size))]
        result[mine, 1] = np.concatenate([*epochs, []])[: len(mine)]
    return result


def positions(config: TrainingConfig, first_step: int, rank: int, ranks: int) -> list[int]:
    """Positions in the run of the samples that one of several processes takes, from a step on.

    Every step's batch is cut into equal parts, one for each process.
    """
    share = config.batch_size // ranks
    starts = (step * config.batch_size + rank * share for step in range(first_step, config.steps))
    return [start + i for start in starts for i in range(share)]


class Samples(Dataset):
    """The augmented samples of a run by their position in it.

    Args:
        datasets: those of ``config.train``.
        order: of ``plan``.
        config: of the run.
    """

    def __init__(self, datasets: list, order: np.ndarray, config: TrainingConfig):
        self._datasets, self._order, self._config = datasets, order, config
        self._augmentation = AugmentationConfig.of(config.augmentation)
        self._kept: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor]:
        """uint8 [3, h, w] BGR image and int64 [h, w] categories of the crop that the position's stage asks for."""
        stage = self._config.stage(position // self._config.batch_size)
        augment = Augmentation(tuple(stage.crop), tuple(stage.scale), self._augmentation)
        return augment(*self._read(*map(int, self._order[position])), self._config.seed * 1_000_003 + position)

    def _read(self, dataset: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        if not self._config.cache:
            return self._datasets[dataset][index]
        if (dataset, index) not in self._kept:
            self._kept[dataset, index] = self._datasets[dataset][index]
        return self._kept[dataset, index]
