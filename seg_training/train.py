"""The training loop, to be read from top to bottom."""

import json
import math
import os
import re
import signal
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

from seg_node.core.errors import NoResultError, RunError, UserError
from seg_node.core.metrics import scores
from seg_node.core.network import SegmentationNetwork, computes_faster_in_bf16
from seg_node.core.taxonomy import NO_LABEL
from seg_training.config import TrainingConfig, load_config
from seg_training.datasets import open_dataset, report
from seg_training.encoder_weights import ENCODER_WEIGHTS, load_from_file, load_packaged, normalisation
from seg_training.evaluate import evaluate, predictor
from seg_training.losses import make_loss
from seg_training.run import averaged_weights, prepare_folder, run_folder
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
        UserError: the folder holds a run with another configuration, or the data is not what was announced.
        NoResultError: no pixel that was trained on has a label.
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
        raise UserError(f"batch_size {config.batch_size} cannot be split among {ranks} processes, {config.accumulate}")

    tracker = Tracker(config, active=main)
    network = start(config)
    taxonomy = config.categories
    datasets = [open_dataset(spec, taxonomy=taxonomy) for spec in config.train]
    val_sets = [open_dataset(spec, taxonomy=taxonomy) for spec in config.val]
    if main and progress is None and (text := report([*datasets, *val_sets])):
        print(text, flush=True)
    shares = category_shares(datasets, config)
    folder = prepare_folder(config, [d.description for d in datasets]) if main else run_folder(config)
    ema = AveragedModel(
        network, multi_avg_fn=get_ema_multi_avg_fn(max(0.0, 1 - 1 / (config.ema * config.steps))), use_buffers=True
    ).to(accelerator.device)
    criterion = make_loss(config.loss, shares, config.weight_softness).to(accelerator.device)
    optimizer = torch.optim.AdamW(parameter_groups(network, config), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, config))

    step = labelled = 0
    parts = {"network": network, "ema": ema, "optimizer": optimizer, "schedule": schedule}
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location="cpu")
        for name, part in parts.items():
            part.load_state_dict(state[name])
        step, labelled = state["step"], state.get("labelled", 1)

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
            images, target = next(batches)
            labelled += int((target != NO_LABEL).sum())
            images, target = (tensor.to(accelerator.device, non_blocking=True) for tensor in (images, target))
            last = part == config.accumulate - 1
            with nullcontext() if last else accelerator.no_sync(model):
                logits = model(images.float().contiguous(memory_format=torch.channels_last))
                loss = criterion(logits.float(), target) / config.accumulate
                accelerator.backward(loss)
            total += loss.item()
        if not math.isfinite(total):
            raise RunError(f"loss is {total} at step {step}; lower learning_rate or use precision=fp32")
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
                counts = [evaluate(predict, _few(d), progress=False, count=len(taxonomy)) for d in val_sets]
                record["val_few"] = [scores(confusion, taxonomy) for confusion in counts]
                tracker.pictures(ema.module, [_few(d)[0] for d in val_sets], step)
            print(json.dumps(record), file=log, flush=True)
            tracker.log(record)
            progress.set_postfix(loss=f"{total:.3f}")
            progress.update()
            if step % config.checkpoint_every == 0 or done or stopping:
                state = {name: part.state_dict() for name, part in parts.items()}
                state |= {"step": step, "labelled": labelled}
                torch.save(state, checkpoint.with_suffix(".tmp"))
                os.replace(checkpoint.with_suffix(".tmp"), checkpoint)
        if stopping and not done:
            raise KeyboardInterrupt
    accelerator.wait_for_everyone()
    tracker.finish()
    if not accelerator.reduce(torch.tensor(labelled, device=accelerator.device)):
        raise NoResultError(
            f"nothing learnt: none of the {step} steps of {folder} saw a pixel with a label; the crops are too small"
            " for so few of them"
        )
    return folder


def start(config: TrainingConfig) -> SegmentationNetwork:
    """The network before its first step, on the CPU.

    Raises:
        UserError: the weights to start from cannot be had or do not fit; the message says what to do.
    """
    pretrained = config.encoder_weights
    try:
        network = SegmentationNetwork(
            config.encoder,
            *normalisation(config.encoder),
            encoder_weights="imagenet" if pretrained == "imagenet" else None,
            drop_path_rate=config.drop_path_rate,
            decoder=config.decoder,
            categories=len(config.categories),
        )
    except OSError as error:
        raise UserError(
            f"encoder_weights=imagenet: no model hub is reached ({type(error).__name__}); use encoder_weights=none, or"
            " fetch the encoder's safetensors file elsewhere and give its path"
        ) from error
    if config.start_from:
        _start_from(network, config)
    elif pretrained == "package":
        load_packaged(network.fpn.encoder, config.encoder)
    elif pretrained not in ENCODER_WEIGHTS:
        load_from_file(network.fpn.encoder, config.encoder, pretrained)
    return network


def _start_from(network: SegmentationNetwork, config: TrainingConfig) -> None:
    """Take the weights of another run; of one with other categories all but those of the last layer."""
    weights, own = averaged_weights(Path(config.start_from)), network.state_dict()
    if load_config(Path(config.start_from) / "config.yaml").categories.names != config.categories.names:
        weights |= {name: value for name, value in own.items() if name.startswith("fpn.segmentation_head.")}
    network.load_state_dict(weights)


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


def category_shares(datasets: list, config: TrainingConfig, at_most: int = 200) -> np.ndarray:
    """Share of each category among the labelled pixels of a sample of the training data, float [categories].

    Raises:
        NoResultError: no pixel of all that would be trained on has a label.
    """
    chosen = plan([len(d) for d in datasets], config)
    picked = chosen[np.linspace(0, len(chosen) - 1, min(at_most, len(chosen))).astype(int)]
    counts = np.zeros(len(config.categories))
    # Behind the sample comes the rest, for data in which labels are that rare.
    for number, (dataset, index) in enumerate([*picked, *np.unique(chosen, axis=0)]):
        if number >= len(picked) and counts.any():
            break
        mask = datasets[dataset][index][1]
        counts += np.bincount(mask[mask != NO_LABEL], minlength=len(counts))
    if not counts.any():
        names = ", ".join(dataset.description for dataset in datasets)
        raise NoResultError(
            f"nothing to learn: no pixel of {names} has a label; the label table ignores all that their masks hold"
        )
    return counts / counts.sum()


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
