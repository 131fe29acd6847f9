"""Painting on the face: eyes, brows, nose, mouth, facial hair, marks, make-up and glasses."""

from __future__ import annotations

import numpy as np

from pydisent.data._face_canvas import Canvas, Patch, blob, ellipse, segment, wave

EYE, EYE_WIDTH, EYE_HEIGHT = 0.165, 0.103, 0.065
BROW, MOUTH, NOSE = -0.128, 0.315, 0.15
# Freckles: distance from the middle of the face, height, radius; the left ones are shifted.
FRECKLES = (
    (0.10, 0.135, 0.016), (0.15, 0.175, 0.017), (0.20, 0.125, 0.017), (0.245, 0.165, 0.015),
    (0.18, 0.215, 0.014), (0.285, 0.12, 0.014), (0.235, 0.225, 0.015), (0.055, 0.085, 0.014),
)  # fmt: skip


def paint_marks(canvas: Canvas) -> None:
    """Paint skin marks: cheekbones, colour, freckles, wrinkles, bags under the eyes."""
    for part in canvas.patches((-0.39, 0.0, 0.39, 0.40), where="High_Cheekbones"):
        hollow = segment(part.aside, part.v, (0.33, 0.15), (0.205, 0.30)) / 0.075
        soft = np.square(np.maximum(1 - hollow * hollow, 0))
        part.tint(0.75 * soft, (0.60, 0.48, 0.45))
        bone = segment(part.aside, part.v, (0.31, 0.07), (0.20, 0.135)) / 0.07
        soft = np.square(np.maximum(1 - bone * bone, 0))
        part.tint(0.85 * soft, (1.30, 1.24, 1.20))
    for part in canvas.patches((-0.37, 0.02, 0.37, 0.34), where="Rosy_Cheeks"):
        spot = blob(part.aside - 0.235, part.v - 0.175, 0.14, 0.125)
        part.paint(0.75 * np.minimum(1.3 * spot, 1), part.colour("blush"))
    for part in canvas.patches((-0.32, 0.05, 0.32, 0.27), where="Freckles"):
        spots = np.zeros_like(part.u)
        aside = np.abs(part.u + 0.012)
        for across, down, radius in FRECKLES:
            x, y = aside - across, part.v - down
            spots = np.maximum(spots, part.cover(np.sqrt(x * x + y * y) - radius))
        part.tint(0.8 * spots, (0.58, 0.42, 0.34))
    for part in canvas.patches((-0.37, -0.30, 0.37, 0.40), where="Wrinkles"):
        part.tint(0.75 * _wrinkles(part), (0.45, 0.33, 0.31))
    for part in canvas.patches((-0.30, 0.02, 0.30, 0.16), where="Bags_Under_Eyes"):
        x, y = part.aside - EYE, part.v - 0.098
        bend = y + 3.6 * x * x
        within = np.maximum(1 - np.square(x / 0.11), 0)
        part.tint(0.75 * within * np.maximum(1 - np.square((bend + 0.018) / 0.03), 0),
                  (0.66, 0.50, 0.62))  # fmt: skip
        part.tint(0.8 * within * part.stroke(np.abs(bend), 0.011), (0.50, 0.36, 0.42))


def _wrinkles(part: Patch) -> np.ndarray:
    """Return lines on the forehead, beside the eyes, and from nose to mouth."""
    bend = part.v + 0.03 * wave(part.aside * 1.6)
    across = np.maximum(1 - np.square(part.u / 0.21), 0)
    lines = part.stroke(np.abs(bend + 0.245), 0.011) + part.stroke(np.abs(bend + 0.195), 0.011)
    lines = lines * np.minimum(2 * across, 1)
    for end in ((0.335, -0.045), (0.345, 0.005), (0.335, 0.055)):
        distance = segment(part.aside, part.v, (0.278, 0.3 * end[1]), end)
        lines = np.maximum(lines, part.stroke(distance, 0.010))
    fold = segment(part.aside, part.v, (0.105, 0.175), (0.185, 0.30))
    return np.maximum(lines, part.stroke(fold, 0.013))


