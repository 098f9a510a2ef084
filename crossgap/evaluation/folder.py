"""The folder of an evaluation: claimed by its settings, each dataset kept when it is done, later added to."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from crossgap.compute import Compute
from crossgap.datasets.known.table import SPECS
from crossgap.datasets.readers.feature_files import FeatureTable
from crossgap.datasets.readers.stored import digests_shared
from crossgap.datasets.tasks import Dataset
from crossgap.encoders.protocol import Encoder
from crossgap.errors import InputError
from crossgap.evaluation.jobs import Job
from crossgap.evaluation.plan import EvaluationConfig, InversionPlan
from crossgap.evaluation.result import Evaluation
from crossgap.evaluation.run import evaluate
from crossgap.files import read_json, write_json
from crossgap.inversion.config import InversionBatch, InversionConfig
from crossgap.processes import ALONE, Processes
from crossgap.progress import ItemProgress
from crossgap.provenance import Provenance
from crossgap.settings.same import check_same, differences
from crossgap.settings.strict import strict


def folder_name(number: int, dataset: str) -> str:
    """Name the folder of a dataset: the n-th that a call measures."""
    if dataset in SPECS:
        return dataset
    return f"{number:02d}-{re.sub('[^A-Za-z0-9.]+', '-', dataset)[-60:].strip('-.')}"


def measure_once(
    source: Encoder | FeatureTable,
    job: Job,
    test: Dataset | None,
    *,
    folder: Path,
    config: EvaluationConfig,
    settings_hash: str,
    on_val: bool,
    provenance: Provenance,
    cache: Path,
    compute: Compute,
) -> Evaluation:
    """Measure a dataset and keep what was measured in ``folder``, or read what was kept there.

    Args:
        test: the split that is reported, where it is loaded already.
        settings_hash: of ``config`` as it was asked for.
        on_val: choose settings on split val, where there is one.
    """
    kept = Evaluation.read(folder, None if test is None else test.hash, settings_hash)
    if not compute.processes.any(kept is None) and kept is not None:
        return kept
    with digests_shared(compute.processes):
        test = test or job.tested()
        val = job.validation() if on_val else None
    with ItemProgress() as progress:
        evaluation = evaluate(
            source,
            test,
            val,
            config=config,
            provenance=provenance,
            cache=cache,
            progress=progress.start,
            compute=compute,
        )
    if compute.processes.first:
        evaluation.keep(folder, test.hash, settings_hash)
    return evaluation


def claim(
    out: Path, settings: dict[str, Any], configs: Mapping[str, EvaluationConfig], processes: Processes = ALONE
) -> tuple[dict[str, EvaluationConfig], dict[str, Any]]:
    """Mark ``out`` as the folder of this evaluation, or go on in it, or add to it.

    Where nothing was finished, other settings take the place of those that were there. Returned are the
    evaluations, which take from the batches of earlier ones what was inverted there, and what to write into
    ``evaluation.json`` when they are done: a call that adds and fails leaves what was there as it was.

    Raises:
        InputError: it holds another evaluation (what differs is listed) or something else.
    """
    path = out / "evaluation.json"
    asked = json.loads(json.dumps(settings))
    before: dict[str, Any] = {}
    batches: dict[str, Any] = {}
    if path.exists():
        before = read_json(path)
        batches = before.pop("batches", {})
        if not list(out.glob("datasets/*/result.json")):
            before = {}
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} holds other things than an evaluation; choose another --out")
    if before and before != asked:
        _check_added(out, before, asked)
    kept = {}
    for name, config in configs.items():
        earlier = batches.get(name, {}) if before else {}
        plans = {
            into: replace(
                plan,
                within=strict(
                    earlier.get(into, []), tuple[InversionBatch, ...], f"{path}: batches.{name}.{into}"
                ),
            )
            for into, plan in config.plans.items()
        }
        plans = {
            into: replace(
                plan, within=tuple(dict.fromkeys((*plan.within, *(batch for batch, _ in plan.made_in(into)))))
            )
            for into, plan in plans.items()
        }
        kept[name] = replace(config, plans=plans)
    used = {
        name: {into: [asdict(batch) for batch in plan.within] for into, plan in config.plans.items()}
        for name, config in kept.items()
    }
    document = {**asked, "batches": json.loads(json.dumps(used))}
    if not before and processes.first:
        write_json(path, document)
    return kept, document


def _check_added(out: Path, before: dict[str, Any], given: dict[str, Any]) -> None:
    """Refuse settings that differ from earlier ones otherwise than by more of what was measured.

    Raises:
        InputError: names what differs, or what is left out.
    """
    check_same(out, before | {"evaluation": None}, given | {"evaluation": None})
    for name, earlier in before["evaluation"].items():
        now = given["evaluation"].get(name)
        if now is None:
            check_same(out, before, given)
        old, new = (
            strict({**values, "plans": {}}, EvaluationConfig, f"{out / 'evaluation.json'}: {name}")
            for values in (earlier, now)
        )
        check_same(
            out,
            asdict(replace(old, routes=(), probes=())),
            asdict(replace(new, routes=(), probes=())),
        )
        gone = [f"route {route}" for route in old.routes if route not in new.routes]
        gone += [f"probe {probe}" for probe in old.probes if probe not in new.probes]
        for into, values in earlier["plans"].items():
            if into not in now["plans"]:
                gone.append(f"inversion into {into}")
                continue
            plan, wanted = (
                strict(entry, InversionPlan, f"{out / 'evaluation.json'}: {name}.{into}")
                for entry in (values, now["plans"][into])
            )
            lost = [step for step in plan.snapshots if step not in wanted.snapshots]
            gone += [f"steps {lost} of inversion into {into}"] if lost else []
            there = {replace(config, steps=0) for config in wanted.configs}
            gone += [
                f"inversion into {into} ({_nearest(config, wanted.configs)})"
                for config in plan.configs
                if replace(config, steps=0) not in there
            ]
        if gone:
            shown = "; ".join(gone[:4]) + (f"; and {len(gone) - 4} more" if len(gone) > 4 else "")
            raise InputError(
                f"{out} was measured with other settings, which this call leaves out: {shown}; name them too "
                "to add to what is there, or give another --out"
            )


def _nearest(config: InversionConfig, wanted: Sequence[InversionConfig]) -> str:
    """Say how a setting differs from the one most like it among those that are wanted."""
    by_wanted = [
        list(differences(asdict(config), asdict(replace(other, steps=config.steps)))) for other in wanted
    ]
    fewest: list[str] = min(by_wanted, key=len)
    return "; ".join(fewest)
