"""SDS and R-CNN: regions are proposed, cropped, classified, and refined.

Hariharan, Arbeláez, Girshick, Malik, "Simultaneous Detection and Segmentation", ECCV 2014. The network of one
crop is `kseg.models.SDS`; here lie what trains it, phase by phase, and what finds objects with it.
"""