def paint_stubble(canvas: Canvas) -> None:
    """Paint stubble and sideburns."""
    for part in canvas.patches((-0.44, -0.06, 0.44, 0.62), where="5_o_Clock_Shadow"):
        start = 0.20 + 3.2 * part.aside * (0.26 - part.aside)
        jaw = np.minimum(np.maximum((part.v - start) * 8, 0), 1)
        inside = part.cover(-part.of(canvas.inside) * 0.2)
        part.tint(0.75 * jaw * inside, (0.55, 0.57, 0.62))
    for part in canvas.patches((-0.42, -0.16, 0.42, 0.30), where="Sideburns"):
        burn = np.maximum(0.318 - part.aside + 0.09 * part.v, np.abs(part.v - 0.05) - 0.185)
        burn += 0.004 * wave(part.v * 12)
        inside = part.cover(-part.of(canvas.inside) * 0.2)
        part.paint(part.cover(burn) * inside, part.colour("beard"))


def paint_nose(canvas: Canvas) -> None:
    """Paint the nose, which protrudes and so moves more than its surroundings."""
    for part in canvas.patches((-0.21, -0.12, 0.21, 0.34)):
        big = part.has("Big_Nose")
        x = part.u - 0.14 * part.sine_yaw
        y = part.v - NOSE - 0.10 * part.sine_pitch - 0.012 * big
        width, height = 0.058 + 0.054 * big, 0.046 + 0.026 * big
        away = np.sign(part.from_right) * np.minimum(np.abs(part.from_right) * 4, 1)
        ridge = blob(x + away * 0.75 * width, y + 0.09, 0.042 + 0.01 * big, 0.17)
        part.tint(0.34 * ridge, (0.66, 0.54, 0.52))
        shadow = blob(x + away * 0.25 * width, y - 0.8 * height, 1.35 * width, 0.9 * height)
        part.tint(0.75 * shadow, (0.64, 0.48, 0.46))
        ball = part.cover(ellipse(x, y, width, height))
        wing = ellipse(np.abs(x) - 0.85 * width, y - 0.15 * height, 0.5 * width, 0.62 * height)
        part.paint(np.maximum(ball, part.cover(wing)) * 0.9, part.colour("nose"))
        nostril = ellipse(np.abs(x) - 0.52 * width, y - 0.62 * height, 0.27 * width, 0.2 * height)
        part.tint(0.8 * part.cover(nostril), (0.36, 0.22, 0.22))
        shine = blob(x - away * 0.3 * width, y + 0.35 * height, 0.6 * width, 0.55 * height)
        part.paint(0.5 * shine, part.colour("white"), 1.0)


def paint_mouth(canvas: Canvas) -> None:
    """Paint lips around a line that a smile bends, and the interior of an open mouth."""
    for part in canvas.patches((-0.25, 0.19, 0.25, 0.50)):
        smile, opened, big = (part.has(a) for a in ("Smiling", "Mouth_Open", "Big_Lips"))
        width = 0.128 + 0.042 * smile + 0.014 * part.value("mouth_width")
        share = np.square(part.u / width)
        bend = (0.014 + 0.075 * smile) * (0.45 - share)
        y = part.v - MOUTH - bend
        bulge = 1 - share
        steep = 1 + 1.3 * smile * share
        half = 0.052 * opened * bulge
        upper = 0.024 + 0.027 * big
        lower = 0.029 + 0.035 * big
        bow = 0.30 * np.maximum(1 - np.square(part.u / (0.3 * width)), 0)
        above = (-y - half - upper * bulge * (1 - bow)) / steep
        beneath = (y - half - lower * bulge) / steep
        within = part.cover((share - 1) * 0.5 * width)
        lips = part.cover(np.maximum(above, beneath)) * within
        shadow = part.cover(np.maximum(beneath - 0.022, -y)) * np.maximum(bulge, 0)
        part.tint(0.5 * shadow, (0.7, 0.6, 0.6))
        gloss = part.has("Wearing_Lipstick")
        shade = part.light * (0.98 - 0.10 * (y < 0)) + 0.3 * (0.4 + gloss) * blob(
            part.u, y - half - 0.5 * lower, 0.45 * width, 0.35 * lower
        )
        part.paint(lips, part.colour("lips"), shade)
        line = part.stroke(np.abs(y) / steep, 0.0085) * within
        part.tint(line * (1 - opened), (0.42, 0.28, 0.30))
        gap = part.cover((np.abs(y) - half) / steep) * within * opened
        part.paint(gap, part.colour("throat"), 1.0)
        tongue = part.cover(ellipse(part.u, y - 0.042, 0.07, 0.026))
        part.paint(gap * tongue, part.colour("tongue"), 1.0)
        teeth = part.cover(y + half - 0.028)
        part.paint(gap * teeth, part.colour("white"), 0.97)


