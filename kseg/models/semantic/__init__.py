"""Networks that give a class to every pixel.

Each takes float32 NHWC images of any size and gives float32 logits of the same height and width.
"""
