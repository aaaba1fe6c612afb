"""The training loop, to be read from top to bottom."""

import importlib.metadata
import json
import math
import os
import re
import signal
import subprocess
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from tqdm import tqdm

from seg_node.core.metrics import scores
from seg_node.core.network import SegmentationNetwork, computes_faster_in_bf16
from seg_node.core.taxonomy import NO_LABEL, Category
from seg_training.config import TrainingConfig, dump_config, load_config
from seg_training.datasets import open_dataset
from seg_training.encoder_weights import ENCODER_WEIGHTS, load_from_file, load_packaged, normalisation
from seg_training.evaluate import evaluate, predictor
from seg_training.losses import make_loss
from seg_training.provenance import hardware
from seg_training.sampling import Samples, plan, positions
from seg_training.tracking import Tracker


def train(config: TrainingConfig, progress: tqdm | None = None) -> Path:
    """Train a network, or go on where an earlier call with the same configuration stopped.

    Runs on one device, or on several where a launcher (``torchrun``, ``accelerate launch``) starts one process for
    each. Writes into ``config.runs/config.name``: ``config.yaml``, ``environment.json``, ``log.jsonl``, and
    ``checkpoint.pt``, which holds tensors and plain values only and is read without running code.

    Args:
        config: of the run.
        progress: bar to advance by each step, in place of one of the run's own.

    Returns:
        The run's folder. The averaged weights of its checkpoint are the result.

    Raises:
        ValueError: the folder holds a run with another configuration, or the data is not what was announced.
        KeyboardInterrupt: SIGINT or SIGTERM, after writing a checkpoint.
    """
    stopping = _stop_on_signals()
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    bf16 = config.precision == "bf16" or (config.precision == "auto" and computes_faster_in_bf16(_device()))
    # Its state outlives a run, and refuses another one of another precision in the same process.
    AcceleratorState._reset_state()
    accelerator = Accelerator(mixed_precision="bf16" if bf16 else "no")
    main, ranks = accelerator.is_main_process, accelerator.num_processes
    if config.batch_size % (ranks * config.accumulate):
        raise ValueError(f"batch_size {config.batch_size} cannot be split among {ranks} processes, {config.accumulate}")

    tracker = Tracker(config, active=main)
    network = start(config)
    datasets = [open_dataset(spec) for spec in config.train]
    val_sets = [open_dataset(spec) for spec in config.val]
    folder = prepare_folder(config, [d.description for d in datasets]) if main else run_folder(config)
    ema = AveragedModel(
        network, multi_avg_fn=get_ema_multi_avg_fn(max(0.0, 1 - 1 / (config.ema * config.steps))), use_buffers=True
    ).to(accelerator.device)
    criterion = make_loss(config.loss, category_shares(datasets, config), config.weight_softness).to(accelerator.device)
    optimizer = torch.optim.AdamW(parameter_groups(network, config), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, config))

    step = 0
    parts = {"network": network, "ema": ema, "optimizer": optimizer, "schedule": schedule}
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location="cpu")
        for name, part in parts.items():
            part.load_state_dict(state[name])
        step = state["step"]

    samples = Samples(datasets, plan([len(d) for d in datasets], config), config)
    share = config.batch_size // ranks
    mine = positions(config, step, accelerator.process_index, ranks)
    on_gpu = accelerator.device.type == "cuda"
    loader = DataLoader(
        samples, share // config.accumulate, sampler=mine, num_workers=config.workers, pin_memory=on_gpu
    )
    # Each stage has one size, so that trying out kernels for it pays.
    torch.backends.cudnn.benchmark = on_gpu
    network.to(accelerator.device, memory_format=torch.channels_last).train()
    model, optimizer = accelerator.prepare(network, optimizer)
    if config.compile:
        # Each stage has one size: code for any size would be slower, and torch 2.15 fails to make it.
        model.compile(dynamic=False)

    log = (folder / "log.jsonl").open("a") if main else None
    tracker.start(folder)
    if progress is None:
        progress = tqdm(total=config.steps, initial=step, desc=config.name, unit="step", disable=not main)
    else:
        progress.update(step)
    batches = iter(loader)
    while step < config.steps:
        started = time.monotonic()
        # Dropout and drop path are the random choices left: seeded by the step, a resumed run repeats them.
        torch.manual_seed(
            int(np.random.SeedSequence((config.seed, step, accelerator.process_index)).generate_state(1)[0])
        )
        total = 0.0
        for part in range(config.accumulate):
            images, target = (tensor.to(accelerator.device, non_blocking=True) for tensor in next(batches))
            last = part == config.accumulate - 1
            with nullcontext() if last else accelerator.no_sync(model):
                logits = model(images.float().contiguous(memory_format=torch.channels_last))
                loss = criterion(logits.float(), target) / config.accumulate
                accelerator.backward(loss)
            total += loss.item()
        if not math.isfinite(total):
            raise FloatingPointError(f"loss is {total} at step {step}; lower learning_rate or use precision=fp32")
        accelerator.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        ema.update_parameters(network)
        step += 1

        done = step == config.steps
        if main:
            record = {"step": step, "loss": total, "lr": schedule.get_last_lr()[-1]}
            record["seconds"] = time.monotonic() - started
            if step % config.evaluate_every == 0 and not done:
                predict = predictor(ema.module, config.input_size)
                record["val_few"] = [scores(evaluate(predict, _few(d), progress=False)) for d in val_sets]
                tracker.pictures(ema.module, [_few(d)[0] for d in val_sets], step)
            print(json.dumps(record), file=log, flush=True)
            tracker.log(record)
            progress.set_postfix(loss=f"{total:.3f}")
            progress.update()
            if step % config.checkpoint_every == 0 or done or stopping:
                state = {name: part.state_dict() for name, part in parts.items()} | {"step": step}
                torch.save(state, checkpoint.with_suffix(".tmp"))
                os.replace(checkpoint.with_suffix(".tmp"), checkpoint)
        if stopping and not done:
            raise KeyboardInterrupt
    accelerator.wait_for_everyone()
    tracker.finish(folder)
    return folder


