from dataclasses import dataclass
@dataclass(frozen=True)
class Config:
    backbone: str = "MobileNet-0.25"
    weights: str = "letters_in_photos"
    image_size: int = 96
    strides: tuple = (8, 16, 32)
    width: int = 48
    depth: int = 2
