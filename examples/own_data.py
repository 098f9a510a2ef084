"""Data of your own: mAP by route with intervals, on folders of class folders and on tables of captions.

    python examples/own_data.py --data photos/ captions.csv --encoder ViT-B-32 --pretrained openai
    python examples/own_data.py

The second writes emoji of a few subgroups as your data would lie (``train/CLASS/NAME.png``, ``test/...``, and
``captions.csv`` with path, text, label, split), and measures a small CLIP that it trains on other concepts.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd

from crossgap.command import run_command
from crossgap.datasets import Dataset, load_dataset
from crossgap.datasets.split import MissingSplit
from crossgap.encoders import load_encoder
from crossgap.encoders.devices import use_threads
from crossgap.evaluation import EvaluationConfig, InversionPlan, evaluate
from crossgap.inversion.presets import preset
from crossgap.metrics.intervals import mean_interval, paired_difference
from crossgap.provenance import Provenance, config_hash
from pretrain.recipes import RECIPES
from pretrain.run import train

ROUTES = ("native", "oti", "ovi", "centred", "class_pca")  # ovi where there are texts to find by texts


def write_data(folder: Path, classes: int) -> tuple[Path, Path]:
    """Write emoji of the most common subgroups as images by class, and a table of the same with captions."""
    lines, kept = [], set()
    for source, split in (("test", "test"), ("val", "train")):  # neither holds what the small CLIP sees
        tasks = {task.name: task for task in load_dataset("emoji", split=source).tasks}
        task, names = tasks["image-subgroup"], tasks["text-concept"].query
        kept = kept or {label for label, _ in Counter(task.query.labels).most_common(classes)}
        caption = dict(zip(names.groups, names.texts(), strict=True))
        for items in (task.query, task.gallery):
            for place, (name, label) in enumerate(zip(items.ids, items.labels, strict=True)):
                if label in kept:
                    path = folder / split / label / f"{name.replace('/', '-')}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    items.image(place).save(path)
                    lines.append((path.relative_to(folder), caption[items.groups[place]], label, split))
    table = pd.DataFrame(lines, columns=["path", "text", "label", "split"])
    table.to_csv(folder / "captions.csv", index=False)
    return folder, folder / "captions.csv"


def validation(data: Path, limit: int | None) -> Dataset | None:
    """Load split val, on which steps and strengths are chosen, where there is one."""
    try:
        return load_dataset(str(data), split="val", limit=limit)
    except MissingSplit:
        return None


def main(
    data: tuple[Path, ...] = (),
    encoder: str | None = None,
    pretrained: str | None = None,
    out: Path = Path("runs/own-data"),
    classes: int = 12,
    limit: int | None = 240,
    train_steps: int = 200,
    steps: int = 50,
    seed: int = 0,
    threads: int | None = 1,
) -> dict[str, pd.DataFrame]:
    """Measure an encoder on data; write rows, print and return a table of routes for each.

    Args:
        data: folders, tables, shards, as --dataset of crossgap.evaluate; default: emoji, written to out/data.
        encoder: as of crossgap.evaluate; default: a small CLIP, trained to out/clip.
        pretrained: as of crossgap.evaluate.
        out: folder for what is written.
        classes: of the emoji, the most common subgroups.
        limit: items to keep of each side, spread over the classes, as of crossgap.evaluate.
        train_steps: of the small CLIP.
        steps: of inversion.
        seed: of training and inversion noise.
        threads: of torch; more than one only slow a model as small as the default.
    """
    use_threads(threads)
    if encoder is None:
        recipe = RECIPES["baseline"]()
        small = replace(recipe.model, width=32, layers=2, heads=2, embed_dim=32)
        recipe = replace(recipe, steps=train_steps, batch_size=64, seed=seed, model=small)
        train(recipe, out / "clip", progress=False)
    model = load_encoder(encoder or str(out / "clip"), pretrained)
    plans = {}
    for into in ("text", "image"):
        config = replace(preset(model.name, into), steps=steps, seed=seed)
        plans[into] = InversionPlan(config=config, token_counts=(config.num_tokens,), snapshots=(steps,))
    config = EvaluationConfig(routes=ROUTES, plans=plans, seed=seed)
    about = {"encoder": model.fingerprint, "limit": limit, "steps": steps, "seed": seed}
    provenance = Provenance(study="own data", arm=model.name, seed=seed, config_hash=config_hash(about))
    tables, by = {}, ["task", "route"]
    for path in data or write_data(out / "data", classes):
        test, val = load_dataset(str(path), limit=limit), validation(path, limit)
        found = evaluate(model, test, val, config=config, provenance=provenance, cache=out / "features")
        found.write(out / "measured" / path.name)
        values = found.tables["per_query"].query("metric == 'mAP' and selection != 'curve'")
        gains = paired_difference(values, values.query("route == 'native'"), on=["task"], by=by)
        table = mean_interval(values, by).merge(mean_interval(gains, by), on=by, suffixes=("", "_gain"))
        tables[str(path)] = table
        print(f"{path}: mAP in % and gain over native features in points, with 95 % intervals over classes")
        for row in table.itertuples():
            one = [100 * number for number in (row.value, row.low, row.high)]
            gain = [100 * number for number in (row.value_gain, row.low_gain, row.high_gain)]
            gained = "" if row.route == "native" else "{:+.2f} [{:+.2f}, {:+.2f}]".format(*gain)
            numbers = "{:.2f} [{:.2f}, {:.2f}]".format(*one)
            print(f"  {row.task:12} {row.route:10} {numbers:22} {gained:24} {row.n_queries:.0f} queries")
        for name, reason in found.skipped.items():
            print(f"  not measured: {name}: {reason}")
    if encoder is None:
        print(f"a tiny CLIP of {train_steps} steps: its numbers show the path and are no result")
    print(f"one model, seed {seed}; intervals know nothing of other seeds. Rows: {out / 'measured'}")
    return tables


if __name__ == "__main__":
    sys.exit(run_command(main))
