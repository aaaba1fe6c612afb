"""The training loop, to be read from top to bottom."""

import importlib.metadata
import json
import math
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import torch
from timm.optim import param_groups_weight_decay
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from seg_node.core.metrics import scores
from seg_node.core.network import SegmentationNetwork, has_native_bf16
from seg_node.core.taxonomy import NO_LABEL, Category
from seg_training.augmentation import Augmentation
from seg_training.config import TrainingConfig, dump_config, load_config
from seg_training.datasets.camvid import CamVid
from seg_training.evaluate import evaluate
from seg_training.losses import CrossEntropyDice, category_weights


def train(config: TrainingConfig) -> Path:
    """Train a network, or go on where an earlier call with the same configuration stopped.

    Writes into ``config.runs/config.name``: ``config.yaml``, ``environment.json``, ``log.jsonl``, and
    ``checkpoint.pt``, which holds tensors and plain values only and is read without running code.

    Returns:
        The run's folder. The averaged weights of its checkpoint are the result.

    Raises:
        ValueError: the folder holds a run with another configuration.
        KeyboardInterrupt: SIGINT or SIGTERM, after writing a checkpoint.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    folder = prepare_folder(config)

    train_set, val_set = CamVid(config.data, "train"), CamVid(config.data, "val")
    samples = [train_set[i] for i in tqdm(range(len(train_set)), desc="reading", unit="image")]

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = SegmentationNetwork(config.encoder, drop_path_rate=config.drop_path_rate)
    if config.start_from:
        network.load_state_dict(averaged_weights(Path(config.start_from)))
    network = network.to(device, memory_format=torch.channels_last).train()
    ema = AveragedModel(
        network, multi_avg_fn=get_ema_multi_avg_fn(max(0.0, 1 - 1 / (config.ema * config.steps))), use_buffers=True
    )
    criterion = CrossEntropyDice(category_weights(category_shares(samples), config.weight_softness)).to(device)
    # Norms, biases and ConvNeXt V2's GRN are scales and offsets: decaying them only fights the data.
    groups = param_groups_weight_decay(network, config.weight_decay, no_weight_decay_list=grn_names(network))
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmup_poly(step, config))
    bf16 = config.precision == "bf16" or (config.precision == "auto" and has_native_bf16(device))

    step = 0
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location=device)
        for part, target in (("network", network), ("ema", ema), ("optimizer", optimizer), ("schedule", schedule)):
            target.load_state_dict(state[part])
        torch.set_rng_state(state["rng"].cpu())
        step = state["step"]

    def save():
        parts = {"network": network, "ema": ema, "optimizer": optimizer, "schedule": schedule}
        state = {name: part.state_dict() for name, part in parts.items()}
        torch.save(state | {"rng": torch.get_rng_state(), "step": step}, checkpoint.with_suffix(".tmp"))
        os.replace(checkpoint.with_suffix(".tmp"), checkpoint)

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    log = (folder / "log.jsonl").open("a")
    progress = tqdm(total=config.steps, initial=step, desc=config.name, unit="step")
    try:
        while step < config.steps:
            started = time.monotonic()
            stage = config.stage(step)
            augment = Augmentation(tuple(stage.crop), tuple(stage.scale))
            batch = [augment(*samples[index], seed) for index, seed in batch_indices(step, len(samples), config)]
            images = torch.stack([image for image, _ in batch]).to(device, torch.float32)
            target = torch.stack([mask for _, mask in batch]).to(device)

            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                logits = network(images.to(memory_format=torch.channels_last))
            loss = criterion(logits, target)
            if not torch.isfinite(loss):
                raise FloatingPointError(f"loss is {loss.item()} at step {step}; lower learning_rate or use fp32")
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip)
            optimizer.step()
            schedule.step()
            ema.update_parameters(network)
            step += 1

            record = {"step": step, "loss": loss.item(), "lr": schedule.get_last_lr()[0]}
            record["seconds"] = time.monotonic() - started
            if step % config.evaluate_every == 0 and step < config.steps:
                few = range(0, len(val_set), max(1, len(val_set) // 12))
                confusion = evaluate(ema.module, [val_set[i] for i in few], progress=False)
                record["val_few"] = scores(confusion)
            print(json.dumps(record), file=log, flush=True)
            progress.set_postfix(loss=f"{record['loss']:.3f}")
            progress.update()
            if step % config.checkpoint_every == 0 or step == config.steps:
                save()
    except KeyboardInterrupt:
        save()
        raise
    return folder


def averaged_weights(run: Path) -> dict[str, torch.Tensor]:
    """Result of a finished run, as the state of a ``SegmentationNetwork`` on the CPU.

    Raises:
        ValueError: the run is not finished.
    """
    config = load_config(run / "config.yaml")
    state = torch.load(run / "checkpoint.pt", weights_only=True, map_location="cpu")
    if state["step"] < config.steps:
        raise ValueError(f"{run} stopped at step {state['step']} of {config.steps}; resume it with the train command")
    prefix = "module."
    return {name.removeprefix(prefix): v for name, v in state["ema"].items() if name.startswith(prefix)}


def prepare_folder(config: TrainingConfig) -> Path:
    """Make the run's folder and write down what made the run."""
    folder = Path(config.runs) / config.name
    folder.mkdir(parents=True, exist_ok=True)
    text = dump_config(config)
    written = folder / "config.yaml"
    if written.exists() and written.read_text() != text:
        raise ValueError(f"{folder} holds a run with another configuration; give another name= or remove it")
    written.write_text(text)
    names = ("torch", "torchvision", "timm", "segmentation-models-pytorch", "numpy")
    environment = {"versions": {name: importlib.metadata.version(name) for name in names}, "commit": git_commit()}
    (folder / "environment.json").write_text(json.dumps(environment, indent=2))
    return folder


def batch_indices(step: int, count: int, config: TrainingConfig) -> list[tuple[int, int]]:
    """Samples of a batch and the seed of each one's augmentation: a function of the step alone, so that a
    resumed run sees what an uninterrupted one would have seen."""
    first = step * config.batch_size
    chosen = []
    for position in range(first, first + config.batch_size):
        epoch, offset = divmod(position, count)
        order = np.random.default_rng((config.seed, epoch)).permutation(count)
        chosen.append((int(order[offset]), config.seed * 1_000_003 + position))
    return chosen


def category_shares(samples: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Share of each category among all labelled pixels, float [8]."""
    counts = sum(np.bincount(mask[mask != NO_LABEL], minlength=len(Category)) for _, mask in samples)
    return counts / counts.sum()


def warmup_poly(step: int, config: TrainingConfig) -> float:
    """Factor on the learning rate: linear rise, then polynomial decay with power 0.9 (Chen et al., "DeepLab",
    TPAMI 2018)."""
    warmup = max(1, math.ceil(config.warmup * config.steps))
    if step < warmup:
        return (step + 1) / warmup
    return max(0.0, 1 - (step - warmup) / max(1, config.steps - warmup)) ** 0.9


def grn_names(network: torch.nn.Module) -> set[str]:
    """Parameters of ConvNeXt V2's global response normalisation, which timm keeps in modules named ``grn``."""
    return {name for name, _ in network.named_parameters() if ".grn." in name}


def git_commit() -> str | None:
    """Commit of the code that runs, None outside a git checkout."""
    try:
        here = Path(__file__).parent
        return subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
