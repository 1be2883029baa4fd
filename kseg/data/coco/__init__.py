"""COCO's instance files: the one reader of their records, and segmentations to masks."""
