"""Checks of the sizes that networks are built with."""


def check_sizes(image_size: int, smallest: int, **sizes: int) -> None:
    """Raise ValueError unless sizes are >= 1 and `image_size` a power of two >= `smallest`."""
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name} is {value}; accepted: an integer >= 1")
    if image_size < smallest or image_size & (image_size - 1):
        raise ValueError(f"image_size is {image_size}; accepted: a power of two >= {smallest}")
