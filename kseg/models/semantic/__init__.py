"""Networks that give a class to every pixel: float32 `(B, H, W, 3)` -> float32 logits `(B, H, W, classes)`."""
