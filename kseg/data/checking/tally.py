"""What the checks of both layouts share: facts of single images, gathered into the findings of a report."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kseg.data.checking import conditions
from kseg.data.checking.facts import Facts
from kseg.data.checking.report import Report, SplitReport
from kseg.data.counting.counts import ClassCounts
from kseg.data.ids import likely_fix, listed
from kseg.data.pictures import listing
from kseg.data.pictures.palette import Palette, hex_color, unpack
from kseg.spec import Spec
from kseg.text import printable

MOST_VOID = 0.5
_SHOWN_COLORS = 8
# Of one mask; a photograph among the masks has as many colours as pixels.
_MOST_COLORS = 1000
# Code of a fault of single files -> what is wrong with them, what to do.
_FILE_FAULTS = {
    "missing_image": ("that the annotations list are missing", "Restore them, or remove their records"),
    "missing_mask": ("have no mask", "Add labels/SPLIT/NAME.png for each, or remove the image"),
    "unreadable_image": ("cannot be read as images", "Restore or remove them"),
    "unreadable_mask": ("cannot be read as masks", "Restore or remove them"),
    "lossy_mask": (
        "are masks with lossy compression (JPEG), which changes ids near edges",
        "Export them again as PNG from the original annotation; converting the JPEG does not help",
    ),
    "overlapping_instances": (
        "have more objects on top of each other than memory is given",
        "List each object once: an image that stands several times in a file brings its objects each time",
    ),
    "size_mismatch": (
        "have a mask or a recorded size that differs from the image",
        "Resize masks with nearest neighbour, or pair the right files",
    ),
    "orientation": (
        "are turned by an EXIF tag, and nothing tells whether their truth is turned too",
        'Write "mask_orientation": "as_shown" or "as_stored" into classes.json (COCO: at the top of '
        "instances_SPLIT.json), or save the images turned and without the tag",
    ),
}


def own_palette(spec: Spec) -> Palette:
    """Return the palette that the spec carries for pictures."""
    colors = dict(zip(reversed(spec.palette), reversed(range(spec.num_classes)), strict=True))
    return Palette(tuple(colors.items()), spec.classes)


def add_split_findings(report: Report, path: Path, filled: Sequence[str], told: Sequence[str] = ()) -> None:
    """Report folders below `images/` without a usable image, and `train` or `val` that are missing.

    Folders that are `told` have a finding of their own. An empty `train` is a missing one.
    """
    for folder in listing.subfolders(path / "images"):
        if folder.name not in (*filled, *told, conditions.TRAIN):
            report.add(
                "warning",
                "empty_split",
                f"Folder images/{printable(folder.name)} holds no image that can be used",
                "Copy the images again, or remove the folder",
                details={"split": folder.name},
            )
    add_missing_splits(report, filled)


def add_missing_splits(report: Report, filled: Sequence[str]) -> None:
    """Report that there is nothing to train or to validate on."""
    found = printable(", ".join(sorted(filled))) or "nothing"
    if conditions.TRAIN not in filled:
        text = f"There is no image in split 'train' (found: {found})"
        report.add("error", "no_train_split", text, "Training needs it")
    if conditions.validation_split(filled) is None:
        text = f"There is no image in split 'val' (found: {found})"
        fix = "Keep some images apart in images/val: early stopping and the best checkpoint need them"
        report.add("warning", "no_val_split", text, fix)


def add_special(report: Report, path: Path, files: Sequence[Path]) -> None:
    """Report pipes, sockets and devices among the images."""
    if files:
        report.add(
            "warning",
            "special_file",
            f"{len(files)} files are pipes, sockets or devices, and are left out",
            "Remove them, or put the images there",
            files=[printable(file.relative_to(path).as_posix()) for file in files],
        )


class Tally:
    """Gathers the facts of all images into `report`."""

    def __init__(self, report: Report, spec: Spec, palette: Palette | None = None) -> None:
        self.report, self.spec, self.palette = report, spec, palette or own_palette(spec)
        self._faults: dict[str, list[tuple[str, str]]] = defaultdict(list)
        self._colors: Counter[int] = Counter()
        self._unknown: Counter[int] = Counter()
        self._wrong_files: dict[int, list[str]] = defaultdict(list)
        self._first_seen: dict[str, tuple[str, str]] = {}
        self._across: list[tuple[str, str]] = []
        self._within: list[tuple[str, str]] = []

    def split(self, name: str) -> SplitReport:
        """Return the statistics of a split, made on first use."""
        if name not in self.report.splits:
            counts = ClassCounts(self.spec.num_classes, self.spec.ignore_id)
            self.report.splits[name] = SplitReport(counts)
        return self.report.splits[name]

    def add(self, facts: Facts) -> None:
        """Take in one image."""
        split = self.split(facts.split)
        split.images += 1
        for code, path, text in facts.faults:
            self._faults[code].append((path, text))
        self._colors.update(dict(Counter(facts.colors).most_common(_MOST_COLORS)))
        self._unknown.update(dict(Counter(facts.unknown).most_common(_MOST_COLORS)))
        if facts.size is not None:
            split.sizes[facts.size] += 1
        if facts.instances:
            split.instances = (split.instances or 0) + facts.instances
        if facts.counts is not None:
            split.counts.add(facts.counts)
            for index in facts.counts:
                if not 0 <= index < self.spec.num_classes and index != self.spec.ignore_id:
                    self._wrong_files[index].append(facts.mask_where or facts.where)
        if facts.digest is not None:
            first = self._first_seen.setdefault(facts.digest, (facts.split, facts.where))
            if first[1] != facts.where:
                (self._within if first[0] == facts.split else self._across).append((first[1], facts.where))

    def finish(self) -> None:
        """Turn what was gathered into findings."""
        usual = ("train", "val", "test")
        rank = {name: index for index, name in enumerate(usual)}
        ordered = sorted(
            self.report.splits.items(), key=lambda item: (rank.get(item[0], len(usual)), item[0])
        )
        self.report.splits = dict(ordered)
        self._add_file_faults()
        self._add_colors()
        self._add_wrong_ids()
        self._add_class_findings()
        self._add_duplicates()
        self._add_sizes()

    def _add_file_faults(self) -> None:
        for code, (what, fix) in _FILE_FAULTS.items():
            found = self._faults.get(code)
            if found:
                first = f"; the first: {found[0][1]}" if found[0][1] else ""
                self.report.add(
                    "error",
                    code,
                    f"{len(found)} file(s) {what}{first}",
                    fix,
                    files=[path for path, _ in found],
                )

    def _add_colors(self) -> None:
        found = self._faults.get("color_mask")
        if found:
            colors = self._colors.most_common(_SHOWN_COLORS)
            names = ", ".join(hex_color(unpack(code)) for code, _ in colors)
            # Black is the usual void, which classes.json gives apart from the palette.
            if all(entry.color == (0, 0, 0) for entry in self.palette.unknown_counts(self._colors)):
                fix = 'The palette in classes.json explains all of them: write "color_masks": true there'
            else:
                fix = (
                    'Write "color_masks": true and the colour of each class, as "palette", into '
                    "classes.json; to try one out: --palette FILE with a line `R G B NAME` for each class"
                )
            self.report.add(
                "error",
                "color_mask",
                f"{len(found)} masks hold {len(self._colors)} colours, not class ids. Most frequent: {names}",
                f"{fix} (in Python: palette=...)",
                files=[path for path, _ in found],
                details={
                    "colors": [{"color": list(unpack(code)), "pixels": count} for code, count in colors]
                },
            )
        found = self._faults.get("unknown_color")
        if found:
            entries = self.palette.unknown_counts(self._unknown)
            shown = "; ".join(map(str, entries[:4]))
            self.report.add(
                "error",
                "unknown_color",
                f"{len(found)} masks have {len(entries)} colours that are not in the palette: {shown}",
                "Add them to the palette file; many colours near a known one mean anti-aliased or JPEG masks",
                files=[path for path, _ in found],
                details={"colors": [dataclasses.asdict(entry) for entry in entries[:_SHOWN_COLORS]]},
            )

    def _add_wrong_ids(self) -> None:
        if not self._wrong_files:
            return
        wrong = set(self._wrong_files)
        seen = set(wrong)
        pixels: Counter[int] = Counter()
        for split in self.report.splits.values():
            seen |= set(np.flatnonzero(split.counts.pixels).tolist())
            pixels.update(split.counts.other)
        files = sorted({path for paths in self._wrong_files.values() for path in paths})
        self.report.add(
            "error",
            "ids_out_of_range",
            f"{len(files)} masks have ids that are no class: {listed(wrong)}. Classes are 0-"
            f"{self.spec.num_classes - 1}, void is {self.spec.ignore_id}",
            likely_fix(wrong, seen, self.spec.num_classes, self.spec.ignore_id)
            + '. An id_map stands in classes.json, as {"old": new}, or goes to kseg.data.open',
            files=files,
            details={
                "ids": {
                    str(index): {"pixels": pixels[index], "files": len(self._wrong_files[index])}
                    for index in sorted(wrong)
                }
            },
        )

    def _add_class_findings(self) -> None:
        unmet = conditions.of_classes(self.spec)
        if unmet is not None:
            self.report.add("error", unmet.code, unmet.text, unmet.fix)
        for name, split in self.report.splits.items():
            counts = split.counts
            if not counts.images or counts.other:
                continue  # without masks, or with ids to repair first, shares mean nothing
            if not counts.valid:
                unmet = conditions.of_void(name)
                stops = conditions.stops_training(name, self.report.splits)
                self.report.add("error" if stops else "warning", unmet.code, unmet.text, unmet.fix)
                continue
            if counts.void_share() > MOST_VOID:
                text = (
                    f"{counts.void_share():.0%} of the pixels of split '{printable(name)}' are void and "
                    "teach nothing"
                )
                self.report.add("warning", "mostly_void", text, "Check `void_id` and the palette")
            self._add_absent(name, split)

    def _add_absent(self, name: str, split: SplitReport) -> None:
        """Report classes that never occur in a split; one class alone in train teaches nothing."""
        counts = split.counts
        absent = [printable(self.spec.classes[index]) for index in np.flatnonzero(counts.pixels == 0)]
        if not absent:
            return
        details = {"split": name, "classes": absent}
        unmet = None
        if name == conditions.TRAIN:
            unmet = conditions.of_training(counts, self.spec, pasted=bool(split.instances))
        if unmet is not None:
            self.report.add("error", unmet.code, unmet.text, unmet.fix, details=details)
            return
        where = f"the {counts.images} images read of split" if self.report.limit else "split"
        text = f"{len(absent)} classes never occur in {where} '{name}': {', '.join(absent[:12])}; "
        if name == "train" and not self.report.limit:
            text += "they will never be predicted"
            fix = "Add images that show them, or remove the classes"
            self.report.add("warning", "absent_class", text, fix, details=details)
        else:
            self.report.add("info", "absent_class", f"{text}their score there is undefined", details=details)

    def _add_duplicates(self) -> None:
        self._add_pairs(
            self._across,
            "warning",
            "duplicates_across_splits",
            "images stand in two splits, so scores will be too good",
            "Remove them from one split",
        )
        self._add_pairs(
            self._within, "info", "duplicates_within_split", "images stand twice in one split", ""
        )

    def _add_pairs(self, pairs: list[tuple[str, str]], severity: str, code: str, what: str, fix: str) -> None:
        if pairs:
            self.report.add(
                severity,
                code,
                f"{len(pairs)} {what}; the first: {pairs[0][0]} = {pairs[0][1]}",
                fix,
                files=[second for _, second in pairs],
                details={"pairs": [list(pair) for pair in pairs[:20]]},
            )

    def _add_sizes(self) -> None:
        sizes: Counter[tuple[int, int]] = Counter()
        for split in self.report.splits.values():
            sizes.update(split.sizes)
        if len(sizes) > 1:
            small, large = (pick(sizes, key=lambda size: size[0] * size[1]) for pick in (min, max))
            self.report.add(
                "info",
                "sizes",
                f"Images have {len(sizes)} sizes (height x width), from {small[0]}x{small[1]} "
                f"to {large[0]}x{large[1]}",
                "Give --size HxW; training crops or resizes to it",
            )