def paint_beard(canvas: Canvas) -> None:
    """Paint mustache and goatee."""
    for part in canvas.patches((-0.21, 0.16, 0.21, 0.36), where="Mustache"):
        # Two wings, which a wide smile lifts only as much as the lip.
        smile, big, opened = (part.has(a) for a in ("Smiling", "Big_Lips", "Mouth_Open"))
        y = part.v - 0.252 + 0.3 * (0.022 * big + 0.052 * opened) + 0.012 * smile
        wing = y + 0.022 - 1.4 * part.u * part.u
        thick = 0.034 * np.maximum(1 - np.square(part.u / 0.175), 0) + 0.004
        hair = np.maximum(np.abs(wing) - thick, part.aside - 0.172)
        part.paint(part.cover(hair), part.colour("beard"), part.light * (1 - 3 * wing))
    for part in canvas.patches((-0.16, 0.36, 0.16, 0.62), where="Goatee"):
        y = part.v - 0.475 - 0.012 * part.has("Mouth_Open")
        hair = ellipse(part.u, y, 0.105 - 0.35 * y, 0.075)
        inside = part.cover(-part.of(canvas.inside) * 0.2)
        part.tint(0.45 * part.cover(hair - 0.014) * inside, (0.6, 0.5, 0.48))
        strands = 1 + 0.10 * wave(part.u * 16)
        part.paint(part.cover(hair) * inside, part.colour("beard"), part.light * strands)


def paint_eyes(canvas: Canvas) -> None:
    """Paint both eyes and their make-up."""
    for part in canvas.patches((-0.31, -0.13, 0.31, 0.10)):
        side, narrow, makeup = np.sign(part.u), part.has("Narrow_Eyes"), part.has("Eye_Makeup")
        x = part.aside - EYE - 0.008 * part.value("eye_spacing")
        y = part.v + 0.05 * x  # outer corners are slightly higher
        size = 1 + 0.07 * part.value("eye_size")
        width, height = EYE_WIDTH * size, EYE_HEIGHT * size * (1 - 0.55 * narrow)
        bulge = 1 - np.square(x / width)
        upper = height * bulge
        _paint_lids(part, x, y, upper, bulge, makeup)
        opening = np.maximum(-y - upper, y - 0.72 * upper) * 0.85
        white = part.cover(opening)
        shade = 1.0 - 0.2 * part.cover((-y - upper + 0.022) * 0.7 * -1.0)
        part.paint(white, part.colour("white"), shade)
        look = x - 0.022 * side * part.value("gaze_x")
        down = y - 0.008 - 0.010 * part.value("gaze_y")
        square = look * look + down * down
        distance = np.sqrt(square)
        ring = 0.72 + 5 * np.maximum(down, -0.03) + 3.0 * distance
        part.paint(white * part.cover(distance - 0.048 * size), part.colour("iris"), ring)
        part.tint(white * part.stroke(np.abs(distance - 0.046 * size), 0.006), (0.4, 0.4, 0.4))
        part.tint(white * part.cover(distance - 0.024 * size), (0.08, 0.07, 0.08))
        glint = np.square(look - 0.016 * side) + np.square(down + 0.017)
        part.paint(white * part.cover(np.sqrt(glint) - 0.013), part.colour("white"), 1.0)
        lid = part.stroke(np.abs(y + upper) * 0.85, 0.0105 + 0.010 * makeup)
        lid *= part.cover((np.abs(x) - width - 0.008) * 0.9)
        part.paint(lid * (0.8 + 0.2 * makeup), part.colour("lashes"), 1.0)
        lower = part.stroke(np.abs(y - 0.72 * upper) * 0.85, 0.006 + 0.004 * makeup)
        part.tint(lower * part.cover(np.abs(x) - width) * 0.5, (0.4, 0.3, 0.3))


