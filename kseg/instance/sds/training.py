"""SDS trained in phases, each written to disk: networks, features, SVMs, refiner, then one file of all."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import msgspec
import numpy as np
from numpy.typing import NDArray

from kseg import archives, data, files, saving
from kseg.data.detections import Detections
from kseg.data.proposals import StoredProposer
from kseg.data.sample import evenly
from kseg.instance import pasting
from kseg.instance.sds.batches import RegionBatches
from kseg.instance.sds.box_regression import train_moves
from kseg.instance.sds.candidates import Candidates
from kseg.instance.sds.config import BOX_ALONE, SDSConfig
from kseg.instance.sds.features import Features
from kseg.instance.sds.outputs import LOGITS, MARGINS
from kseg.instance.sds.phases import Phases
from kseg.instance.sds.predictor import RegionPredictor, proposed
from kseg.instance.sds.recipe import KEY, Search
from kseg.instance.sds.refiner_training import Refiner, train_refiner
from kseg.instance.sds.svms import Linear, train_svms
from kseg.instance.sds.tuning import joined, tune
from kseg.layers.policy import dtype_policy
from kseg.models import create, transfer
from kseg.models.instance.sds import BOX, PATHWAYS, REGION
from kseg.progress import Say, said, to_stderr
from kseg.spec import Spec
from kseg.training import record

Arrays = dict[str, NDArray[Any]]
_SAID_EVERY = 20
# Images on which the semantic output is tuned.
_PASTED = 50


def train_sds(config: SDSConfig, say: Say | None = None) -> dict[str, Any]:
    """Train a system and write the run folder `config.out`: `model.keras`, `run.json` and `history.csv`.

    Phases: regions are proposed (kept in kseg's cache), the pathways are tuned by `model.fit`, features of
    all regions are computed, then box regression, SVMs and refiner are trained. What a phase makes lies below
    `phases/` until all is done; a run that was stopped goes on behind it with `resume=True`.

    Args:
        config: see `SDSConfig`.
        say: prints one line of progress. None: to stderr.

    Returns:
        What `run.json` holds under `"phases"`: what each phase says, and its seconds.

    Raises:
        UsageError: an argument is wrong, the folder is in use, or the arguments of a resumed run differ.
        DataError: the data is wrong, or has no object.
        MissingExtraError: if a library is not installed (`kseg[sds]`).
        TrainingDivergedError: if a loss is no number.

    Example:
        >>> train_sds(SDSConfig(data="coco", out="runs/sds", variant="B"))
    """
    say = say or to_stderr
    source = data.open(config.data)
    source.check_split(config.split)
    samples = source.samples(config.split, limit=config.limit)
    search = config.search()
    spec = samples.spec.replace(task="proposals", input_size=(config.size, config.size))
    about = {"source": config.data, "fingerprint": source.fingerprint, "splits": dict(source.splits)}
    # What the network refuses is said before a folder is made.
    system = _System(config, spec, say)
    with Phases(config, {**about, "train_images": len(samples)}, say) as phases:
        start = time.perf_counter()
        candidates = Candidates(
            samples,
            StoredProposer(search.proposer()),
            search.count,
            spec,
            system.size,
            said(say, _SAID_EVERY),
        )
        phases.done("proposals", start, _counts(candidates))
        system.tune(phases, candidates)
        features = system.learn(phases, candidates)
        _write(system, search, phases, candidates, features)
        return phases.finish()


def _counts(candidates: Candidates) -> dict[str, int]:
    objects = sum(len(found.classes) for found in candidates.overlaps)
    regions = sum(map(len, candidates.overlaps)) - objects
    return {"images": len(candidates), "objects": objects, "regions": regions}


class _System:
    """The network of a run, and what is learned over it."""

    def __init__(self, config: SDSConfig, spec: Spec, say: Say) -> None:
        self.config, self.spec, self._say = config, spec, say
        self.size = (config.size, config.size)
        self._pathways = (BOX,) if config.variant == BOX_ALONE else PATHWAYS
        self._svms: Linear | None = None
        self.refiner: Refiner | None = None
        self._moves: Linear | None = None
        keras.utils.set_random_seed(config.seed)
        self._network = self._made(self._pathways)

    def _made(self, pathways: Sequence[str], **options: Any) -> keras.Model:
        with dtype_policy("float32"):
            return self._create(pathways, **options)

    def _create(self, pathways: Sequence[str], **options: Any) -> keras.Model:
        return create(
            "SDS",
            input_shape=(*self.size, 4),
            num_classes=self.spec.num_classes,
            pathways=list(pathways),
            trunk=self.config.trunk,
            width=self.config.width,
            **options,
        )

    def tune(self, phases: Phases, candidates: Candidates) -> None:
        """Tune the pathways as the variant says."""
        tuned = functools.partial(self._tuned, phases, candidates)
        variant = self.config.variant
        box = tuned(BOX, BOX, [BOX])
        if variant == BOX_ALONE:
            self._network = box
            return
        region = box if variant == "A" else tuned(REGION, REGION, [REGION])
        self._network = joined(lambda: self._made(PATHWAYS), box, region)
        if variant == "C":
            self._network = tuned("joint", REGION, PATHWAYS, start=self._network)

    def _tuned(
        self,
        phases: Phases,
        candidates: Candidates,
        name: str,
        by: str,
        pathways: Sequence[str],
        start: keras.Model | None = None,
    ) -> keras.Model:
        """Return a network that was trained on crops, labelled by one of the overlaps, in float32."""
        config = self.config

        def make() -> tuple[keras.Model, dict[str, Any]]:
            keras.utils.set_random_seed(config.seed)
            with dtype_policy(config.precision):
                network = self._create(pathways)
            if start is not None:
                transfer(start, network)
            batches = RegionBatches(
                candidates, by, images=config.images, per_image=config.per_image, seed=config.seed
            )
            history = tune(
                network,
                batches,
                epochs=config.epochs,
                learning_rate=config.learning_rate,
                logits_rate=config.logits_rate,
                name=f"pathway {name}" if start is None else "both pathways",
                say=self._say,
            )
            plain = self._made(pathways)
            transfer(network, plain)
            return plain, history

        return phases.kept(
            name, make, lambda path, network: saving.save(network, path, self.spec), saving.load, ".keras"
        )

    def learn(self, phases: Phases, candidates: Candidates) -> Features:
        """Compute the features of all regions, train what decides and corrects on them; return them."""
        features = Features(phases.folder / "features", len(candidates))
        start, progress = time.perf_counter(), said(self._say, _SAID_EVERY)
        features.extract(self._network, candidates, progress)
        phases.done("features", start, {})
        classes, seed = self.spec.num_classes, self.config.seed

        def svms() -> tuple[Arrays, dict[str, Any]]:
            found, counts = train_svms(features, candidates.overlaps, classes, seed=seed, say=self._say)
            positives, negatives = (sum(column) for column in zip(*counts, strict=True))
            told = {
                "positives": positives,
                "negatives": negatives,
                "positives_negatives": dict(zip(self.spec.classes[1:], counts, strict=True)),
            }
            return {"weights": found.weights, "constants": found.constants}, told

        def refiner() -> tuple[Arrays, dict[str, Any]]:
            found = train_refiner(features, candidates, classes, seed=seed, say=self._say, progress=progress)
            return vars(found), {"rules": dict(zip(self.spec.classes[1:], found.rules.tolist(), strict=True))}

        def moves() -> tuple[Arrays, dict[str, Any]]:
            weights, constants, pairs = train_moves(
                self._network, candidates, classes, seed=seed, say=self._say, progress=progress
            )
            found = {"weights": weights.reshape(len(weights), -1), "constants": constants.reshape(-1)}
            told = dict(zip(self.spec.classes[1:], pairs.tolist(), strict=True))
            return found, {"boxes": int(pairs.sum()), "boxes_of_classes": told}

        if self.config.box_regression:
            self._moves = Linear(**phases.kept("moves", moves, _save, _load, ".npz"))
        if self.config.svms:
            self._svms = Linear(**phases.kept("svms", svms, _save, _load, ".npz"))
        if self.config.refines:
            self.refiner = Refiner(**phases.kept("refiner", refiner, _save, _load, ".npz"))
        return features

    def whole(self) -> keras.Model:
        """Return the network with its SVMs, box regression and coarse masks."""
        network = self._made(
            self._pathways,
            svms=self._svms is not None,
            refiner=self.refiner is not None,
            moves=self._moves is not None,
        )
        transfer(self._network, network)
        for name, head in (("svms", self._svms), ("moves", self._moves)):
            if head is not None:
                network.get_layer(name).set_weights([head.weights, head.constants])
        if self.refiner is not None:
            weights = self.refiner.weights
            network.get_layer("coarse").set_weights(
                [weights.reshape(len(weights), -1), self.refiner.constants.reshape(-1)]
            )
        return network


def _write(
    system: _System, search: Search, phases: Phases, candidates: Candidates, features: Features
) -> None:
    """Write the file of the whole system, its semantic output tuned on images that it learned from."""
    start = time.perf_counter()
    network, config = system.whole(), system.config
    recipe: dict[str, Any] = {KEY: {"search": msgspec.to_builtins(search)}}
    if system.refiner is not None:
        recipe[KEY]["superpixels"] = system.refiner.rules.tolist()
    for name in ("variant", "epochs", "learning_rate", "seed", "limit"):
        recipe[name] = getattr(config, name)
    info = network.info
    network.spec = system.spec.replace(
        architecture=info.architecture, arch_args=dict(info.arch_args), recipe=recipe
    )
    shown = evenly(range(len(candidates)), _PASTED)
    found = _found(network, candidates, features, shown, say=phases.say)
    recipe[pasting.KEY] = msgspec.to_builtins(pasting.tuned(found, config.segments))
    saving.save(network, phases.run / record.MODEL, network.spec.replace(recipe=recipe))
    phases.done("paste", start, recipe[pasting.KEY])


def _found(
    network: keras.Model, candidates: Candidates, features: Features, places: Sequence[int], say: Say
) -> Iterator[Detections]:
    """Yield the objects of images, unrefined, from features that are there already."""
    predictor = RegionPredictor(network, refine=False)
    heads = {
        name: network.get_layer(layer).get_weights()
        for name, layer in ((LOGITS, LOGITS), (MARGINS, "svms"))
        if name in network.output
    }
    for place in said(say, _SAID_EVERY)(places, len(places), "tuning the semantic output"):
        scene = candidates.scene(place)
        given = features.of(place)[len(scene.objects) :]
        seen = {name: given @ weights + constants for name, (weights, constants) in heads.items()}
        yield predictor.decide({**seen, **proposed(scene.proposals, scene.objects.size)})


def _save(path: Path, arrays: Arrays) -> None:
    with files.atomic(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def _load(path: Path) -> Arrays:
    where = f"'{path}'"
    with archives.open_archive(path, where=where, alien="is no whole archive") as archive:
        return dict(archives.read_arrays(archive, where=where))
