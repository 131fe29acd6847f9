"""Painting around the face: background, body, head, hair, hats and jewellery."""

from __future__ import annotations

import numpy as np

from pydisent.data._face_canvas import Canvas, Patch, blob, ellipse, segment, wave

# The hair's outline is an ellipse around the crown; a bald head keeps the hair at the sides.
CROWN, HAIR_WIDTH, HAIR_HEIGHT = -0.13, 0.455, 0.485
HAIR_BOX = (-0.56, -0.72, 0.56, 0.45)
CURL, CURL_REACH = 0.03, 0.045
HAIRLINE, TEMPLE, PARTING = -0.335, 2.9, 0.12
BRIM = -0.47


def paint_background(canvas: Canvas) -> None:
    """Paint a wall, brighter where it is lit."""
    of = canvas.traits
    x, y = canvas.body_x, canvas.body_y
    glow = blob(x + canvas.from_right, y - 0.8 * canvas.from_below, 1.9, 1.9)
    bright = 0.78 - 0.13 * y + 0.22 * glow
    np.multiply(of.colours["background"], bright[:, None], out=canvas.image)


def paint_back_hair(canvas: Canvas) -> None:
    """Paint the hair visible beside and below the head."""
    for curly in (False, True):
        for part in canvas.patches(HAIR_BOX, "head", "Curly_Hair", curly):
            part.paint(part.cover(_hair_outline(part, curly)), part.colour("hair"), 0.62)
    for part in canvas.patches((-0.66, -0.3, 0.66, 0.92), "head", "Long_Hair"):
        part.paint(part.cover(_long_outline(part)), part.colour("hair"), 0.55)


def _hair_outline(part: Patch, curly: bool) -> np.ndarray:
    """Return the signed distance to the hair's outline, with a lobe per lock of curls."""
    bald = part.has("Bald")
    x, y = part.x, part.y - CROWN - 0.15 * bald
    width, height = HAIR_WIDTH - 0.015 * bald, HAIR_HEIGHT - 0.22 * bald
    if not curly:
        return ellipse(x, y, width, height)
    return ellipse(x, y, width + CURL, height + CURL) - CURL_REACH * _lobes(x, y)