def network_of(config: TrainingConfig) -> SegmentationNetwork:
    """The network that a configuration describes, for weights that are loaded into it afterwards."""
    return SegmentationNetwork(config.encoder, *normalisation(config.encoder), decoder=config.decoder)


def start(config: TrainingConfig) -> SegmentationNetwork:
    """The network before its first step, on the CPU.

    Raises:
        ValueError: the weights to start from cannot be had or do not fit; the message says what to do.
    """
    pretrained = config.encoder_weights
    try:
        network = SegmentationNetwork(
            config.encoder,
            *normalisation(config.encoder),
            encoder_weights="imagenet" if pretrained == "imagenet" else None,
            drop_path_rate=config.drop_path_rate,
            decoder=config.decoder,
        )
    except OSError as error:
        raise ValueError(
            f"encoder_weights=imagenet: no model hub is reached ({type(error).__name__}); use encoder_weights=none, or"
            " fetch the encoder's safetensors file elsewhere and give its path"
        ) from error
    if config.start_from:
        network.load_state_dict(averaged_weights(Path(config.start_from)))
    elif pretrained == "package":
        load_packaged(network.fpn.encoder, config.encoder)
    elif pretrained not in ENCODER_WEIGHTS:
        load_from_file(network.fpn.encoder, config.encoder, pretrained)
    return network


def parameter_groups(network: SegmentationNetwork, config: TrainingConfig) -> list[dict]:
    """Groups for AdamW: no decay on scales and offsets, and a lower rate for the encoder's early layers.

    Norms, biases and ConvNeXt V2's GRN are scales and offsets, which decay only pulls away from the data. Layer-wise
    rates are those of Clark et al., "ELECTRA", ICLR 2020, by stage of the encoder; the decoder has the full rate.
    """
    groups: dict[tuple[int, bool], dict] = {}
    for name, parameter in network.named_parameters():
        depth = _encoder_depth(name)
        decays = parameter.ndim > 1 and ".grn." not in name
        group = groups.setdefault(
            (depth, decays),
            {
                "params": [],
                "weight_decay": config.weight_decay if decays else 0.0,
                "lr": config.learning_rate * config.layer_decay ** (_DEPTHS - depth),
            },
        )
        group["params"].append(parameter)
    return [groups[key] for key in sorted(groups)]