def _paint_lids(
    part: Patch,
    x: np.ndarray,
    y: np.ndarray,
    upper: np.ndarray,
    bulge: np.ndarray,
    makeup: np.ndarray,
) -> None:
    """Paint the hollow above the eyes, or colour and a wing at each corner."""
    hollow = blob(x, y + 0.045, 0.135, 0.075)
    part.tint(0.30 * hollow, (0.70, 0.58, 0.58))
    colour = np.minimum(1.6 * blob(x - 0.01, y + 0.042, 0.150, 0.078), 1)
    part.paint(0.85 * makeup * colour, part.colour("eye_shadow"))
    wing = segment(x, y, (0.075, -0.020), (0.135, -0.058))
    part.paint(makeup * part.stroke(wing, 0.0125), part.colour("lashes"), 1.0)


def paint_brows(canvas: Canvas) -> None:
    """Paint the eyebrows."""
    for part in canvas.patches((-0.33, -0.27, 0.33, -0.04)):
        arched, bushy = part.has("Arched_Eyebrows"), part.has("Bushy_Eyebrows")
        x = part.aside - EYE - 0.012
        y = part.v - BROW - 0.012 * part.value("brow_height") + 0.008 * bushy
        along = x / 0.118
        # An arched brow peaks towards the temple; a plain one is almost straight.
        rise = (0.012 + 0.046 * arched) * (1 - np.square(along - 0.2 * arched)) - 0.005 * arched
        slope = (0.012 + 0.046 * arched) * 2 * (along - 0.2 * arched) / 0.118
        thick = (0.0135 + 0.018 * bushy) * (1 - 0.3 * along - 0.25 * along * along)
        distance = np.abs(y + rise) / np.sqrt(1 + slope * slope)
        cover = part.stroke(distance, thick) * part.cover(np.abs(x) - 0.118)
        part.paint(cover * 0.94, part.colour("brows"))


def paint_glasses(canvas: Canvas) -> None:
    """Paint eyeglasses: rims, bridge, temples, and a glint on each lens."""
    for part in canvas.patches((-0.46, -0.16, 0.46, 0.20), where="Eyeglasses"):
        x, y = part.aside - EYE - 0.004, part.v - 0.022
        lens = _rounded_square(x, y)
        inside = part.cover(lens)
        part.paint(0.10 * inside, part.colour("white"), 1.0)
        glance = part.stroke(np.abs(x + 0.55 * y + 0.045), 0.016) * (y < 0.06)
        part.paint(0.30 * inside * glance, part.colour("white"), 1.0)
        rim = part.stroke(np.abs(lens), 0.0135)
        bridge = part.stroke(np.abs(y + 0.035 + 1.5 * part.u * part.u), 0.013)
        bridge *= part.cover(part.aside - 0.05)
        temple = part.stroke(np.abs(y + 0.035), 0.013) * part.cover(0.285 - part.aside)
        temple *= part.cover(part.aside - 0.40)
        frame = np.maximum(np.maximum(rim, bridge), temple)
        part.paint(frame, part.colour("frame"), 1.0)


def _rounded_square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the signed distance to a lens."""
    across, down = np.abs(x) - 0.055, np.abs(y) - 0.045
    outside = np.sqrt(np.square(np.maximum(across, 0)) + np.square(np.maximum(down, 0)))
    return outside + np.minimum(np.maximum(across, down), 0) - 0.07