def _lobes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return a function of direction, in [0, 1], with 16 round lobes and narrow clefts."""
    square = x * x
    cosine = 2 * square / (square + y * y + 1e-6) - 1  # of twice the angle
    for _ in range(2):
        cosine = 2 * cosine * cosine - 1
    return np.sqrt(np.abs(cosine))


def _long_outline(part: Patch) -> np.ndarray:
    """Return the signed distance to shoulder-length hair."""
    bend = part.has("Curly_Hair") * wave(part.y * 5)
    across = np.abs(part.x) - 0.455 - 0.05 * part.y - 0.035 * bend
    down = np.abs(part.y - 0.30) - 0.55
    rounded = 0.16
    across += rounded
    down += rounded
    outside = np.sqrt(np.square(np.maximum(across, 0)) + np.square(np.maximum(down, 0)))
    return outside + np.minimum(np.maximum(across, down), 0) - rounded


def paint_body(canvas: Canvas) -> None:
    """Paint neck and shoulders."""
    for part in canvas.patches((-1.6, 0.2, 1.6, 1.6), "body"):
        x, y = part.of(canvas.body_x), part.of(canvas.body_y)
        across = np.abs(x)
        shade = 0.98 - 0.25 * part.from_right * -x - 0.30 * across
        shoulders = part.cover(ellipse(x, y - 1.42, 0.80, 0.72))
        neckline = ellipse(x, y - 0.68, 0.24, 0.155)
        hem = part.cover(neckline - 0.026)  # and everything inside, where there is skin
        shoulders *= 1 - part.cover(neckline)
        part.paint(shoulders, part.colour("clothes"), shade * (1 - 0.36 * hem))
    for part in canvas.patches((-0.4, 0.2, 0.4, 0.95), "body"):
        x, y = part.of(canvas.body_x), part.of(canvas.body_y)
        flare = np.maximum(y - 0.55, 0)
        neck = part.cover(np.maximum(np.abs(x) - 0.155 - 1.3 * flare * flare, 0.24 - y))
        within = part.cover(ellipse(x, y - 0.68, 0.24, 0.155))
        neck *= np.maximum(within, part.cover(y - 0.62))
        shadow = 0.34 * np.maximum(1 - np.maximum(y - 0.42, 0) / 0.32, 0)
        part.paint(neck, part.colour("skin"), 0.90 - shadow + 0.25 * part.from_right * x)
    _paint_double_chin(canvas)
    _paint_necktie(canvas)
    _paint_necklace(canvas)


def _paint_double_chin(canvas: Canvas) -> None:
    for part in canvas.patches((-0.36, 0.3, 0.36, 0.75), "head", "Double_Chin"):
        y = part.y - 0.475
        bulge = ellipse(part.x, y, 0.262, 0.175)
        part.tint(0.7 * blob(part.x, y - 0.14, 0.22, 0.12), (0.62, 0.5, 0.5))
        shade = 0.95 - 5.0 * np.square(np.maximum(y - 0.07, 0)) + 0.3 * part.from_right * part.x
        part.paint(part.cover(bulge), part.colour("skin"), shade)


def _paint_necklace(canvas: Canvas) -> None:
    for part in canvas.patches((-0.3, 0.5, 0.3, 0.95), "body", "Wearing_Necklace"):
        x, y = part.of(canvas.body_x), part.of(canvas.body_y)
        sag = y - 0.785 + 2.6 * x * x
        slope = np.sqrt(1 + np.square(5.2 * x))
        bead = 0.030 * (0.75 + 0.25 * wave(x * 11))
        within = part.cover(np.abs(x) - 0.205)
        line = np.abs(sag) / slope
        part.tint(part.stroke(np.abs(sag - 0.028) / slope, 0.03) * within, (0.72, 0.66, 0.64))
        cover = part.stroke(line, bead) * within
        shine = 0.85 + 0.35 * blob(x, sag + 0.012, 0.25, 0.02) * wave(x * 11)
        part.paint(cover, part.colour("gold"), shine)


def _paint_necktie(canvas: Canvas) -> None:
    for part in canvas.patches((-0.28, 0.62, 0.28, 1.6), "body", "Wearing_Necktie"):
        x, y = np.abs(part.of(canvas.body_x)), part.of(canvas.body_y)
        collar = np.maximum(segment(x, y, (0.20, 0.70), (0.075, 0.855)) - 0.045, 0.05 - x)
        part.paint(part.cover(collar), part.colour("white"), 0.96)
        below = y - 0.80
        knot = np.maximum(x - 0.070 + 0.25 * below, np.abs(below - 0.045) - 0.055)
        blade = np.maximum(x - 0.045 - 0.13 * (below - 0.09), 0.09 - below)
        stripes = 0.9 + 0.22 * wave((part.of(canvas.body_x) + below) * 7)
        part.paint(part.cover(blade), part.colour("necktie"), stripes)
        part.paint(part.cover(knot), part.colour("necktie"), 1.1 - 0.9 * x)


def paint_locks(canvas: Canvas) -> None:
    """Paint long hair that falls in front of the shoulders."""
    for part in canvas.patches((-0.66, -0.3, 0.66, 0.92), "head", "Long_Hair"):
        curly = part.has("Curly_Hair")
        bend = curly * wave(part.y * 5)
        inner = 0.30 - 0.13 * np.maximum(part.y - 0.35, 0) - 0.02 * bend
        cover = part.cover(_long_outline(part)) * part.cover(inner - np.abs(part.x))
        strands = wave(np.abs(part.x) * (16 - 8 * curly) + curly * 0.4 * wave(part.y * 5))
        side = part.from_right * part.x
        shade = 0.80 + 0.10 * strands + 0.35 * side + curly * 0.10 * bend
        part.paint(cover, part.colour("hair"), shade)


def paint_ears(canvas: Canvas) -> None:
    """Paint both ears; the head covers more of the one turned away."""
    for part in canvas.patches((-0.62, -0.18, 0.62, 0.24), "head"):
        side = np.sign(part.x)
        x = np.abs(part.x) - part.of(canvas.width) + side * 0.12 * part.sine_yaw
        y = part.y - 0.035 + 0.1 * part.sine_pitch
        part.paint(part.cover(ellipse(x - 0.012, y, 0.07, 0.105)), part.colour("skin"), 0.90)
        inner = part.cover(ellipse(x - 0.022, y + 0.008, 0.036, 0.066))
        part.tint(inner * 0.5, (0.78, 0.58, 0.56))


def paint_head(canvas: Canvas) -> None:
    """Paint the head itself, with a soft rim and a bright forehead, chin and cheeks."""
    for part in canvas.patches((-0.50, -0.62, 0.50, 0.62), "head"):
        level = part.of(canvas.inside)
        # Distance to the outline, from the level's slope; an ellipse's is accurate enough.
        steep = np.square(part.x / part.of(canvas.width) ** 2)
        steep = steep + np.square(part.y / part.of(canvas.height) ** 2)
        cover = part.cover(-level / (2 * np.sqrt(steep) + 1e-6))
        rim = np.square(np.maximum(1 - level / 0.30, 0))
        part.paint(cover, part.colour("skin"), part.light - 0.13 * np.minimum(rim, 1))
    for part in canvas.patches((-0.36, -0.34, 0.36, -0.06)):
        shine = blob(part.u - 0.2 * part.from_right, part.v + 0.21, 0.2, 0.11)
        part.paint(0.13 * shine, part.colour("white"), 1.0)


def paint_front_hair(canvas: Canvas) -> None:
    """Paint the hair over the head: above a hairline, as bangs, or only beside a bald top."""
    for curly in (False, True):
        for part in canvas.patches((-0.56, -0.70, 0.56, 0.20), "head", "Curly_Hair", curly):
            line = _hairline(part, curly)
            outline = part.cover(_hair_outline(part, curly))
            hair = part.cover(line)
            shadow = 0.26 * part.cover(line + 0.035) - hair
            part.tint(np.maximum(shadow, 0) * outline, (0.55, 0.45, 0.45))
            part.paint(hair * outline, part.colour("hair"), _hair_shade(part, curly))


def _hairline(part: Patch, curly: bool) -> np.ndarray:
    """Return the approximate signed distance to the hairline, negative in the hair."""
    across = part.u - PARTING * part.value("parting")
    line = part.v - HAIRLINE - TEMPLE * across * across / (1 + 1.5 * part.aside)
    fringe = part.v + 0.185 - 0.5 * part.u * part.u
    scallops = np.abs(wave((part.u + 0.3 * part.v) * 4.5))
    fringe += (0.035 if curly else 0.022) * scallops
    if curly:
        line += 0.016 * wave(part.u * 7)
    line = np.where(part.has("Bangs") > 0, np.minimum(line, fringe), line)
    beside = ellipse(part.aside - 0.41, part.v + 0.02, 0.12, 0.15)
    line = np.where(part.has("Bald") > 0, beside, line)
    return np.maximum(line * 0.8, part.v - 0.05 + 0.3 * (0.42 - part.aside))


def _hair_shade(part: Patch, curly: bool) -> np.ndarray:
    """Return the hair's brightness: strands from the crown, or curls, and a band of shine."""
    if curly:
        curls = wave(part.u * 7 + 0.5 * wave(part.v * 5))
        texture = 1.5 * curls * wave(part.v * 7 + 0.2)
    else:
        away = np.maximum(part.v + 0.75, 0.1)  # from the point above the head where strands meet
        texture = wave((part.u - PARTING * part.value("parting")) * 4.2 / away)
    band = np.maximum(1 - np.square((part.v + 0.44) / 0.11), 0)
    return part.light * (0.86 + 0.10 * texture) + 0.26 * band * (0.7 + 0.3 * texture)


