"""Cartoon faces from attributes and nuisance values: colours and painting order."""

from __future__ import annotations

import numpy as np

from pydisent.data import _face_body as body
from pydisent.data import _face_features as features
from pydisent.data._face_canvas import Canvas, Traits

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
CHUNK_PIXELS = 32 * 64 * 64  # painted at a time, so that their planes stay in the CPU's cache


def paint(attributes: np.ndarray, nuisance: np.ndarray, side: int) -> np.ndarray:
    """Return pictures (N, 3, side, side) float32 in [0, 1].

    Parameters
    ----------
    attributes : numpy.ndarray
        (N, 32) bool, columns as `ATTRIBUTES`.
    nuisance : numpy.ndarray
        (N, 32) float32 in [-1, 1], columns as `NUISANCE`.
    side : int
        Side in pixels.
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
    """Name the columns of attributes and nuisance (N, 32), and choose colours."""
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
    signed = {name: value[:, None] for name, value in of.items()}
    on = {name: value[:, None] for name, value in has.items()}
    skin, hair = _skin(unit, signed, on), _hair(unit, signed, on)
    return {
        **_face_colours(skin, hair, unit, signed, on),
        **_worn_colours(unit, signed),
        "background": _from_hue(
            unit["background_hue"],
            0.06 + 0.28 * unit["background_strength"],
            0.80 + 0.12 * signed["background_tone"],
        ),
    }


_Values = dict[str, np.ndarray]  # (N, 1, 1, 1) each


def _skin(unit: _Values, signed: _Values, on: _Values) -> np.ndarray:
    tone = unit["skin_tone"]
    skin = _mix(_rgb(0.92, 0.69, 0.53), _rgb(0.50, 0.31, 0.21), tone)
    skin = skin * (1 + _rgb(0.01, -0.01, -0.05) * signed["skin_warmth"])
    pale = _mix(_rgb(0.99, 0.885, 0.82), _rgb(0.95, 0.82, 0.75), tone)
    return _mix(skin, pale, on["Pale_Skin"])


def _hair(unit: _Values, signed: _Values, on: _Values) -> np.ndarray:
    tone = signed["hair_tone"]
    hair = _mix(_rgb(0.36, 0.20, 0.11), _rgb(0.66, 0.27, 0.10), unit["hair_tone"])
    for name, colour in (
        ("Black_Hair", _rgb(0.085, 0.075, 0.095) * (1 + 0.25 * tone)),
        ("Blond_Hair", _rgb(0.96, 0.78, 0.36) * (1 + _rgb(0.03, 0.06, 0.2) * tone)),
        ("Gray_Hair", _rgb(0.70, 0.71, 0.74) * (1 + 0.12 * tone)),
    ):
        hair = _mix(hair, colour, on[name])
    return hair


def _face_colours(
    skin: np.ndarray, hair: np.ndarray, unit: _Values, signed: _Values, on: _Values
) -> _Values:
    count = len(skin)
    lips = skin * _rgb(0.86, 0.53, 0.56)
    return {
        "skin": skin,
        "nose": skin * _rgb(1.02, 0.93, 0.91),
        "blush": skin * _rgb(1.05, 0.52, 0.52),
        "hair": hair,
        "brows": hair * 0.62,
        "beard": hair * 0.78,
        "lips": _mix(lips, _rgb(0.82, 0.07, 0.19), on["Wearing_Lipstick"]),
        "throat": _rgb(0.27, 0.06, 0.08, count),
        "tongue": _rgb(0.80, 0.36, 0.38, count),
        "iris": _from_hue(0.08 + 0.52 * unit["iris_hue"], 0.62, 0.52 + 0.16 * signed["iris_tone"]),
        "lashes": _rgb(0.10, 0.07, 0.09, count),
        "white": _rgb(0.97, 0.97, 0.98, count),
    }


def _worn_colours(unit: _Values, signed: _Values) -> _Values:
    tone, count = unit["accent_tone"], len(unit["accent_tone"])
    accent = _from_hue(unit["accent_hue"], 0.62, 0.62 + 0.18 * signed["accent_tone"])
    return {
        "eye_shadow": _mix(_rgb(0.42, 0.30, 0.68), _rgb(0.25, 0.48, 0.66), tone),
        "gold": _rgb(0.98, 0.80, 0.30, count),
        "frame": _mix(_rgb(0.10, 0.10, 0.12), _rgb(0.32, 0.13, 0.08), tone),
        "clothes": _from_hue(
            unit["clothes_hue"],
            0.25 + 0.35 * unit["clothes_strength"],
            0.62 + 0.22 * signed["clothes_tone"],
        ),
        "necktie": accent,
        "hat": accent * 0.85,
        "ribbon": _mix(_rgb(0.94, 0.90, 0.80), _rgb(0.16, 0.14, 0.18), tone),
    }


def _rgb(red: float, green: float, blue: float, count: int = 1) -> np.ndarray:
    """Return a colour for each of `count` faces, (count, 3, 1, 1)."""
    colour = np.array((red, green, blue), np.float32).reshape(1, 3, 1, 1)
    return np.broadcast_to(colour, (count, 3, 1, 1))


def _mix(one: np.ndarray, other: np.ndarray, share: np.ndarray) -> np.ndarray:
    return one + share * (other - one)


def _from_hue(
    hue: np.ndarray, saturation: np.ndarray | float, value: np.ndarray | float
) -> np.ndarray:
    """Return colours (N, 3, 1, 1) of hue, saturation and value (N, 1, 1, 1) each."""
    sixths = hue * 6 + np.array([0, 4, 2], np.float32).reshape(1, 3, 1, 1)
    sixths = sixths - 6 * np.floor(sixths / 6)
    pure = np.clip(np.abs(sixths - 3) - 1, 0, 1)
    return (value * (1 - saturation * (1 - pure))).astype(np.float32)