_DEPTHS = 5
"""Stem, four stages, and then the decoder."""

_EFFICIENTNET_STAGES = (1, 1, 2, 3, 3, 4, 4)
"""Stage of each group of blocks."""


def _encoder_depth(name: str) -> int:
    """0 for the stem, 1 to 4 for the stages of the encoder, 5 for the decoder and for encoders of other families.

    Known are ResNet, ConvNeXt and EfficientNet, whose seven groups of blocks are four stages by resolution.
    """
    if not name.startswith("fpn.encoder."):
        return _DEPTHS
    if found := re.search(r"\.layer(\d)\.", name):
        return int(found[1])
    if found := re.search(r"\.stages_(\d)\.", name):
        return int(found[1]) + 1
    if found := re.search(r"\.blocks\.(\d)\.", name):
        return _EFFICIENTNET_STAGES[int(found[1])]
    return 0 if re.search(r"\.(conv1|bn1|stem_\d|conv_stem)\.", name) else _DEPTHS


def learning_rate_factor(step: int, config: TrainingConfig) -> float:
    """Factor on the learning rate: linear rise, then polynomial decay with power 0.9 (Chen et al., "DeepLab",
    TPAMI 2018) or a half cosine (Loshchilov and Hutter, "SGDR", ICLR 2017), to zero."""
    warmup = max(1, math.ceil(config.warmup * config.steps))
    if step < warmup:
        return (step + 1) / warmup
    left = max(0.0, 1 - (step - warmup) / max(1, config.steps - warmup))
    return left**0.9 if config.schedule == "poly" else (1 - math.cos(math.pi * left)) / 2


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


def run_folder(config: TrainingConfig) -> Path:
    """Where a run writes."""
    return Path(config.runs) / config.name


def prepare_folder(config: TrainingConfig, data: list[str]) -> Path:
    """Make the run's folder and write down what made the run.

    Args:
        config: of the run.
        data: description of each data set that it trains on.
    """
    folder = run_folder(config)
    folder.mkdir(parents=True, exist_ok=True)
    text = dump_config(config)
    written = folder / "config.yaml"
    if written.exists() and written.read_text() != text:
        raise ValueError(f"{folder} holds a run with another configuration; give another name= or remove it")
    written.write_text(text)
    names = ("torch", "torchvision", "timm", "segmentation-models-pytorch", "accelerate", "numpy")
    versions = {name: importlib.metadata.version(name) for name in names}
    environment = {"data": data, "versions": versions, "commit": git_commit(), "machine": hardware()}
    (folder / "environment.json").write_text(json.dumps(environment, indent=2))
    return folder


def category_shares(datasets: list, config: TrainingConfig, at_most: int = 200) -> np.ndarray:
    """Share of each category among the labelled pixels of a sample of the training data, float [8]."""
    chosen = plan([len(d) for d in datasets], config)
    picked = chosen[np.linspace(0, len(chosen) - 1, min(at_most, len(chosen))).astype(int)]
    counts = np.zeros(len(Category))
    for dataset, index in picked:
        mask = datasets[dataset][index][1]
        counts += np.bincount(mask[mask != NO_LABEL], minlength=len(Category))
    return counts / counts.sum()


def git_commit() -> str | None:
    """Commit of the code that runs, None outside a git checkout."""
    try:
        here = Path(__file__).parent
        return subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _few(dataset, count: int = 12) -> list:
    return [dataset[i] for i in range(0, len(dataset), max(1, len(dataset) // count))]


def _stop_on_signals() -> list[int]:
    """A list that receives SIGINT and SIGTERM, so that a run ends between two steps; the second one ends it at once."""
    received: list[int] = []

    def receive(number: int, frame: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, receive)
    return received
