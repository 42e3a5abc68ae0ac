"""Train a label-map tokenizer:

    python -m refhcm.models.label_map_training rpar_train.tsv --valid rpar_val.tsv --out checkpoints/compact

or from a bank of cut-out people, held out by outfit:

    python -m refhcm.models.label_map_training --bank BANK --out checkpoints/compact

With torchrun in the place of python, every process draws crops of its own, and all learn from all of them.

The bundled tokenizer is that command with 4,900 cut-outs, and then its decoder alone for longer, with 7,600:

    python -m refhcm.models.label_map_training --bank BANK --refine checkpoints/compact --out FOLDER \\
        --steps 1200 --rate 1.5e-3

Held-out outfits then keep a mean IoU of 0.800 through the codes (17 classes, 1,000 crops; 0.795 if partly
hidden). `--preset mask` trains the tokenizer of masks instead (checkpoints/compact/README.md says how ours was).

Cross entropy and Dice on the reconstruction; the codebook follows running means of what it stands for (van
den Oord et al. 2017, arXiv 1711.00937, appendix A.1), starts from k-means after a warm-up without codes, and
gives unused entries to vectors that are badly served.

Every 200 steps (--save-every), and on SIGTERM, SIGUSR1 or Ctrl-C, which end it in order, the training is kept beside
the tokenizer; the same command with --resume goes on as if it had never stopped.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.commands import MAX_THREADS, folder_of_run, in_range, one_sentence
from ..errors import RefHCMError
from ..stopping import stop
from .label_map import LabelMapConfig, LabelMapTokenizer
from .label_map_codebook import CodebookAverage
from .label_map_data import draw_many, only_person, read_people, read_rows, region_only, surround
from .label_map_files import load_label_map, name_of, read_config, save_label_map
from .label_map_keeping import EVERY, Keeper, Moving, checksum, state_path
from .label_map_round_trip import mask_round_trip, round_trip
from .label_map_statistics import class_weights, read_weights
from .processes import ALONE, Processes, join, leave

_MEASURED = 1000  # crops for the round trip, or people of a file that are read for it
_OPTIONS = ("steps", "batch", "rate", "occlude", "seed")


@dataclass(frozen=True)
class Recipe:
    """How to train: `warmup` is the share of steps without codes, `occlude` that of people partly hidden, `batch` the
    crops of one step in one process."""

    steps: int = 2400
    batch: int = 16
    rate: float = 2e-3
    warmup: float = 0.15
    commitment: float = 0.25
    dice: float = 1.0
    occlude: float = 0.5
    seed: int = 0


def reconstruction_loss(logits: Tensor, labels: Tensor, weights: Tensor, dice: float) -> Tensor:
    """Weighted cross entropy plus `dice` times (1 - Dice), the mean over the batch's classes of their Dice.

    Args:
        logits: [B, classes, H, W].
        labels: int64 [B, H, W].
        weights: Weight of each class in the cross entropy [classes].
    """
    truth = F.one_hot(labels, logits.shape[1]).permute(0, 3, 1, 2).to(logits.dtype)
    chances = logits.softmax(dim=1)
    overlap = (chances * truth).sum(dim=(0, 2, 3))
    total = chances.sum(dim=(0, 2, 3)) + truth.sum(dim=(0, 2, 3))
    present = truth.amax(dim=(0, 2, 3)) > 0
    missing = 1 - (2 * overlap / total.clamp(min=1e-6))[present].mean()
    return F.cross_entropy(logits, labels, weight=weights) + dice * missing


def train(
    people: Sequence[np.ndarray], config: LabelMapConfig, recipe: Recipe, processes: Processes = ALONE,
    weights: Tensor | None = None, keeper: Keeper | None = None,
) -> LabelMapTokenizer:
    """A tokenizer trained on people's label maps (uint8 [h, w] each, any size: part maps, or three-way masks where
    `config.masks`), the same in all processes; prints its progress.

    weights: of the classes in the loss [classes]; None: `class_weights` of some crops. keeper: saves the training, and
    where a signal has come ends the process (SystemExit).
    """
    torch.manual_seed(recipe.seed)
    tokenizer = LabelMapTokenizer(config).to(processes.device)
    tokenizer.quantize.requires_grad_(False)
    average = CodebookAverage(tokenizer.quantize, processes=processes)

    def through_codebook(labels: Tensor, step: int) -> tuple[Tensor, Tensor]:
        latents = tokenizer.latents(labels)
        if step >= int(recipe.warmup * recipe.steps):
            return average.replace(latents)
        average.watch(latents)
        return latents, latents.new_zeros(())

    _fit(tokenizer, people, recipe, through_codebook, processes, weights, keeper or Keeper(), average)
    return tokenizer


def refine(
    tokenizer: LabelMapTokenizer, people: Sequence[np.ndarray], recipe: Recipe, processes: Processes = ALONE,
    weights: Tensor | None = None, keeper: Keeper | None = None,
) -> None:
    """Train the decoder further, in place. Every label map keeps its codes, so files with codes and models that write
    them stay valid. `weights` and `keeper` as for `train`."""
    torch.manual_seed(recipe.seed)
    tokenizer.to(processes.device)
    for part in (tokenizer.encoder, tokenizer.quant_conv, tokenizer.quantize):
        part.requires_grad_(False)

    def look_up(labels: Tensor, step: int) -> tuple[Tensor, Tensor]:
        vectors = tokenizer.quantize.embedding(tokenizer.encode(labels))
        return vectors.transpose(1, 2).unflatten(2, tokenizer.config.grid), vectors.new_zeros(())

    _fit(tokenizer, people, recipe, look_up, processes, weights, keeper or Keeper())


Quantized = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""(labels, step) -> what the decoder sees and the commitment loss."""