def paint_earrings(canvas: Canvas) -> None:
    """Paint a drop earring below each ear, in front of hair and head."""
    for part in canvas.patches((-0.64, 0.04, 0.64, 0.36), "head", "Wearing_Earrings"):
        side = np.sign(part.x)
        x = np.abs(part.x) - part.of(canvas.width) - 0.03 + side * 0.12 * part.sine_yaw
        y = part.y - 0.155 + 0.1 * part.sine_pitch
        drop = np.minimum(ellipse(x, y - 0.075, 0.046, 0.062), ellipse(x, y, 0.02, 0.045))
        part.tint(0.5 * part.cover(drop - 0.012), (0.5, 0.47, 0.47))
        shine = 0.82 + 0.6 * blob(x + 0.012, y - 0.058, 0.036, 0.045)
        part.paint(part.cover(drop), part.colour("gold"), shine)


def paint_hat(canvas: Canvas) -> None:
    """Paint a small hat on the crown; hair or baldness shows below the brim."""
    for part in canvas.patches((-0.68, -1.02, 0.68, -0.34), "head", "Wearing_Hat"):
        x, y = part.x - 0.06 * part.sine_yaw, part.y
        bow = y - BRIM + 0.28 * x * x
        crown = np.maximum(np.abs(x) - 0.315 - 0.10 * (y + 0.6), -0.27 - bow)
        crown = np.maximum(crown, bow)
        top = ellipse(x, bow + 0.255, 0.295, 0.075)
        shade = 0.96 + 0.9 * part.from_right * x - 0.35 * np.abs(x)
        brim = ellipse(x, bow, 0.52, 0.055)
        part.tint(0.35 * part.cover(ellipse(x, bow - 0.03, 0.46, 0.055)), (0.4, 0.36, 0.36))
        part.paint(part.cover(np.minimum(crown, top)), part.colour("hat"), shade)
        band = np.maximum(np.abs(bow + 0.085) - 0.042, crown)
        part.paint(part.cover(band), part.colour("ribbon"), shade)
        part.paint(part.cover(brim), part.colour("hat"), shade * 0.9 - 2.0 * bow)
