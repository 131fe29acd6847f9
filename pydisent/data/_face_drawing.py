"""Cartoon faces painted from attributes and nuisance values: colours, and the order of painting."""

from __future__ import annotations

import numpy as np

from . import _face_body as body
from . import _face_features as features
from ._face_canvas import Canvas, Traits

ATTRIBUTES = tuple(
    """
    5_o_Clock_Shadow Arched_Eyebrows Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair
    Blond_Hair Bushy_Eyebrows Curly_Hair Double_Chin Eye_Makeup Eyeglasses Freckles Goatee
    Gray_Hair High_Cheekbones Long_Hair Mouth_Open Mustache Narrow_Eyes Pale_Skin Rosy_Cheeks
    Sideburns Smiling Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace
    Wearing_Necktie Wrinkles
    """.split()
)
NUISANCE = tuple(
    """
    yaw pitch roll shift_x shift_y scale light_x light_y light_strength skin_tone skin_warmth
    hair_tone iris_hue iris_tone clothes_hue clothes_strength clothes_tone background_hue
    background_strength background_tone accent_hue accent_tone face_width face_length jaw
    eye_spacing eye_size gaze_x gaze_y brow_height mouth_width parting
    """.split()
)
CHUNK_PIXELS = 32 * 64 * 64  # painted at once: their planes stay in the processor's cache


def paint(attributes: np.ndarray, nuisance: np.ndarray, side: int) -> np.ndarray:
    """Return pictures (N, 3, side, side) float32 in [0, 1].

    Parameters
    ----------
    attributes : numpy.ndarray
        (N, 32) bool, columns as `ATTRIBUTES`.
    nuisance : numpy.ndarray
        (N, 32) float32 in [-1, 1], columns as `NUISANCE`.
    side : int
        Pixels a side.
    """
    pictures = np.empty((len(attributes), 3, side, side), np.float32)
    step = max(CHUNK_PIXELS // side**2, 1)
    for start in range(0, len(pictures), step):
        part = slice(start, start + step)
        canvas = Canvas(traits_of(attributes[part], nuisance[part]), side)
        paint_face(canvas)
        np.clip(canvas.image, 0, 1, out=pictures[part])
    return pictures


def paint_face(canvas: Canvas) -> None:
    """Paint everything, from back to front."""
    body.paint_background(canvas)
    body.paint_back_hair(canvas)
    body.paint_body(canvas)
    body.paint_locks(canvas)
    body.paint_ears(canvas)
    body.paint_head(canvas)
    features.paint_marks(canvas)
    features.paint_stubble(canvas)
    features.paint_nose(canvas)
    features.paint_mouth(canvas)
    features.paint_beard(canvas)
    features.paint_eyes(canvas)
    body.paint_front_hair(canvas)
    features.paint_brows(canvas)
    body.paint_earrings(canvas)
    features.paint_glasses(canvas)
    body.paint_hat(canvas)


def traits_of(attributes: np.ndarray, nuisance: np.ndarray) -> Traits:
    """Name the columns (N, 32) of attributes and nuisance, and choose colours."""
    has = {
        name: column.astype(np.float32).reshape(-1, 1, 1)
        for name, column in zip(ATTRIBUTES, attributes.T)
    }
    of = {
        name: column.astype(np.float32).reshape(-1, 1, 1)
        for name, column in zip(NUISANCE, nuisance.T)
    }
    return Traits(has, of, _colours(has, of))


def _colours(has: dict[str, np.ndarray], of: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the colours of all parts, (N, 3, 1, 1) each."""
    unit = {name: (value[:, None] + 1) / 2 for name, value in of.items()}
    on = {name: value[:, None] for name, value in has.items()}
    count = len(unit["scale"])

    def fixed(*rgb: float) -> np.ndarray:
        return np.broadcast_to(np.array(rgb, np.float32).reshape(1, 3, 1, 1), (count, 3, 1, 1))

    def mix(one: np.ndarray, other: np.ndarray, share: np.ndarray | float) -> np.ndarray:
        return one + share * (other - one)

    skin = mix(fixed(0.92, 0.69, 0.53), fixed(0.50, 0.31, 0.21), unit["skin_tone"])
    skin = skin * (1 + fixed(0.01, -0.01, -0.05) * of["skin_warmth"][:, None])
    pale = mix(fixed(0.99, 0.885, 0.82), fixed(0.95, 0.82, 0.75), unit["skin_tone"])
    skin = mix(skin, pale, on["Pale_Skin"])

    tone = of["hair_tone"][:, None]
    hair = mix(fixed(0.36, 0.20, 0.11), fixed(0.66, 0.27, 0.10), unit["hair_tone"])
    for name, colour in (
        ("Black_Hair", fixed(0.085, 0.075, 0.095) * (1 + 0.25 * tone)),
        ("Blond_Hair", fixed(0.96, 0.78, 0.36) * (1 + fixed(0.03, 0.06, 0.2) * tone)),
        ("Gray_Hair", fixed(0.70, 0.71, 0.74) * (1 + 0.12 * tone)),
    ):
        hair = mix(hair, colour, on[name])

    lips = skin * fixed(0.86, 0.53, 0.56)
    accent = _from_hue(unit["accent_hue"], 0.62, 0.62 + 0.18 * of["accent_tone"][:, None])
    return {
        "skin": skin,
        "nose": skin * fixed(1.02, 0.93, 0.91),
        "blush": skin * fixed(1.05, 0.52, 0.52),
        "hair": hair,
        "brows": hair * 0.62,
        "beard": hair * 0.78,
        "lips": mix(lips, fixed(0.82, 0.07, 0.19), on["Wearing_Lipstick"]),
        "throat": fixed(0.27, 0.06, 0.08),
        "tongue": fixed(0.80, 0.36, 0.38),
        "iris": _from_hue(
            0.08 + 0.52 * unit["iris_hue"], 0.62, 0.52 + 0.16 * of["iris_tone"][:, None]
        ),
        "lashes": fixed(0.10, 0.07, 0.09),
        "eye_shadow": mix(fixed(0.42, 0.30, 0.68), fixed(0.25, 0.48, 0.66), unit["accent_tone"]),
        "white": fixed(0.97, 0.97, 0.98),
        "gold": fixed(0.98, 0.80, 0.30),
        "frame": mix(fixed(0.10, 0.10, 0.12), fixed(0.32, 0.13, 0.08), unit["accent_tone"]),
        "clothes": _from_hue(
            unit["clothes_hue"],
            0.25 + 0.35 * unit["clothes_strength"],
            0.62 + 0.22 * of["clothes_tone"][:, None],
        ),
        "necktie": accent,
        "hat": accent * 0.85,
        "ribbon": mix(fixed(0.94, 0.90, 0.80), fixed(0.16, 0.14, 0.18), unit["accent_tone"]),
        "background": _from_hue(
            unit["background_hue"],
            0.06 + 0.28 * unit["background_strength"],
            0.80 + 0.12 * of["background_tone"][:, None],
        ),
    }


def _from_hue(
    hue: np.ndarray, saturation: np.ndarray | float, value: np.ndarray | float
) -> np.ndarray:
    """Return colours (N, 3, 1, 1) of hue, saturation and value (N, 1, 1, 1) each."""
    sixths = hue * 6 + np.array([0, 4, 2], np.float32).reshape(1, 3, 1, 1)
    sixths = sixths - 6 * np.floor(sixths / 6)
    pure = np.clip(np.abs(sixths - 3) - 1, 0, 1)
    return (value * (1 - saturation * (1 - pure))).astype(np.float32)