class _Losses(nn.Module):
    """One step's way through the network, so that gradients can be shared between processes."""

    def __init__(self, tokenizer: LabelMapTokenizer, quantized: Quantized, weights: Tensor, dice: float) -> None:
        super().__init__()
        self.tokenizer, self.quantized, self.weights, self.dice = tokenizer, quantized, weights, dice

    def forward(self, labels: Tensor, step: int) -> tuple[Tensor, Tensor]:
        latents, commitment = self.quantized(labels, step)
        return reconstruction_loss(self.tokenizer.reconstruct(latents), labels, self.weights, self.dice), commitment


def _fit(
    tokenizer: LabelMapTokenizer,
    people: Sequence[np.ndarray],
    recipe: Recipe,
    quantized: Quantized,
    processes: Processes,
    weights: Tensor | None,
    keeper: Keeper,
    average: CodebookAverage | None = None,
) -> None:
    """The training loop."""
    rng, config = np.random.default_rng(recipe.seed), tokenizer.config
    size = (config.height, config.width)
    if weights is None:
        weights = class_weights(draw_many(people, rng, size, recipe.occlude, 500, config.masks), config.classes)
    if processes.count > 1:
        rng = np.random.default_rng((recipe.seed, processes.rank))
    learned = [parameter for parameter in tokenizer.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=recipe.rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, recipe.steps))
    moving = Moving(tokenizer, optimizer, schedule, rng, average, processes)
    facts = {**asdict(recipe), **config.to_dict(), "processes": processes.count, "refine": average is None}
    facts |= {"class weights": [round(weight, 6) for weight in weights.tolist()], "people": checksum(people)}
    begin = keeper.begin(moving, facts)
    losses = processes.share(_Losses(tokenizer, quantized, weights.to(processes.device), recipe.dice))
    tokenizer.train()
    for step in range(begin, recipe.steps):
        stop.training = True
        labels = torch.from_numpy(draw_many(people, rng, size, recipe.occlude, recipe.batch, config.masks)).long()
        loss, commitment = losses(labels.to(processes.device), step)
        optimizer.zero_grad(set_to_none=True)
        (loss + recipe.commitment * commitment).backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        schedule.step()
        if processes.leads and step % max(1, recipe.steps // 20) == 0:
            print(f"step {step:6d}  loss {loss.item():.4f}  commitment {commitment.item():.4f}", flush=True)
        keeper.after(step + 1, recipe.steps, moving)
    tokenizer.eval()


def _rate(step: int, steps: int) -> float:
    """Rises over the first 2 %, then falls to 1 % along a cosine."""
    rise = min(1.0, (step + 1) / max(1.0, 0.02 * steps))
    return rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    recipe = Recipe()
    parser = argparse.ArgumentParser(
        prog="python -m refhcm.models.label_map_training", description="Train a label-map tokenizer."
    )
    parser.add_argument("data", nargs="*", help="files with part maps (or masks) to train on")
    parser.add_argument("--kind", default="rpar", choices=["rpar", "person"], help="layout of the files")
    parser.add_argument("--bank", help="a bank of cut-out people, instead of or besides the files")
    parser.add_argument("--valid", help="file to measure the round trip on (else the bank's held-out outfits)")
    parser.add_argument("--out", required=True, help="folder to write label_map.* or mask.* to (json, safetensors)")
    parser.add_argument("--refine", help="folder of a tokenizer whose decoder to train further, codes unchanged")
    parser.add_argument(
        "--preset", default="compact", help="compact or published (part maps), mask, or a JSON file of other sizes"
    )
    parser.add_argument("--resume", action="store_true", help="go on from what --out holds of a training, if anything")
    parser.add_argument("--save-every", type=int, default=EVERY, metavar="STEPS", help="keep the training so often")
    parser.add_argument("--class-weights", metavar="JSON", help="as label_map_statistics writes (default: by itself)")
    parser.add_argument("--codebook", type=int, help="number of codes, instead of the preset's")
    parser.add_argument("--limit", type=int, help="use at most so many people per file or bank")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", help="cpu, cuda, ... (default: a GPU where there is one)")
    for name in _OPTIONS:
        default = getattr(recipe, name)
        parser.add_argument(f"--{name}", type=type(default), default=default)
    options = parser.parse_args(arguments)
    recipe = replace(recipe, **{name: getattr(options, name) for name in _OPTIONS})
    try:
        _check(options)
        torch.set_num_threads(options.threads)
        cure = "end that training, or name another folder with --out (SAVE)"
        with stop.listening():
            processes = join(options.device)
            with folder_of_run(options.out, cure, processes.leads, lambda told: processes.collect(told)[0]):
                _run(options, recipe, processes)
    except (RefHCMError, OSError) as error:
        raise SystemExit(f"label_map_training: {one_sentence(error)}") from error
    finally:
        leave()


def _run(options: argparse.Namespace, recipe: Recipe, processes: Processes) -> None:
    by_file = str(options.preset).endswith(".json")
    config = read_config(options.preset) if by_file else LabelMapConfig.preset(options.preset)
    config = replace(config, codebook=options.codebook or config.codebook)
    weights = read_weights(options.class_weights, config.classes) if options.class_weights else None
    tokenizer = load_label_map(options.refine, name_of(config)) if options.refine else None
    people, held_out = _gather(options, config.masks)
    if processes.leads:
        print(f"{len(people)} people to train on, {len(held_out)} held out")
    keeper = Keeper(state_path(options.out, config), options.save_every, options.resume)
    if tokenizer is None:
        tokenizer = train(people, config, recipe, processes, weights, keeper)
    else:
        refine(tokenizer, people, recipe, processes, weights, keeper)
    if processes.leads:
        save_label_map(options.out, tokenizer)
        if held_out:
            _report(tokenizer, held_out)


def _check(options: argparse.Namespace) -> None:
    in_range(1, MAX_THREADS, threads=options.threads)
    in_range(1, steps=options.steps, batch=options.batch, codebook=options.codebook, limit=options.limit)
    in_range(1, save_every=options.save_every)
    in_range(0, 1, rate=options.rate, occlude=options.occlude)
    in_range(0, 2**32 - 1, seed=options.seed)


def _report(tokenizer: LabelMapTokenizer, people: Sequence[np.ndarray]) -> None:
    """Print the round trip of whole people, and of people of whom a part is hidden; of masks also that of regions."""
    config, count = tokenizer.config, min(_MEASURED, 4 * len(people))
    whole, hidden, regions = (np.random.default_rng(0) for _ in range(3))  # the same crops at every call
    if config.masks:
        found = {
            "as they are": mask_round_trip(tokenizer, map(only_person, people[:_MEASURED])),
            "partly hidden": mask_round_trip(
                tokenizer, (only_person(surround(people, hidden, 1.0)[0]) for _ in range(count))
            ),
            "regions with others": mask_round_trip(
                tokenizer, (region_only(*surround(people, regions, 0.5)) for _ in range(count))
            ),
        }
    else:
        size = (config.height, config.width)
        found = {
            "as they are": round_trip(tokenizer, draw_many(people, whole, size, 0.0, count)),
            "partly hidden": round_trip(tokenizer, draw_many(people, hidden, size, 1.0, count)),
        }
    for title, scores in found.items():
        print(f"round trip, {title}: " + "  ".join(f"{name} {value:.4g}" for name, value in scores.items()))


def _gather(options: argparse.Namespace, masks: bool) -> tuple[list[np.ndarray], list[np.ndarray]]:
    if not options.data and not options.bank:
        raise RefHCMError("name at least one file with part maps or masks, or a bank with --bank")
    sources = [*options.data, *([options.bank] if options.bank else [])]
    people, held_out = read_people(sources, options.kind, masks, options.limit)
    if options.valid:
        most = min(_MEASURED, options.limit or _MEASURED)
        held_out = read_rows([options.valid], most, options.kind, masks, kept=None)
    return people, held_out


if __name__ == "__main__":
    main()
