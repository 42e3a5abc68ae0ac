"""Train a label-map tokenizer:

    python -m refhcm.models.label_map_training rpar_train.tsv --valid rpar_val.tsv --out checkpoints/compact

or from a bank of cut-out people, held out by outfit:

    python -m refhcm.models.label_map_training --bank BANK --out checkpoints/compact

With torchrun in the place of python, every process draws crops of its own, and all learn from all of them.

The bundled tokenizer is that command with 4,900 cut-outs, and then its decoder alone for longer, with 7,600:

    python -m refhcm.models.label_map_training --bank BANK --refine checkpoints/compact --out FOLDER \\
        --steps 1200 --rate 1.5e-3

Held-out outfits then keep a mean IoU of 0.800 through the codes (17 classes, 1,000 crops; 0.795 if partly
hidden).

Cross entropy and Dice on the reconstruction; the codebook follows running means of what it stands for (van
den Oord et al. 2017, arXiv 1711.00937, appendix A.1), starts from k-means after a warm-up without codes, and
gives unused entries to vectors that are badly served.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.commands import MAX_THREADS, in_range, one_sentence, writable_folder
from ..errors import RefHCMError
from ..metrics.parsing import ParsingMeter
from .label_map import Codebook, LabelMapConfig, LabelMapTokenizer
from .label_map_data import draw_many, read_bank, read_rows
from .label_map_files import load_label_map, save_label_map
from .processes import Processes, join, leave

_OPTIONS = ("steps", "batch", "rate", "occlude", "seed")
_START_BATCHES = 16  # of the warm-up, for k-means
ALONE = Processes()
RARITY_POWER = 0.1
"""Class weights are the inverse frequency to this power; 0.5 makes rare classes spill over their outlines."""


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


class CodebookAverage:
    """Moves each codebook entry to the running mean of the vectors that chose it, in whichever process."""

    def __init__(
        self, codebook: Codebook, decay: float = 0.98, idle: float = 0.02, processes: Processes = ALONE
    ) -> None:
        """`idle`: an entry chosen less often than this share of the even share is given a new place."""
        self.codebook, self.decay, self.idle, self.processes = codebook, decay, idle, processes
        size, width = codebook.embedding.weight.shape
        self.counts = torch.ones(size, device=codebook.embedding.weight.device)
        self.sums = torch.zeros(size, width, device=codebook.embedding.weight.device)
        self.recent: list[Tensor] = []
        self.started = False

    def watch(self, latents: Tensor) -> None:
        """Keep the vectors of the last batches [B, width, rows, columns] of the warm-up to start from."""
        self.recent = [*self.recent[1 - _START_BATCHES :], _as_rows(latents)]

    def replace(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Put the nearest entry in the place of each vector, and learn from the vectors.

        Args:
            latents: [B, width, rows, columns].

        Returns:
            The entries, of the same shape, through which gradients pass unchanged to `latents`; and the mean
            squared distance, which pulls the encoder towards the entries.
        """
        if not self.started:
            self.watch(latents)
            self.start(torch.cat(self.recent))
        rows = _as_rows(latents)
        nearest = self.codebook.embedding(self.codebook.nearest(rows))
        nearest = nearest.unflatten(0, (latents.shape[0], *latents.shape[2:])).permute(0, 3, 1, 2)
        self.update(rows)
        return latents + (nearest - latents).detach(), F.mse_loss(latents, nearest)

    @torch.no_grad()
    def start(self, vectors: Tensor, rounds: int = 12) -> None:
        """Place the entries by k-means on the vectors [N, width] of all processes."""
        vectors = self.processes.gather(vectors)
        if self.processes.leads:
            self._place(vectors, rounds)
        self._agree()
        self.started, self.recent = True, []

    @torch.no_grad()
    def update(self, vectors: Tensor) -> None:
        """Take in the vectors [N, width] of one batch of each process."""
        vectors = self.processes.gather(vectors)
        if self.processes.leads:
            self._move(vectors)
        self._agree()

    def _agree(self) -> None:
        """All processes go on with what the first one has: sums on a GPU may differ in their last digits."""
        self.processes.follow(self.codebook.embedding.weight, self.counts, self.sums)

    def _place(self, vectors: Tensor, rounds: int) -> None:
        table = self.codebook.embedding.weight
        table.copy_(vectors[torch.randint(len(vectors), (len(table),))])
        for _ in range(rounds):
            sums, counts = self._assign(vectors)
            filled = counts > 0
            table[filled] = sums[filled] / counts[filled, None]
            table[~filled] = vectors[torch.randint(len(vectors), (int((~filled).sum()),))]
        self.counts.fill_(len(vectors) / len(table) / len(self.recent or [0]))
        self.sums.copy_(table * self.counts[:, None])

    def _move(self, vectors: Tensor) -> None:
        sums, counts = self._assign(vectors)
        self.counts.lerp_(counts, 1 - self.decay)
        self.sums.lerp_(sums, 1 - self.decay)
        table = self.codebook.embedding.weight
        table.copy_(self.sums / self.counts.clamp(min=1e-5)[:, None])
        even = len(vectors) / len(table)
        # a few at a time: the worst served vectors lie close together
        unused = torch.nonzero(self.counts < self.idle * even).flatten()[: max(1, len(table) // 50)]
        if len(unused):
            error = (vectors - table[self.codebook.nearest(vectors)]).pow(2).sum(dim=1)
            chosen = vectors[torch.multinomial(error + 1e-9, len(unused))]
            self.counts[unused] = even
            self.sums[unused] = chosen * even
            table[unused] = chosen

    def _assign(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        codes = self.codebook.nearest(vectors)
        sums = torch.zeros_like(self.sums).index_add_(0, codes, vectors)
        return sums, torch.bincount(codes, minlength=len(sums)).to(sums)


def _as_rows(latents: Tensor) -> Tensor:
    """[B, width, rows, columns] -> [B * rows * columns, width], without gradient."""
    return latents.detach().permute(0, 2, 3, 1).flatten(0, 2)


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


def class_weights(crops: np.ndarray, classes: int) -> Tensor:
    """Weights that grow slowly with the rarity of a class; their mean over the pixels of the crops is 1."""
    share = np.bincount(crops.ravel(), minlength=classes) / crops.size
    weights = np.maximum(share, 1e-5) ** -RARITY_POWER
    return torch.tensor(weights / (weights * share).sum(), dtype=torch.float32)


def train(
    people: Sequence[np.ndarray], config: LabelMapConfig, recipe: Recipe, processes: Processes = ALONE
) -> LabelMapTokenizer:
    """A tokenizer trained on person part maps (uint8 [h, w] each, any size), the same in all processes; prints its
    progress.
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

    _fit(tokenizer, people, recipe, through_codebook, processes)
    return tokenizer


def refine(
    tokenizer: LabelMapTokenizer, people: Sequence[np.ndarray], recipe: Recipe, processes: Processes = ALONE
) -> None:
    """Train the decoder further, in place. Every part map keeps its codes, so files with codes stay valid."""
    torch.manual_seed(recipe.seed)
    tokenizer.to(processes.device)
    for part in (tokenizer.encoder, tokenizer.quant_conv, tokenizer.quantize):
        part.requires_grad_(False)

    def look_up(labels: Tensor, step: int) -> tuple[Tensor, Tensor]:
        vectors = tokenizer.quantize.embedding(tokenizer.encode(labels))
        return vectors.transpose(1, 2).unflatten(2, tokenizer.config.grid), vectors.new_zeros(())

    _fit(tokenizer, people, recipe, look_up, processes)


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
) -> None:
    """The training loop."""
    rng = np.random.default_rng(recipe.seed)
    size = (tokenizer.config.height, tokenizer.config.width)
    sample = draw_many(people, rng, size, recipe.occlude, 500)
    weights = class_weights(sample, tokenizer.config.classes).to(processes.device)
    if processes.count > 1:
        rng = np.random.default_rng((recipe.seed, processes.rank))
    losses = processes.share(_Losses(tokenizer, quantized, weights, recipe.dice))
    learned = [parameter for parameter in tokenizer.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=recipe.rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, recipe.steps))
    tokenizer.train()
    for step in range(recipe.steps):
        labels = torch.from_numpy(draw_many(people, rng, size, recipe.occlude, recipe.batch)).long()
        loss, commitment = losses(labels.to(processes.device), step)
        optimizer.zero_grad(set_to_none=True)
        (loss + recipe.commitment * commitment).backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        schedule.step()
        if processes.leads and step % max(1, recipe.steps // 20) == 0:
            print(f"step {step:6d}  loss {loss.item():.4f}  commitment {commitment.item():.4f}", flush=True)
    tokenizer.eval()


@torch.inference_mode()
def round_trip(tokenizer: LabelMapTokenizer, crops: np.ndarray, batch: int = 64) -> dict[str, float]:
    """Scores of crops [N, height, width] after encoding and decoding (see `metrics.parsing`), and `codes`,
    the number of codebook entries in use: the most that any model can reach through these codes."""
    meter, used = ParsingMeter(tokenizer.config.classes), set()
    for start in range(0, len(crops), batch):
        labels = torch.from_numpy(crops[start : start + batch]).long()
        codes = tokenizer.encode(labels.to(tokenizer.quantize.embedding.weight.device))
        used.update(codes.flatten().tolist())
        for predicted, truth in zip(tokenizer.decode(codes).cpu().numpy(), labels.numpy(), strict=True):
            meter.add(predicted, truth)
    return {**meter.result(), "codes": float(len(used))}


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
    parser.add_argument("data", nargs="*", help="rpar.tsv files to train on")
    parser.add_argument("--kind", default="rpar", choices=["rpar", "person"], help="layout of the files")
    parser.add_argument("--bank", help="a bank of cut-out people, instead of or besides the files")
    parser.add_argument(
        "--valid", help="rpar.tsv to measure the round trip on (else the bank's held-out outfits)"
    )
    parser.add_argument("--out", required=True, help="folder to write label_map.json and .safetensors to")
    parser.add_argument(
        "--refine", help="folder of a tokenizer whose decoder to train further, codes unchanged"
    )
    parser.add_argument("--preset", default="compact", help="compact or published")
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
        writable_folder(options.out)  # before the hours of training, not after
        _run(options, recipe, join(options.device))
    except (RefHCMError, OSError) as error:
        raise SystemExit(f"label_map_training: {one_sentence(error)}") from error
    finally:
        leave()


def _run(options: argparse.Namespace, recipe: Recipe, processes: Processes) -> None:
    people, held_out = _gather(options)
    if processes.leads:
        print(f"{len(people)} people to train on, {len(held_out)} held out")
    if options.refine:
        tokenizer = load_label_map(options.refine)
        refine(tokenizer, people, recipe, processes)
    else:
        config = LabelMapConfig.preset(options.preset)
        config = replace(config, codebook=options.codebook or config.codebook)
        tokenizer = train(people, config, recipe, processes)
    if processes.leads:
        save_label_map(options.out, tokenizer)
        if held_out:
            _report(tokenizer, held_out)


def _check(options: argparse.Namespace) -> None:
    in_range(1, MAX_THREADS, threads=options.threads)
    in_range(1, steps=options.steps, batch=options.batch, codebook=options.codebook, limit=options.limit)
    in_range(0, 1, rate=options.rate, occlude=options.occlude)
    in_range(0, 2**32 - 1, seed=options.seed)


def _report(tokenizer: LabelMapTokenizer, people: Sequence[np.ndarray]) -> None:
    """Print the round trip of whole people, and of people of whom a part is hidden."""
    size = (tokenizer.config.height, tokenizer.config.width)
    for title, occlude in (("as they are", 0.0), ("partly hidden", 1.0)):
        rng = np.random.default_rng(0)  # the same crops at every call
        scores = round_trip(tokenizer, draw_many(people, rng, size, occlude, min(1000, 4 * len(people))))
        print(f"round trip, {title}: " + "  ".join(f"{name} {value:.4g}" for name, value in scores.items()))


def _gather(options: argparse.Namespace) -> tuple[list[np.ndarray], list[np.ndarray]]:
    if not options.data and not options.bank:
        raise RefHCMError("name at least one rpar.tsv file, or a bank with --bank")
    people = read_rows(options.data, options.limit, options.kind)
    held_out: list[np.ndarray] = []
    if options.bank:
        more, held_out = read_bank(options.bank, options.limit)
        people += more
    if not people:
        raise RefHCMError("nobody is left to train on: give more files or a larger bank.")
    if options.valid:
        held_out = read_rows([options.valid], options.limit, options.kind)
    return people, held_out


if __name__ == "__main__":
    main()
